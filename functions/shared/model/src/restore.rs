//! A restore, its ledger of collections, and the names of the collections that it makes.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    BackupId, BackupName, CollectionName, CollectionPattern, Completeness, CountKind, Due, DueKind, Ending, Failure,
    Grant, InstanceId, Loaded, Progress, Region, RestoreId, Time,
};

/// A restore as the catalog keeps it. What happens to each collection is in its ledger of [`CollectionRestore`]s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// Its id, which sorts by creation time.
    pub id: RestoreId,
    /// Into which instance.
    pub instance_id: InstanceId,
    /// From which instance's backup.
    pub source_instance_id: InstanceId,
    /// Which backup.
    pub backup_id: BackupId,
    /// Its name.
    pub backup_name: BackupName,
    /// Where its bytes are.
    pub backup_region: Region,
    /// Which collections of the backup; empty for all.
    pub selection: Vec<CollectionPattern>,
    /// Other names for some of them.
    pub rename: BTreeMap<CollectionName, CollectionName>,
    /// What to do about collections that exist.
    pub mode: RestoreMode,
    /// What to do about loading.
    pub reload: Reload,
    /// What to do about the others once a collection can't be restored.
    #[serde(default)]
    pub on_error: OnError,
    /// How long to keep the collections that were replaced.
    pub keep_previous_hours: u32,
    /// When it was asked for.
    pub created_at: Time,
    /// When the caller asked to stop it, if they did before its swap.
    pub cancel_requested_at: Option<Time>,
    /// What the user should know and can't see elsewhere.
    pub warnings: Vec<String>,
    /// How many collections it is to bring back, once that is known.
    pub collections: u32,
    /// Whether it has given some of them up, with [`OnError::Continue`].
    #[serde(default)]
    pub completeness: Completeness,
    /// Where it stands.
    pub state: RestoreState,
}

/// What a restore does where a collection of the same name exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RestoreMode {
    /// Replaces it, keeping the previous one for a while.
    #[default]
    Replace,
    /// Refuses to touch it.
    Create,
}

/// What a restore does about loading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reload {
    /// Collections are loaded if they were when they were backed up.
    #[default]
    AsBefore,
    /// Nothing is left loaded.
    None,
}

/// What a restore does about the others once a collection can't be restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OnError {
    /// Restores none of them: the restore fails, and every live collection is what it was.
    #[default]
    Stop,
    /// Restores them: what was live under the name of the one that failed is what it was.
    Continue,
}

/// The states of a restore, each with what is known in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RestoreState {
    /// Accepted; no worker has begun.
    Pending,
    /// At work, or cleaning up, or being rolled back.
    Running(RestoreRun),
    /// Every collection is in place, or each that wasn't given up.
    #[serde(rename_all = "camelCase")]
    Completed {
        /// When work began.
        started_at: Time,
        /// When it was over.
        completed_at: Time,
        /// The collections that were replaced.
        previous: Previous,
        /// Since when something of its own is still to be removed, by the sweep.
        #[serde(default)]
        leftovers_since: Option<Time>,
    },
    /// Over without a result: the live collections are what they were.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When it was given up.
        ended_at: Time,
        /// Why.
        failure: Failure,
        /// Since when something of its own is still to be removed, by the sweep.
        leftovers_since: Option<Time>,
    },
    /// Over because the caller asked: the live collections are what they were.
    #[serde(rename_all = "camelCase")]
    Cancelled {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When it was over.
        ended_at: Time,
        /// Since when something of its own is still to be removed, by the sweep.
        leftovers_since: Option<Time>,
    },
    /// Was completed; the previous collections are back in their places.
    #[serde(rename_all = "camelCase")]
    RolledBack {
        /// When work began.
        started_at: Time,
        /// When the restore had been completed.
        completed_at: Time,
        /// When it was rolled back.
        rolled_back_at: Time,
    },
}

/// The collections that a completed restore replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Previous {
    /// Kept for a rollback until this time.
    Kept {
        /// When they may be dropped.
        until: Time,
    },
    /// Dropped.
    Gone,
}

/// A running restore's durable state: enough for another worker to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRun {
    /// When the first worker began.
    pub started_at: Time,
    /// How many invocations have worked on it.
    pub slices: u32,
    /// When it last got further.
    pub advanced_at: Time,
    /// In which invocation it did.
    pub advanced_in: u32,
    /// What to do next.
    pub phase: RestorePhase,
    /// Of the present phase.
    pub progress: Progress,
}

