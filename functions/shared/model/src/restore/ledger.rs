//! The ledger of a restore: one line for each collection.

use serde::{Deserialize, Serialize};

use crate::{CollectionName, CountKind, Failure, Grant, Imports, Loaded, Time};

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
    #[serde(default, rename = "rowsExpectedIs")]
    pub rows_expected_kind: CountKind,
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
    /// Why the collection was given up, with [`OnError::Continue`](crate::OnError::Continue).
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
