//! What describing a restore adds: its collections, and what each waits for.

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
    /// What lists show.
    #[serde(flatten)]
    pub restore: RestoreView,
    /// The collections on this page; none before the restore has read the backup's.
    #[serde(default)]
    pub collections: Vec<CollectionRestoreView>,
    /// Where they go on; null at their end.
    pub next_cursor: Option<String>,
}

/// A collection of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionRestoreView {
    /// The name that it is restored to, with the database.
    pub name: String,
    /// Its name in the backup, with the database.
    #[serde(default)]
    pub source: String,
    /// Where it stands.
    #[serde(default)]
    pub state: Open<CollectionState>,
    /// Since when it stands there; null where that wasn't noted.
    pub since: Option<Timestamp>,
    /// What has to come before the restore gets further with it, for people; null when it is over.
    pub waits_for: Option<String>,
    /// Rows in the backup.
    #[serde(default)]
    pub rows_expected: u64,
    /// What kind of count that is.
    #[serde(default)]
    pub rows_expected_is: Open<CountKind>,
    /// Rows found in the rebuilt collection; null until they are counted.
    pub rows_found: Option<u64>,
    /// Whether the user has to load it before it answers a search or a query.
    #[serde(default)]
    pub load_required: bool,
    /// For how many milliseconds its name answered nothing during the swap; null until it is swapped.
    pub unavailable_ms: Option<u64>,
    /// The collection that it replaced; null where there was none, or it isn't kept.
    pub previous_collection: Option<String>,
    /// Why it was given up; null otherwise.
    pub failure: Option<FailureView>,
}

impl CollectionRestoreView {
    /// The object of a line in the ledger of `restore`.
    pub fn of(line: &CollectionRestore, restore: &Restore) -> Self {
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
            rows_expected_is: line.rows_expected_is.into(),
            rows_found: line.rows_found,
            load_required: restore.reload == Reload::None || line.loaded_before == Loaded::No,
            unavailable_ms: line.unavailable_ms,
            previous_collection,
            failure: line.failure.as_ref().map(FailureView::from),
        }
    }
}

/// What a running restore waits for before it gets further with a collection, for people.
fn waits_for(line: &CollectionRestore, restore: &Restore) -> Option<String> {
    let RestoreState::Running(run) = &restore.state else { return None };
    let sentence = match (line.state(), &run.phase) {
        (_, RestorePhase::Clean | RestorePhase::Undo(_) | RestorePhase::Rollback { .. }) => return None,
        (CollectionState::Waiting, RestorePhase::Stage { .. }) => {
            "the copies of the backup's objects into the instance's own bucket"
        }
        (CollectionState::Waiting, _) => "its turn: so many collections are worked on at once",
        (CollectionState::Building, _) => "Milvus, which makes the collection and its indexes",
        (CollectionState::Importing | CollectionState::Indexing, RestorePhase::Build) => {
            "the other collections: data is imported when all are made"
        }
        (CollectionState::Importing, _) => return Some(imports(line)),
        (CollectionState::Indexing, _) => "Milvus, which builds the indexes",
        (CollectionState::Imported, RestorePhase::Import) => "the imports of the other collections",
        (CollectionState::Imported, _) => "Milvus, which loads it for its rows to be compared with the backup's",
        (CollectionState::Verified, RestorePhase::Swap) => "its turn: collections are swapped in one by one",
        (CollectionState::Verified, _) => "the other collections: none is swapped in before all are verified",
        (CollectionState::Swapping, _) => "Milvus, which gives the collections their names",
        (CollectionState::Restored | CollectionState::Failed | CollectionState::Undone, _) => return None,
    };
    Some(sentence.to_owned())
}

/// How far Milvus is with the imports into a collection.
fn imports(line: &CollectionRestore) -> String {
    let CollectionStage::Built { imports, .. } = &line.stage else { return String::new() };
    let count = |is: fn(&ImportState) -> bool| imports.at_work.iter().filter(|job| is(&job.state)).count();
    let queued = count(|state| matches!(state, ImportState::Started { progress: None, .. }));
    let at_work = count(|state| matches!(state, ImportState::Started { progress: Some(_), .. }));
    let refused = count(|state| matches!(state, ImportState::Refused { .. }));
    let (done, jobs) = (imports.completed.len(), line.jobs);
    if at_work + queued == 0 && refused > 0 {
        return format!("room for an import job: Milvus has as many as it takes; {done} of {jobs} are done");
    }
    if at_work + queued == 0 {
        return format!("its turn: so many segments are imported at once; {done} of {jobs} jobs are done");
    }
    format!("Milvus, which has imported {done} of {jobs} jobs, works on {at_work} and has {queued} in its queue")
}