/// The steps of a restore; each goes through the whole ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RestorePhase {
    /// Write the ledger, then copy the snapshot's objects into the instance's own bucket, page by page.
    Stage {
        /// The first page that isn't copied; `None` until the ledger is written.
        next: Option<u32>,
    },
    /// Make the new collections beside the live ones.
    Build,
    /// Import the staged data and build the indexes.
    Import,
    /// Compare with the backup.
    Verify,
    /// Put the new collections in the live ones' places.
    Swap,
    /// Remove the staged objects and, if nothing is to be kept, the previous collections.
    Clean,
    /// Undo: put back what was swapped, remove what was built and staged, then end.
    Undo(Ending),
    /// Put the previous collections back, because the caller asked for a rollback of the completed restore.
    #[serde(rename_all = "camelCase")]
    Rollback {
        /// When the restore had been completed.
        completed_at: Time,
        /// Until when the previous collections are kept, should the rollback not be possible.
        until: Time,
        /// How far it is.
        step: RollbackStep,
    },
}

/// The steps of a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RollbackStep {
    /// See that every collection can be put back, and load it: nothing is moved before all of them can.
    Prepare,
    /// Put back one after the other. What was begun is gone through with.
    PutBack,
}

impl RestorePhase {
    /// The phase's name on the wire. An undoing restore is cleaning up; a rollback swaps.
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

/// The status alone, as callers see and filter it.
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
    /// The status alone.
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

    /// When work on it began, if it did.
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
    /// Whether it brought every collection back, once it is completed.
    pub fn is_complete(&self) -> Option<bool> {
        matches!(self.state, RestoreState::Completed { .. }).then(|| self.completeness.is_complete())
    }

    /// What the sweep has to do with it, if anything.
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

    /// Whether it got no further for longer than `limit`.
    pub fn is_stalled(&self, now: Time, limit: TimeDelta) -> bool {
        now - self.advanced_at > limit
    }
}

/// One collection's line in a restore's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionRestore {
    /// Its number in the ledger, from 0.
    pub number: u32,
    /// Its name in the backup.
    pub source: CollectionName,
    /// Its id in the backup's source, which its objects' keys carry.
    pub source_id: i64,
    /// The name that it is restored to.
    pub target: CollectionName,
    /// Which page of the manifest's collections it is on.
    pub capture_page: u32,
    /// How it was loaded when it was backed up.
    pub loaded_before: Loaded,
    /// Rows in the backup.
    pub rows_expected: u64,
    /// What kind of count that is.
    #[serde(default)]
    pub rows_expected_is: CountKind,
    /// Rows found in what was rebuilt, once counted.
    pub rows_found: Option<u64>,
    /// The most segments that are imported by one job.
    #[serde(default = "segments_per_job")]
    pub segments_per_job: u32,
    /// How many import jobs its data takes.
    #[serde(default)]
    pub jobs: u32,
    /// Indexes that the server wouldn't make again, by name.
    #[serde(default)]
    pub lost_indexes: Vec<String>,
    /// How often it was built from the beginning.
    pub attempts: u32,
    /// How long its name answered no query during the swap, in milliseconds: measured by the worker, once swapped.
    pub unavailable_ms: Option<u64>,
    /// Why it was given up, with [`OnError::Continue`].
    #[serde(default)]
    pub failure: Option<Failure>,
    /// What the user is to be told, and was not yet in the restore's record when this line was written: a worker that
    /// dies in between loses none of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Where it stands.
    pub stage: CollectionStage,
    /// Since when it is in its [`state`](Self::state); `None` in lines of before it was noted.
    #[serde(default)]
    pub since: Option<Time>,
}

/// That of lines of before it was noted.
fn segments_per_job() -> u32 {
    16
}

impl CollectionRestore {
    /// What the restore does for it now, or has done.
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

    /// Goes on with this stage.
    pub fn enter(&mut self, stage: CollectionStage, now: Time) {
        self.change(now, |line| line.stage = stage);
    }

    /// Gives it up for a reason that names it.
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

/// What a restore does for a collection, or has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CollectionState {
    /// Nothing yet.
    Waiting,
    /// It makes the new collection beside the live one.
    Building,
    /// Milvus imports its data.
    Importing,
    /// Milvus indexes it.
    Indexing,
    /// It is imported and indexed, and isn't compared with the backup yet.
    Imported,
    /// It is found to be right.
    Verified,
    /// It is being put in its place.
    Swapping,
    /// It is in its place.
    Restored,
    /// It was given up: what was live under its name is what it was.
    Failed,
    /// What was built for it is removed, and what was live is back.
    Undone,
}

