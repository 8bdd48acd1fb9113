//! Tests of the restore object and of its collections.

use chrono::{DateTime, TimeDelta};
use milvault_model::{
    CollectionRestore, CollectionStage, Completeness, CountKind, Failure, FailureCode, ImportJob, ImportState, Imports,
    Loaded, OnError, Previous, Reload, Restore, RestoreMode, RestorePhase, RestoreRun, RestoreState, Swap, Time,
};
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
        rows_expected_kind: CountKind::AtMost,
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
    written(&RestoreView::new(restore, at(10)))
}

fn line_of(line: &CollectionRestore, restore: &Restore) -> Value {
    written(&CollectionRestoreView::new(line, restore))
}

#[test]
fn a_pending_restore_states_what_becomes_unavailable_and_for_how_long() {
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
fn a_previous_collection_is_named_only_while_it_is_kept() {
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
    let name = |stage, restore: &Restore| line_of(&line(loaded.clone(), stage), restore)["previousCollection"].clone();
    assert_eq!(name(swapped(None), &kept), Value::Null);
    assert_eq!(name(swapped(Some(1)), &completed(Previous::Gone)), Value::Null);
}

#[test]
fn a_collection_shows_what_it_waits_for_while_the_restore_runs() {
    let running = |phase| restore(RestoreState::Running(RestoreRun::resume(at(5), phase)));
    let waits = |stage, phase| line_of(&line(Loaded::No, stage), &running(phase))["waitsFor"].clone();
    let job = |group, state| ImportJob { group, state };
    let started = |progress| ImportState::Started { task: 1, progress, since: at(1) };
    let built = |at_work| CollectionStage::Built { id: Some(2), imports: Imports { at_work, ..Default::default() } };
    assert_eq!(
        waits(built(vec![job(0, started(Some(5))), job(1, started(None))]), RestorePhase::Import),
        "Milvus, which has imported 0 of 1 jobs, works on 1 and has 1 in its queue"
    );
    assert_eq!(
        waits(built(vec![job(0, ImportState::Refused { since: at(1) })]), RestorePhase::Import),
        "room for an import job: Milvus has the maximum number of jobs; 0 of 1 jobs are done"
    );
    let verified = || CollectionStage::Verified { id: 2 };
    assert!(waits(verified(), RestorePhase::Verify).as_str().unwrap().starts_with("the other collections"));
    assert_eq!(waits(swapped(None), RestorePhase::Swap), Value::Null);
    let done = completed(Previous::Gone);
    assert_eq!(line_of(&line(Loaded::No, verified()), &done)["waitsFor"], Value::Null);
}

#[test]
fn a_restore_that_gave_a_collection_up_is_completed_but_not_complete() {
    let failure = Failure::new(FailureCode::ImportFailed, "default.copy: refused");
    let reasons = [failure.message.clone()].into_iter();
    let lacking = Restore { completeness: Completeness::for_restore(reasons), ..completed(Previous::Gone) };
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
fn the_user_has_to_load_a_collection_that_is_not_reloaded_or_was_not_loaded() {
    let as_before = completed(Previous::Gone);
    let none = Restore { reload: Reload::None, ..as_before.clone() };
    let required = |loaded, restore| line_of(&line(loaded, CollectionStage::Waiting), restore)["loadRequired"].clone();
    assert_eq!(required(Loaded::Whole { replicas: 1 }, &as_before), false);
    assert_eq!(required(Loaded::No, &as_before), true);
    assert_eq!(required(Loaded::Whole { replicas: 1 }, &none), true);
}
