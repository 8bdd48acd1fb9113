//! The restore object, with what the caller must know before and after, and the request for one.

use std::collections::BTreeMap;

use milvault_model::{
    BackupName, CollectionName, CollectionPattern, CollectionRestore, CollectionStage, CollectionState, CountKind,
    ImportState, InstanceId, Loaded, OnError, Previous, Reload, Restore, RestoreMode, RestorePhase, RestoreState,
    RestoreStatus, Time, previous_name,
};
use serde::{Deserialize, Serialize};

use crate::{Checked, CompletenessView, FailureView, Open, ProgressView, Texts, Timestamp};

/// The body of a request for a restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "")]
pub struct RestoreRequest<T: Texts = Checked> {
    /// The backup, by its id. As text: a text that isn't an id is a backup that doesn't exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// The backup, by its name. Either this or the id is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_name: Option<T::Of<BackupName>>,
    /// The instance whose backup it is; the one that is restored into where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_instance_id: Option<T::Of<InstanceId>>,
    /// Only these collections; all of the backup where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collections: Option<Vec<T::Of<CollectionPattern>>>,
    /// Other names for some of them.
    #[serde(default)]
    pub rename: BTreeMap<T::Of<CollectionName>, T::Of<CollectionName>>,
    /// Whether a damaged backup may be used, as far as it is whole.
    #[serde(default)]
    pub allow_damaged: bool,
    /// What to do about collections that exist.
    #[serde(default)]
    pub mode: RestoreMode,
    /// What to do about loading.
    #[serde(default)]
    pub reload: Reload,
    /// What to do about the others once a collection can't be restored. Left out of the request's hash where it is the
    /// default, because requests of before it was known have none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_error: OnError,
    /// For how many hours the replaced collections are kept for a rollback.
    #[serde(default = "a_day")]
    pub keep_previous_hours: u32,
}

fn is_default(on_error: &OnError) -> bool {
    *on_error == OnError::default()
}

