//! A restore, its ledger of collections, and the names of the collections that it creates.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    BackupId, BackupName, CollectionName, CollectionPattern, Completeness, CountKind, Due, DueKind, Ending, Failure,
    Grant, InstanceId, Loaded, Progress, Region, RestoreId, Time,
};

/// A restore as the catalog keeps it. The progress of each collection is in the restore's ledger of
/// [`CollectionRestore`]s.
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

/// A running restore's durable state, from which another worker can continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRun {
    /// When the first worker began.
    pub started_at: Time,
    /// The number of invocations that have worked on the restore.
    pub slices: u32,
    /// When the restore last made progress.
    pub advanced_at: Time,
    /// The invocation in which it last made progress.
    pub advanced_in: u32,
    /// The step to do next.
    pub phase: RestorePhase,
    /// The progress of the present phase.
    pub progress: Progress,
}

/// The steps of a restore. Each step processes the whole ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RestorePhase {
    /// Write the ledger, then copy the snapshot's objects into the instance's own bucket, page by page.
    Stage {
        /// The first page that isn't copied; `None` until the ledger is written.
        next: Option<u32>,
    },
    /// Create the new collections beside the live ones.
    Build,
    /// Import the staged data and build the indexes.
    Import,
    /// Compare the new collections with the backup.
    Verify,
    /// Swap the new collections into the live ones' places.
    Swap,
    /// Remove the staged objects and, if the previous collections aren't to be kept, drop them.
    Clean,
    /// Undo: put the swapped collections back, remove what was built and staged, then end.
    Undo(Ending),
    /// Put the previous collections back, because the caller asked to roll the completed restore back.
    #[serde(rename_all = "camelCase")]
    Rollback {
        /// When the restore was completed.
        completed_at: Time,
        /// The time until which the previous collections are kept if the rollback turns out to be impossible.
        until: Time,
        /// The present step.
        step: RollbackStep,
    },
}

/// The steps of a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RollbackStep {
    /// Check that every collection can be put back, and load it. Nothing is moved until all of them can be.
    Prepare,
    /// Put the collections back one after another. A rollback that has reached this step is carried to its end.
    PutBack,
}

impl RestorePhase {
    /// The phase's name in the API. An undo is reported as CLEAN, a rollback as SWAP.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stage { .. } => "STAGE",
            Self::Build => "BUILD",
            Self::Import => "IMPORT",
            Self::Verify => "VERIFY",
            Self::Swap | Self::Rollback { .. } => "SWAP",
            Self::Clean | Self::Undo(_) => "CLEAN",
        }
    }
}

/// The status without its data, as callers see it and filter by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
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

impl RestoreRun {
    /// A run that begins now.
    pub fn begin(now: Time) -> Self {
        Self::resume(now, RestorePhase::Stage { next: None })
    }

    /// A run that begins now with this phase.
    pub fn resume(now: Time, phase: RestorePhase) -> Self {
        Self { started_at: now, slices: 0, advanced_at: now, advanced_in: 0, phase, progress: Progress::default() }
    }

    /// Whether the run has made no progress for longer than `limit`.
    pub fn is_stalled(&self, now: Time, limit: TimeDelta) -> bool {
        now - self.advanced_at > limit
    }
}

/// One collection's line in a restore's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionRestore {
    /// The line's number in the ledger, from 0.
    pub number: u32,
    /// The collection's name in the backup.
    pub source: CollectionName,
    /// The collection's id in the backup's source, which its objects' keys contain.
    pub source_id: i64,
    /// The name that the collection is restored to.
    pub target: CollectionName,
    /// The page of the manifest's collections that has its capture.
    pub capture_page: u32,
    /// How the collection was loaded when it was backed up.
    pub loaded_before: Loaded,
    /// The number of rows in the backup.
    pub rows_expected: u64,
    /// The kind of count that `rows_expected` is.
    #[serde(default)]
    pub rows_expected_is: CountKind,
    /// The number of rows in the rebuilt collection, once counted.
    pub rows_found: Option<u64>,
    /// The maximum number of segments that one job imports.
    #[serde(default = "segments_per_job")]
    pub segments_per_job: u32,
    /// The number of import jobs that the data needs.
    #[serde(default)]
    pub jobs: u32,
    /// Names of the indexes that the server refused to create again.
    #[serde(default)]
    pub lost_indexes: Vec<String>,
    /// How often the collection was built from the beginning.
    pub attempts: u32,
    /// How long the name answered no query during the swap, in milliseconds, as measured by the worker; `None` until
    /// swapped.
    pub unavailable_ms: Option<u64>,
    /// Why the collection was given up, with [`OnError::Continue`].
    #[serde(default)]
    pub failure: Option<Failure>,
    /// Warnings that weren't yet in the restore's record when this line was written. They are kept here so that none is
    /// lost if the worker dies in between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The present stage.
    pub stage: CollectionStage,
    /// When the line entered its present [`state`](Self::state); `None` in lines written before this was recorded.
    #[serde(default)]
    pub since: Option<Time>,
}

