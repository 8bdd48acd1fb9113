//! The description of a restore: its collections, and what each of them waits for.

use milvault_model::{
    CollectionRestore, CollectionStage, CollectionState, CountKind, ImportState, Loaded, Reload, Restore, RestorePhase,
    RestoreState, previous_name,
};
use serde::{Deserialize, Serialize};

use super::view::previous_kept_until;
use crate::{FailureView, Open, RestoreView, Timestamp};

/// A restore with a page of its collections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreDescription {
    /// The fields that listings have.
    #[serde(flatten)]
    pub restore: RestoreView,
    /// The collections on this page; none until the restore has read the backup's collections.
    #[serde(default)]
    pub collections: Vec<CollectionRestoreView>,
    /// The cursor of the next page of collections; null at the end.
    pub next_cursor: Option<String>,
}

/// A collection of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionRestoreView {
    /// The name that the collection is restored to, with the database.
    pub name: String,
    /// The collection's name in the backup, with the database.
    #[serde(default)]
    pub source: String,
    /// The collection's state.
    #[serde(default)]
    pub state: Open<CollectionState>,
    /// When the collection entered this state; null if that wasn't recorded.
    pub since: Option<Timestamp>,
    /// What the restore waits for before it continues with the collection, for people; null when it is done.
    pub waits_for: Option<String>,
    /// The number of rows in the backup.
    #[serde(default)]
    pub rows_expected: u64,
    /// The kind of count that `rowsExpected` is.
    #[serde(default)]
    pub rows_expected_is: Open<CountKind>,
    /// The number of rows in the rebuilt collection; null until they are counted.
    pub rows_found: Option<u64>,
    /// Whether the user has to load the collection before it answers a search or a query.
    #[serde(default)]
    pub load_required: bool,
    /// How long the collection's name was unavailable during the swap, in milliseconds; null until the swap.
    pub unavailable_ms: Option<u64>,
    /// The collection that was replaced; null if there was none or it isn't kept.
    pub previous_collection: Option<String>,
    /// Why the collection was given up; null otherwise.
    pub failure: Option<FailureView>,
}

impl CollectionRestoreView {
    /// Makes the object from a line in the ledger of `restore`.
    pub fn new(line: &CollectionRestore, restore: &Restore) -> Self {
        let kept = matches!(restore.state, RestoreState::Running(_)) || previous_kept_until(restore).is_some();
        let previous_collection = match &line.stage {
            CollectionStage::Swapped(swap) if kept && swap.live_id.is_some() => {
                Some(previous_name(&line.target, &restore.id).to_string())
            }
            _ => None,
        };
        Self {
            name: line.target.to_string(),
            source: line.source.to_string(),
            state: line.state().into(),
            since: line.since.map(Timestamp::from),
            waits_for: waits_for(line, restore),
            rows_expected: line.rows_expected,
            rows_expected_is: line.rows_expected_kind.into(),
            rows_found: line.rows_found,
            load_required: restore.reload == Reload::None || line.loaded_before == Loaded::No,
            unavailable_ms: line.unavailable_ms,
            previous_collection,
            failure: line.failure.as_ref().map(FailureView::from),
        }
    }
}

/// Describes, for people, what a running restore waits for before it continues with a collection.
fn waits_for(line: &CollectionRestore, restore: &Restore) -> Option<String> {
    let RestoreState::Running(run) = &restore.state else { return None };
    let sentence = match (line.state(), &run.phase) {
        (_, RestorePhase::Clean | RestorePhase::Undo(_) | RestorePhase::Rollback { .. }) => return None,
        (CollectionState::Waiting, RestorePhase::Stage { .. }) => {
            "the copying of the backup's objects to the instance's own bucket"
        }
        (CollectionState::Waiting, _) => "its turn: the number of collections in progress is limited",
        (CollectionState::Building, _) => "Milvus, which creates the collection and its indexes",
        (CollectionState::Importing | CollectionState::Indexing, RestorePhase::Build) => {
            "the other collections: data is imported once all of them are created"
        }
        (CollectionState::Importing, _) => return Some(imports(line)),
        (CollectionState::Indexing, _) => "Milvus, which builds the indexes",
        (CollectionState::Imported, RestorePhase::Import) => "the imports of the other collections",
        (CollectionState::Imported, _) => {
            "Milvus, which loads the collection so that its rows can be compared with the backup"
        }
        (CollectionState::Verified, RestorePhase::Swap) => "its turn: collections are swapped in one by one",
        (CollectionState::Verified, _) => "the other collections: none is swapped in before all are verified",
        (CollectionState::Swapping, _) => "Milvus, which renames the collections",
        (CollectionState::Restored | CollectionState::Failed | CollectionState::Undone, _) => return None,
    };
    Some(sentence.to_owned())
}

/// Describes the progress of Milvus's imports into a collection.
fn imports(line: &CollectionRestore) -> String {
    let CollectionStage::Built { imports, .. } = &line.stage else { return String::new() };
    let count = |is: fn(&ImportState) -> bool| imports.at_work.iter().filter(|job| is(&job.state)).count();
    let queued = count(|state| matches!(state, ImportState::Started { progress: None, .. }));
    let at_work = count(|state| matches!(state, ImportState::Started { progress: Some(_), .. }));
    let refused = count(|state| matches!(state, ImportState::Refused { .. }));
    let (done, jobs) = (imports.completed.len(), line.jobs);
    if at_work + queued == 0 && refused > 0 {
        return format!(
            "room for an import job: Milvus has the maximum number of jobs; {done} of {jobs} jobs are done"
        );
    }
    if at_work + queued == 0 {
        return format!("its turn: the number of segments imported at once is limited; {done} of {jobs} jobs are done");
    }
    format!("Milvus, which has imported {done} of {jobs} jobs, works on {at_work} and has {queued} in its queue")
}