/// Where a collection stands in a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "camelCase")]
pub enum CollectionStage {
    /// Nothing is made yet.
    Waiting,
    /// The new collection is about to be made, or is.
    #[serde(rename_all = "camelCase")]
    Built {
        /// Its id, once it is known to be made whole.
        id: Option<i64>,
        /// How far its data is imported.
        imports: Imports,
    },
    /// Every import is completed, every index is built.
    #[serde(rename_all = "camelCase")]
    Imported {
        /// The new collection's id.
        id: i64,
        /// Rows that the imports counted.
        rows: u64,
        /// The groups of segments whose imports brought none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        empty: Vec<u32>,
    },
    /// Compared with the backup, and right; its time to live and what is to be loaded aren't set yet.
    #[serde(rename_all = "camelCase")]
    Compared {
        /// The new collection's id.
        id: i64,
    },
    /// Compared with the backup, and as it is to be swapped in.
    #[serde(rename_all = "camelCase")]
    Verified {
        /// The new collection's id.
        id: i64,
    },
    /// The renames are about to be made, or are.
    Swapping(Swap),
    /// In its place.
    Swapped(Swap),
    /// Removed, or the previous collection put back.
    Undone,
}

/// The imports into a collection: a job for each of its groups of segments, several of them side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Imports {
    /// Milvus's ids of the jobs that are completed, each of one group.
    pub completed: Vec<i64>,
    /// Rows of these, deleted ones not counted.
    pub rows: u64,
    /// The groups whose completed jobs brought none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<u32>,
    /// The jobs of which it isn't known which group they are of, because a worker died as it began several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guessed: Vec<i64>,
    /// The groups whose jobs were to be begun, and aren't completed.
    pub at_work: Vec<ImportJob>,
}

impl Imports {
    /// For how many groups, from the first on, a job was to be begun.
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
    /// Where its job stands.
    pub state: ImportState,
}

/// Where an import job stands, as far as it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ImportState {
    /// About to be asked for, or asked for by a worker that died before it wrote down the job's id.
    Starting,
    /// Milvus has as many jobs as it takes: it is asked again.
    Refused {
        /// Since when.
        since: Time,
    },
    /// Milvus is at it.
    Started {
        /// Milvus's id of the job.
        task: i64,
        /// How far it was when it last got further; `None` while it waits for its turn.
        progress: Option<u64>,
        /// When that was.
        since: Time,
    },
    /// It failed, or whether it began isn't known: the collection is built again once none of its jobs is at work. What
    /// has failed stays here until then, so that no worker takes the rest for all of it.
    Failed,
}

/// What a swap replaces and puts in place. Collections are known by their ids: names are what changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Swap {
    /// The new collection.
    pub new_id: i64,
    /// The collection that was live under the target name, if one was.
    pub live_id: Option<i64>,
    /// How it was loaded.
    pub live_loaded: Loaded,
    /// Its aliases before the swap.
    pub live_aliases: Vec<String>,
    /// The aliases that the new collection gets.
    pub aliases: Vec<String>,
    /// Who had those aliases before, where it was another collection: `(alias, collection)`.
    pub taken_aliases: Vec<(String, String)>,
    /// What roles may do with the name apart from the restore: newer servers take it from a name that is given up.
    #[serde(default)]
    pub live_grants: Vec<Grant>,
    /// What the name is granted beside these, because the backup has it and nothing was live.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

/// The name of the collection being rebuilt for `target`.
pub fn rebuilt_name(target: &CollectionName, restore: &RestoreId) -> CollectionName {
    with_suffix(target, &format!("__restore_{}", restore.short()))
}

/// The name under which the collection that `target` was is kept.
pub fn previous_name(target: &CollectionName, restore: &RestoreId) -> CollectionName {
    with_suffix(target, &format!("__before_{}", restore.short()))
}

/// Whether a collection's name is one that a restore made, and not a user's.
pub fn restore_owns(collection: &str) -> bool {
    let is_short_id = |id: &str| id.len() == 10 && id.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase());
    ["__restore_", "__before_"]
        .iter()
        .any(|marker| collection.rsplit_once(marker).is_some_and(|(_, id)| is_short_id(id)))
}

/// Milvus allows 255 bytes: a name too long for its suffix is cut and told apart by a hash.
fn with_suffix(name: &CollectionName, suffix: &str) -> CollectionName {
    let room = 255 - suffix.len();
    let stem = if name.collection.len() <= room {
        name.collection.clone()
    } else {
        let hash = Sha256::digest(name.collection.as_bytes());
        // Milvus names are ASCII, so any byte is a boundary.
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