/// The value for lines written before it was recorded.
fn segments_per_job() -> u32 {
    16
}

impl CollectionRestore {
    /// What the restore is doing for the collection, or has done.
    pub fn state(&self) -> CollectionState {
        match &self.stage {
            _ if self.failure.is_some() => CollectionState::Failed,
            CollectionStage::Waiting => CollectionState::Waiting,
            CollectionStage::Built { id: None, .. } => CollectionState::Building,
            CollectionStage::Built { imports, .. } if imports.completed.len() < self.jobs as usize => {
                CollectionState::Importing
            }
            CollectionStage::Built { .. } => CollectionState::Indexing,
            CollectionStage::Imported { .. } | CollectionStage::Compared { .. } => CollectionState::Imported,
            CollectionStage::Verified { .. } => CollectionState::Verified,
            CollectionStage::Swapping(_) => CollectionState::Swapping,
            CollectionStage::Swapped(_) => CollectionState::Restored,
            CollectionStage::Undone => CollectionState::Undone,
        }
    }

    /// Moves the line to this stage.
    pub fn enter(&mut self, stage: CollectionStage, now: Time) {
        self.change(now, |line| line.stage = stage);
    }

    /// Gives the collection up. The reason is made to name the collection.
    pub fn give_up(&mut self, mut failure: Failure, now: Time) {
        let target = self.target.to_string();
        if !failure.message.contains(&target) {
            failure.message = format!("{target}: {}", failure.message);
        }
        self.change(now, |line| line.failure = Some(failure));
    }

    fn change(&mut self, now: Time, change: impl FnOnce(&mut Self)) {
        let before = self.state();
        change(self);
        if self.state() != before {
            self.since = Some(now);
        }
    }
}

/// What a restore is doing for a collection, or has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CollectionState {
    /// Nothing yet.
    Waiting,
    /// The restore creates the new collection beside the live one.
    Building,
    /// Milvus imports the data.
    Importing,
    /// Milvus builds the indexes.
    Indexing,
    /// The collection is imported and indexed, but not yet compared with the backup.
    Imported,
    /// The comparison with the backup found the collection correct.
    Verified,
    /// The collection is being swapped into its place.
    Swapping,
    /// The collection is in its place.
    Restored,
    /// The collection was given up; the live one under its target name is as it was.
    Failed,
    /// What was built is removed, and the previous live collection is back.
    Undone,
}

/// The durable stage of a collection in a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "camelCase")]
pub enum CollectionStage {
    /// Nothing is created yet.
    Waiting,
    /// The new collection is about to be created, or is created.
    #[serde(rename_all = "camelCase")]
    Built {
        /// The new collection's id, once it is known to be completely created.
        id: Option<i64>,
        /// The progress of its imports.
        imports: Imports,
    },
    /// Every import is completed, and every index is built.
    #[serde(rename_all = "camelCase")]
    Imported {
        /// The new collection's id.
        id: i64,
        /// The number of rows that the imports counted.
        rows: u64,
        /// The groups of segments whose imports brought no rows.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        empty: Vec<u32>,
    },
    /// Compared with the backup and found correct; the time to live isn't set and nothing is loaded yet.
    #[serde(rename_all = "camelCase")]
    Compared {
        /// The new collection's id.
        id: i64,
    },
    /// Compared with the backup, and ready to be swapped in.
    #[serde(rename_all = "camelCase")]
    Verified {
        /// The new collection's id.
        id: i64,
    },
    /// The renames are about to be made, or are made.
    Swapping(Swap),
    /// The collection is in its place.
    Swapped(Swap),
    /// The new collection is removed, or the previous one put back.
    Undone,
}

/// The imports into a collection: one job for each group of segments, several jobs at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Imports {
    /// Milvus's ids of the completed jobs, each of one group.
    pub completed: Vec<i64>,
    /// The number of rows that the completed jobs imported, without deleted ones.
    pub rows: u64,
    /// The groups whose completed jobs imported no rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<u32>,
    /// Jobs whose group is unknown, because a worker died while it started several jobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guessed: Vec<i64>,
    /// The groups whose jobs were to be started and aren't completed.
    pub at_work: Vec<ImportJob>,
}

impl Imports {
    /// The number of groups, counted from the first, whose job was to be started.
    pub fn begun(&self) -> usize {
        self.completed.len() + self.at_work.len()
    }
}

/// The import of a group of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportJob {
    /// The group's number.
    pub group: u32,
    /// The job's state.
    pub state: ImportState,
}

/// The state of an import job, as far as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ImportState {
    /// About to be requested, or requested by a worker that died before it stored the job's id.
    Starting,
    /// Milvus has as many jobs as it accepts; the request is repeated.
    Refused {
        /// When the request was first refused.
        since: Time,
    },
    /// Milvus accepted the job.
    Started {
        /// Milvus's id of the job.
        task: i64,
        /// The progress when it last increased; `None` while the job waits for its turn.
        progress: Option<u64>,
        /// When the progress last increased.
        since: Time,
    },
    /// The job failed, or it is unknown whether it started. The collection is built again once none of its jobs is
    /// running. A failed job stays in the list until then, so that no worker takes the remaining jobs for all of them.
    Failed,
}

