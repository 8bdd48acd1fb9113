//! The restore object, as listings have it.

use milvault_model::{
    OnError, Previous, Reload, Restore, RestoreMode, RestorePhase, RestoreState, RestoreStatus, Time,
};
use serde::{Deserialize, Serialize};

use crate::{CompletenessView, FailureView, Open, ProgressView, Timestamp};

/// A restore. A field whose value isn't known, or never will be, is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreView {
    /// The restore's id.
    pub restore_id: String,
    /// The instance that is restored into.
    #[serde(default)]
    pub instance_id: String,
    /// The instance that the backup was made of.
    #[serde(default)]
    pub source_instance_id: String,
    /// The backup's id.
    #[serde(default)]
    pub backup_id: String,
    /// The backup's name.
    #[serde(default)]
    pub backup_name: String,
    /// What the restore does if a collection of the target name exists.
    #[serde(default)]
    pub mode: Open<RestoreMode>,
    /// Whether the restore loads the collections.
    #[serde(default)]
    pub reload: Open<Reload>,
    /// What the restore does about the other collections when one can't be restored.
    #[serde(default)]
    pub on_error: Open<OnError>,
    /// The restore's status.
    pub status: Open<RestoreStatus>,
    /// The phase of a running restore, such as `IMPORT`; omitted otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The progress of the phase; omitted if `phase` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressView>,
    /// The number of collections to restore; 0 until it is known.
    #[serde(default)]
    pub collection_count: u32,
    /// Whether every collection was restored, once the restore is completed.
    #[serde(flatten)]
    pub completeness: CompletenessView,
    /// Facts that the user should know and can't see elsewhere, for people.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What becomes unavailable, and for how long, for people.
    #[serde(default)]
    pub unavailability: Vec<String>,
    /// When the restore was requested.
    #[serde(default)]
    pub created_at: Timestamp,
    /// When work on the restore began; null before.
    pub started_at: Option<Timestamp>,
    /// When the restore ended; null before.
    pub completed_at: Option<Timestamp>,
    /// The time until which a rollback is possible; null if it isn't.
    pub previous_kept_until: Option<Timestamp>,
    /// Why the restore failed; null otherwise.
    pub failure: Option<FailureView>,
}

impl RestoreView {
    /// Makes the object from a record, as of now.
    pub fn new(restore: &Restore, now: Time) -> Self {
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
                view.progress = Some(ProgressView::new(&run.progress, run.started_at, now));
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

/// Returns the time until which a rollback can put the replaced collections back.
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

/// Describes, for people, what becomes unavailable and for how long.
fn unavailability(restore: &Restore) -> Vec<&'static str> {
    let during = match &restore.state {
        RestoreState::Failed { .. } | RestoreState::Cancelled { .. } => {
            return vec!["Nothing became unavailable permanently: the live collections are as they were before."];
        }
        RestoreState::RolledBack { .. } => {
            return vec!["The collections that were live before the restore are live again."];
        }
        RestoreState::Completed { .. } => {
            "During the swap, each collection's name answered nothing for the milliseconds in 'unavailableMs'."
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
            Some("Data written to a replaced collection after the backup is gone once the restore is completed.")
        }
        RestoreMode::Replace => Some(
            "Data written to a replaced collection after the backup is only in its previous collection, which is kept for \
             a rollback and then dropped.",
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
