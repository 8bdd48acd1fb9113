//! A restore as the catalog keeps it, and its states.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    BackupId, BackupName, CollectionName, CollectionPattern, Completeness, Due, DueKind, Failure, InstanceId, Region,
    RestoreId, RestoreRun, Time,
};

/// A restore as the catalog keeps it. The progress of each collection is in the restore's ledger of
/// [`CollectionRestore`](crate::CollectionRestore)s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// The restore's id, which sorts by creation time.
    pub id: RestoreId,
    /// The instance that is restored into.
    pub instance_id: InstanceId,
    /// The instance that the backup was made of.
    pub source_instance_id: InstanceId,
    /// The backup's id.
    pub backup_id: BackupId,
    /// The backup's name.
    pub backup_name: BackupName,
    /// The region that the backup's bytes are stored in.
    pub backup_region: Region,
    /// The selected collections of the backup; empty selects all.
    pub selection: Vec<CollectionPattern>,
    /// New names for some of the collections.
    pub rename: BTreeMap<CollectionName, CollectionName>,
    /// What to do if a collection of the target name exists.
    pub mode: RestoreMode,
    /// Whether to load the restored collections.
    pub reload: Reload,
    /// What to do about the other collections when one can't be restored.
    #[serde(default)]
    pub on_error: OnError,
    /// How many hours to keep the collections that were replaced.
    pub keep_previous_hours: u32,
    /// When the restore was requested.
    pub created_at: Time,
    /// When the caller asked to cancel the restore, if they did before its swap.
    pub cancel_requested_at: Option<Time>,
    /// Facts that the user should know and can't see elsewhere.
    pub warnings: Vec<String>,
    /// The number of collections to restore, once it is known.
    pub collections: u32,
    /// Whether some collections were given up, with [`OnError::Continue`].
    #[serde(default)]
    pub completeness: Completeness,
    /// The present state.
    pub state: RestoreState,
}

/// What a restore does if a collection of the target name exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RestoreMode {
    /// Replace it, and keep the previous collection for a while.
    #[default]
    Replace,
    /// Refuse to touch it.
    Create,
}

/// Whether a restore loads the collections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reload {
    /// Load the collections that were loaded when they were backed up.
    #[default]
    AsBefore,
    /// Leave nothing loaded.
    None,
}

/// What a restore does about the other collections when one can't be restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OnError {
    /// Restore none of them: the restore fails, and every live collection stays as it was.
    #[default]
    Stop,
    /// Restore the others: the live collection under the failed one's target name stays as it was.
    Continue,
}

/// The states of a restore, each with the data known in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RestoreState {
    /// Accepted; no worker has begun.
    Pending,
    /// A worker is restoring, cleaning up or rolling back.
    Running(RestoreRun),
    /// Every collection is in place, except those that were given up.
    #[serde(rename_all = "camelCase")]
    Completed {
        /// When work began.
        started_at: Time,
        /// When the restore completed.
        completed_at: Time,
        /// The collections that were replaced.
        previous: Previous,
        /// When the restore first had leftovers of its own that the sweep has to remove; `None` if it has none.
        #[serde(default)]
        leftovers_since: Option<Time>,
    },
    /// Ended without a result; the live collections are as they were.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When the restore was given up.
        ended_at: Time,
        /// Why it failed.
        failure: Failure,
        /// When the restore first had leftovers of its own that the sweep has to remove; `None` if it has none.
        leftovers_since: Option<Time>,
    },
    /// Cancelled by the caller; the live collections are as they were.
    #[serde(rename_all = "camelCase")]
    Cancelled {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When the cancellation completed.
        ended_at: Time,
        /// When the restore first had leftovers of its own that the sweep has to remove; `None` if it has none.
        leftovers_since: Option<Time>,
    },
    /// Was completed; then the previous collections were put back in place.
    #[serde(rename_all = "camelCase")]
    RolledBack {
        /// When work began.
        started_at: Time,
        /// When the restore was completed.
        completed_at: Time,
        /// When the rollback completed.
        rolled_back_at: Time,
    },
}

/// The collections that a completed restore replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Previous {
    /// Kept for a rollback.
    Kept {
        /// The time from which they may be dropped.
        until: Time,
    },
    /// Dropped.
    Gone,
}

/// The status without its data, as callers see it and filter by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum RestoreStatus {
    /// See [`RestoreState::Pending`].
    Pending,
    /// See [`RestoreState::Running`].
    Running,
    /// See [`RestoreState::Completed`].
    Completed,
    /// See [`RestoreState::Failed`].
    Failed,
    /// See [`RestoreState::Cancelled`].
    Cancelled,
    /// See [`RestoreState::RolledBack`].
    RolledBack,
}

impl RestoreState {
    /// The status of this state.
    pub fn status(&self) -> RestoreStatus {
        match self {
            Self::Pending => RestoreStatus::Pending,
            Self::Running(_) => RestoreStatus::Running,
            Self::Completed { .. } => RestoreStatus::Completed,
            Self::Failed { .. } => RestoreStatus::Failed,
            Self::Cancelled { .. } => RestoreStatus::Cancelled,
            Self::RolledBack { .. } => RestoreStatus::RolledBack,
        }
    }

    /// When work on the restore began, if it did.
    pub fn started_at(&self) -> Option<Time> {
        match self {
            Self::Pending => None,
            Self::Running(RestoreRun { started_at, .. })
            | Self::Completed { started_at, .. }
            | Self::RolledBack { started_at, .. } => Some(*started_at),
            Self::Failed { started_at, .. } | Self::Cancelled { started_at, .. } => *started_at,
        }
    }
}

impl Restore {
    /// Whether every collection was restored; `None` until the restore is completed.
    pub fn is_complete(&self) -> Option<bool> {
        matches!(self.state, RestoreState::Completed { .. }).then(|| self.completeness.is_complete())
    }

    /// When the sweep has to handle the restore, and what for; `None` if never.
    pub fn due(&self) -> Option<Due> {
        let at = match &self.state {
            RestoreState::Completed { previous, leftovers_since, .. } => {
                let until = match previous {
                    Previous::Kept { until } => Some(*until),
                    Previous::Gone => None,
                };
                until.into_iter().chain(*leftovers_since).min()
            }
            RestoreState::Failed { leftovers_since, .. } | RestoreState::Cancelled { leftovers_since, .. } => {
                *leftovers_since
            }
            _ => None,
        };
        at.map(|at| Due { kind: DueKind::RestoreLeftovers, at })
    }
}
