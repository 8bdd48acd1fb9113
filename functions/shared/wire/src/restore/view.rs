//! The restore object, as lists show it.

use milvault_model::{
    OnError, Previous, Reload, Restore, RestoreMode, RestorePhase, RestoreState, RestoreStatus, Time,
};
use serde::{Deserialize, Serialize};

use crate::{CompletenessView, FailureView, Open, ProgressView, Timestamp};

/// A restore. What isn't known yet, or never will be, is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreView {
    /// Its id.
    pub restore_id: String,
    /// The instance that is restored into.
    #[serde(default)]
    pub instance_id: String,
    /// The instance whose backup it is.
    #[serde(default)]
    pub source_instance_id: String,
    /// The backup.
    #[serde(default)]
    pub backup_id: String,
    /// The backup's name.
    #[serde(default)]
    pub backup_name: String,
    /// What it does about collections that exist.
    #[serde(default)]
    pub mode: Open<RestoreMode>,
    /// What it does about loading.
    #[serde(default)]
    pub reload: Open<Reload>,
    /// What it does about the others once a collection can't be restored.
    #[serde(default)]
    pub on_error: Open<OnError>,
    /// Where it stands.
    pub status: Open<RestoreStatus>,
    /// What a running one does, such as `IMPORT`; left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// How far that is; left out where `phase` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressView>,
    /// How many collections it restores; 0 until that is known.
    #[serde(default)]
    pub collection_count: u32,
    /// Whether every collection came back, once it is completed.
    #[serde(flatten)]
    pub completeness: CompletenessView,
    /// What the user should know and can't see elsewhere, for people.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What becomes unavailable, and for how long, for people.
    #[serde(default)]
    pub unavailability: Vec<String>,
    /// When it was asked for.
    #[serde(default)]
    pub created_at: Timestamp,
    /// When work on it began; null before.
    pub started_at: Option<Timestamp>,
    /// When it was over; null before.
    pub completed_at: Option<Timestamp>,
    /// Until when a rollback can bring the replaced collections back; null where it can't.
    pub previous_kept_until: Option<Timestamp>,
    /// Why it failed; null otherwise.
    pub failure: Option<FailureView>,
}

impl RestoreView {
    /// The object of a record, as of now.
    pub fn of(restore: &Restore, now: Time) -> Self {
        let mut view = Self {
            restore_id: restore.id.to_string(),
            instance_id: restore.instance_id.to_string(),
            source_instance_id: restore.source_instance_id.to_string(),
            backup_id: restore.backup_id.to_string(),
            backup_name: restore.backup_name.to_string(),
            mode: restore.mode.into(),
            reload: restore.reload.into(),
            on_error: restore.on_error.into(),
            status: restore.state.status().into(),
            phase: None,
            progress: None,
            collection_count: restore.collections,
            completeness: CompletenessView {
                complete: restore.is_complete(),
                incomplete_reasons: restore.completeness.reasons().map(<[String]>::to_vec),
            },
            warnings: restore.warnings.clone(),
            unavailability: unavailability(restore).into_iter().map(str::to_owned).collect(),
            created_at: restore.created_at.into(),
            started_at: restore.state.started_at().map(Timestamp::from),
            completed_at: None,
            previous_kept_until: previous_kept_until(restore).map(Timestamp::from),
            failure: None,
        };
        match &restore.state {
            RestoreState::Pending => {}
            RestoreState::Running(run) => {
                view.phase = Some(run.phase.name().to_owned());
                view.progress = Some(ProgressView::of(&run.progress, run.started_at, now));
            }
            RestoreState::Completed { completed_at, .. } | RestoreState::RolledBack { completed_at, .. } => {
                view.completed_at = Some((*completed_at).into());
            }
            RestoreState::Failed { ended_at, failure, .. } => {
                view.completed_at = Some((*ended_at).into());
                view.failure = Some(failure.into());
            }
            RestoreState::Cancelled { ended_at, .. } => {
                view.completed_at = Some((*ended_at).into());
            }
        }
        view
    }
}

/// Until when the collections that were replaced can be brought back by a rollback.
pub(super) fn previous_kept_until(restore: &Restore) -> Option<Time> {
    match &restore.state {
        RestoreState::Completed { previous: Previous::Kept { until }, .. } => Some(*until),
        RestoreState::Running(run) => match &run.phase {
            RestorePhase::Rollback { until, .. } => Some(*until),
            _ => None,
        },
        _ => None,
    }
}

/// What becomes unavailable, and for how long, in sentences for people.
fn unavailability(restore: &Restore) -> Vec<&'static str> {
    let during = match &restore.state {
        RestoreState::Failed { .. } | RestoreState::Cancelled { .. } => {
            return vec!["Nothing became unavailable for good: the live collections are what they were."];
        }
        RestoreState::RolledBack { .. } => {
            return vec!["The collections that were live before the restore are live again."];
        }
        RestoreState::Completed { .. } => {
            "During the swap each collection's name answered nothing for the milliseconds in 'unavailableMs'."
        }
        RestoreState::Pending | RestoreState::Running(_) => match restore.mode {
            RestoreMode::Replace => {
                "The live collections can be read and written until the swap; during it, each collection's name answers \
                 nothing for a few milliseconds."
            }
            RestoreMode::Create => "Nothing becomes unavailable: no existing collection is touched.",
        },
    };
    let replaced = match restore.mode {
        RestoreMode::Create => None,
        RestoreMode::Replace if restore.keep_previous_hours == 0 => {
            Some("What was written to a replaced collection after the backup is gone once the restore is completed.")
        }
        RestoreMode::Replace => Some(
            "What was written to a replaced collection after the backup is only in its previous collection, which is \
             kept for a rollback and then dropped.",
        ),
    };
    let load = match restore.reload {
        Reload::AsBefore => {
            "Collections that were loaded when they were backed up are loaded; the others ('loadRequired') answer no \
             search or query before you load them."
        }
        Reload::None => "No collection is loaded: none answers a search or a query before you load it.",
    };
    [Some(during), replaced, Some(load)].into_iter().flatten().collect()
}