/// What a swap replaces and what it puts in place. Collections are identified by id, because a swap changes names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Swap {
    /// The new collection's id.
    pub new_id: i64,
    /// The id of the live collection under the target name, if there was one.
    pub live_id: Option<i64>,
    /// How the live collection was loaded.
    pub live_loaded: Loaded,
    /// The live collection's aliases before the swap.
    pub live_aliases: Vec<String>,
    /// The aliases that the new collection gets.
    pub aliases: Vec<String>,
    /// Aliases among `aliases` that another collection had before: `(alias, collection)`.
    pub taken_aliases: Vec<(String, String)>,
    /// The grants on the target name before the restore. Newer servers revoke them when the name is given up.
    #[serde(default)]
    pub live_grants: Vec<Grant>,
    /// Further grants on the name that come from the backup, if no collection was live.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

/// The name of the collection being rebuilt for `target`.
pub fn rebuilt_name(target: &CollectionName, restore: &RestoreId) -> CollectionName {
    with_suffix(target, &format!("__restore_{}", restore.short()))
}

/// The name under which the previous collection of the name `target` is kept.
pub fn previous_name(target: &CollectionName, restore: &RestoreId) -> CollectionName {
    with_suffix(target, &format!("__before_{}", restore.short()))
}

/// Whether a collection's name was made by a restore, rather than by a user.
pub fn restore_owns(collection: &str) -> bool {
    let is_short_id = |id: &str| id.len() == 10 && id.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase());
    ["__restore_", "__before_"]
        .iter()
        .any(|marker| collection.rsplit_once(marker).is_some_and(|(_, id)| is_short_id(id)))
}

/// Adds a suffix to a collection's name. Milvus allows 255 bytes: a longer name is cut, and a hash keeps it unique.
fn with_suffix(name: &CollectionName, suffix: &str) -> CollectionName {
    let room = 255 - suffix.len();
    let stem = if name.collection.len() <= room {
        name.collection.clone()
    } else {
        let hash = Sha256::digest(name.collection.as_bytes());
        // Milvus names are ASCII, so every byte is a character boundary.
        format!("{}_{:02x}{:02x}{:02x}{:02x}", &name.collection[..room - 9], hash[0], hash[1], hash[2], hash[3])
    };
    CollectionName::new(&name.database, format!("{stem}{suffix}"))
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn a_restores_own_collections_are_told_from_a_users() {
        let restore = RestoreId::new(Ulid::from_parts(7, 42));
        let long = CollectionName::new("default", "x".repeat(255));
        for target in [CollectionName::new("default", "items"), long] {
            for name in [rebuilt_name(&target, &restore), previous_name(&target, &restore)] {
                assert!(name.collection.len() <= 255);
                assert!(restore_owns(&name.collection), "{name}");
            }
        }
        for users in ["items", "items__before_", "items__before_monday", "__restore_", "items_restore_0123456789"] {
            assert!(!restore_owns(users), "{users}");
        }
    }

    #[test]
    fn a_swap_of_before_grants_were_kept_is_read() {
        let kept = r#"{"stage": "swapped", "newId": 2, "liveId": 1, "liveLoaded": {"state": "no"}, "liveAliases": [],
            "aliases": [], "takenAliases": []}"#;
        let swapped = CollectionStage::Swapped(Swap {
            new_id: 2,
            live_id: Some(1),
            live_loaded: Loaded::No,
            live_aliases: vec![],
            aliases: vec![],
            taken_aliases: vec![],
            live_grants: vec![],
            grants: vec![],
        });
        assert_eq!(serde_json::from_str::<CollectionStage>(kept).unwrap(), swapped);
    }

    #[test]
    fn a_line_of_before_its_state_was_dated_is_read() {
        let kept = r#"{"number": 0, "source": "default.items", "sourceId": 1, "target": "default.items", "capturePage": 0,
            "loadedBefore": {"state": "no"}, "rowsExpected": 5, "rowsFound": 5, "attempts": 1, "unavailableMs": 7,
            "stage": {"stage": "swapped", "newId": 2, "liveId": 1, "liveLoaded": {"state": "no"}, "liveAliases": [],
            "aliases": [], "takenAliases": []}}"#;
        let line: CollectionRestore = serde_json::from_str(kept).unwrap();
        assert_eq!((line.state(), line.since, line.segments_per_job), (CollectionState::Restored, None, 16));
    }

    #[test]
    fn long_names_that_differ_at_their_end_stay_different() {
        let restore = RestoreId::new(Ulid::from_parts(7, 42));
        let name = |end: &str| CollectionName::new("default", format!("{}{end}", "x".repeat(254)));
        assert_ne!(rebuilt_name(&name("a"), &restore), rebuilt_name(&name("b"), &restore));
    }
}