fn a_day() -> u32 {
    24
}

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
fn previous_kept_until(restore: &Restore) -> Option<Time> {
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

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use milvault_model::{Completeness, Failure, FailureCode, ImportJob, Imports, RestoreRun, Swap};
    use serde_json::{Value, json};

    use super::*;
    use crate::tests::written;

    fn at(seconds: i64) -> Time {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn restore(state: RestoreState) -> Restore {
        Restore {
            id: "rs-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            instance_id: "orders".parse().unwrap(),
            source_instance_id: "orders".parse().unwrap(),
            backup_id: "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            backup_name: "before-migration".parse().unwrap(),
            backup_region: "eu-west-1".parse().unwrap(),
            selection: vec![],
            rename: Default::default(),
            mode: RestoreMode::Replace,
            reload: Reload::AsBefore,
            on_error: OnError::Stop,
            keep_previous_hours: 24,
            created_at: at(0),
            cancel_requested_at: None,
            warnings: vec![],
            collections: 1,
            completeness: Completeness::Complete,
            state,
        }
    }

    fn completed(previous: Previous) -> Restore {
        restore(RestoreState::Completed { started_at: at(1), completed_at: at(2), previous, leftovers_since: None })
    }

    fn line(loaded_before: Loaded, stage: CollectionStage) -> CollectionRestore {
        CollectionRestore {
            number: 0,
            source: "default.items".parse().unwrap(),
            source_id: 7,
            target: "default.copy".parse().unwrap(),
            capture_page: 0,
            loaded_before,
            rows_expected: 5,
            rows_expected_is: CountKind::AtMost,
            rows_found: Some(5),
            segments_per_job: 16,
            jobs: 1,
            lost_indexes: vec![],
            attempts: 1,
            unavailable_ms: Some(3),
            failure: None,
            warnings: Vec::new(),
            stage,
            since: Some(at(5)),
        }
    }

    fn swapped(live_id: Option<i64>) -> CollectionStage {
        CollectionStage::Swapped(Swap {
            new_id: 2,
            live_id,
            live_loaded: Loaded::No,
            live_aliases: vec![],
            aliases: vec![],
            taken_aliases: vec![],
            live_grants: vec![],
            grants: vec![],
        })
    }

    fn json_of(restore: &Restore) -> Value {
        written(&RestoreView::of(restore, at(10)))
    }

    fn line_of(line: &CollectionRestore, restore: &Restore) -> Value {
        written(&CollectionRestoreView::of(line, restore))
    }

    #[test]
    fn before_the_swap_the_caller_is_told_what_becomes_unavailable_and_for_how_long() {
        let shown = json_of(&restore(RestoreState::Pending));
        let sentences = shown["unavailability"].to_string();
        assert!(sentences.contains("for a few milliseconds"), "{sentences}");
        assert!(sentences.contains("loadRequired"), "{sentences}");
        assert_eq!(shown["status"], "PENDING");
        assert!(shown.get("progress").is_none());
    }

    #[test]
    fn a_running_restore_shows_its_phase_and_progress() {
        let run = RestoreRun::resume(at(5), RestorePhase::Import);
        let shown = json_of(&restore(RestoreState::Running(run)));
        assert_eq!((shown["phase"].as_str(), shown["progress"]["percent"].as_u64()), (Some("IMPORT"), Some(0)));
    }

    #[test]
    fn a_previous_collection_is_named_while_it_is_kept_and_only_where_there_was_one() {
        let kept = completed(Previous::Kept { until: at(100) });
        assert_eq!(json_of(&kept)["previousKeptUntil"], "1970-01-01T00:01:40.000Z");
        let loaded = Loaded::Whole { replicas: 1 };
        assert_eq!(
            line_of(&line(loaded.clone(), swapped(Some(1))), &kept),
            json!({
                "name": "default.copy", "source": "default.items", "state": "RESTORED",
                "since": "1970-01-01T00:00:05.000Z", "waitsFor": null, "rowsExpected": 5, "rowsExpectedIs": "AT_MOST",
                "rowsFound": 5, "loadRequired": false, "unavailableMs": 3,
                "previousCollection": "default.copy__before_ffq69g5fav", "failure": null
            })
        );
        let name =
            |stage, restore: &Restore| line_of(&line(loaded.clone(), stage), restore)["previousCollection"].clone();
        assert_eq!(name(swapped(None), &kept), Value::Null);
        assert_eq!(name(swapped(Some(1)), &completed(Previous::Gone)), Value::Null);
    }

    #[test]
    fn a_collection_says_what_it_waits_for_while_the_restore_runs() {
        let running = |phase| restore(RestoreState::Running(RestoreRun::resume(at(5), phase)));
        let waits = |stage, phase| line_of(&line(Loaded::No, stage), &running(phase))["waitsFor"].clone();
        let job = |group, state| ImportJob { group, state };
        let started = |progress| ImportState::Started { task: 1, progress, since: at(1) };
        let built =
            |at_work| CollectionStage::Built { id: Some(2), imports: Imports { at_work, ..Default::default() } };
        assert_eq!(
            waits(built(vec![job(0, started(Some(5))), job(1, started(None))]), RestorePhase::Import),
            "Milvus, which has imported 0 of 1 jobs, works on 1 and has 1 in its queue"
        );
        assert_eq!(
            waits(built(vec![job(0, ImportState::Refused { since: at(1) })]), RestorePhase::Import),
            "room for an import job: Milvus has as many as it takes; 0 of 1 are done"
        );
        let verified = || CollectionStage::Verified { id: 2 };
        assert!(waits(verified(), RestorePhase::Verify).as_str().unwrap().starts_with("the other collections"));
        assert_eq!(waits(swapped(None), RestorePhase::Swap), Value::Null);
        let done = completed(Previous::Gone);
        assert_eq!(line_of(&line(Loaded::No, verified()), &done)["waitsFor"], Value::Null);
    }

    #[test]
    fn a_restore_that_gave_a_collection_up_is_completed_and_not_complete() {
        let failure = Failure::new(FailureCode::ImportFailed, "default.copy: refused");
        let reasons = [failure.message.clone()].into_iter();
        let lacking = Restore { completeness: Completeness::of_restore(reasons), ..completed(Previous::Gone) };
        let shown = json_of(&lacking);
        assert_eq!((&shown["status"], &shown["complete"]), (&json!("COMPLETED"), &json!(false)));
        assert_eq!(shown["incompleteReasons"], json!(["default.copy: refused"]));
        assert_eq!(json_of(&completed(Previous::Gone))["complete"], true);
        assert_eq!(json_of(&restore(RestoreState::Pending))["complete"], Value::Null);
        let failed = CollectionRestore { failure: Some(failure), ..line(Loaded::No, CollectionStage::Undone) };
        let shown = line_of(&failed, &lacking);
        assert_eq!((&shown["state"], &shown["failure"]["code"]), (&json!("FAILED"), &json!("IMPORT_FAILED")));
    }

    #[test]
    fn loading_is_the_users_where_nothing_is_reloaded_or_nothing_was_loaded() {
        let as_before = completed(Previous::Gone);
        let none = Restore { reload: Reload::None, ..as_before.clone() };
        let required =
            |loaded, restore| line_of(&line(loaded, CollectionStage::Waiting), restore)["loadRequired"].clone();
        assert_eq!(required(Loaded::Whole { replicas: 1 }, &as_before), false);
        assert_eq!(required(Loaded::No, &as_before), true);
        assert_eq!(required(Loaded::Whole { replicas: 1 }, &none), true);
    }
}
