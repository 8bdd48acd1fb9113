//! Records to store, with values that are hard to store.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use milvault_model::{
    Backup, BackupId, BackupKind, BackupName, BackupPhase, BackupRun, BackupState, CaptureMethod, CollectionName,
    CollectionRestore, CollectionStage, Ending, Failure, FailureCode, ImportState, ImportTask, Instance, InstanceId,
    Loaded, Previous, Progress, Reload, Restore, RestoreId, RestoreMode, RestorePhase, RestoreRun, RestoreState,
    Snapshot, Storage, Swap, Time, Totals,
};

/// A time whose every digit counts.
fn odd(time: Time) -> Time {
    time + TimeDelta::nanoseconds(123_456_789)
}

pub(super) fn instance(id: &InstanceId, at: Time) -> Instance {
    Instance {
        id: id.clone(),
        name: "Bestellungen — 注文 🛒".to_owned(),
        endpoint: "http://10.0.3.17:19530".to_owned(),
        region: "eu-west-1".parse().unwrap(),
        storage: Some(Storage { bucket: "milvus-data".to_owned(), root_path: "files".to_owned() }),
        auth: None,
        management_endpoint: None,
        created_at: odd(at),
        reported_engine_version: Some(String::new()),
    }
}

pub(super) fn backup(instance: &InstanceId, id: &BackupId, name: &BackupName, at: Time) -> Backup {
    Backup {
        id: id.clone(),
        instance_id: instance.clone(),
        name: name.clone(),
        kind: BackupKind::Manual,
        method: CaptureMethod::Binlog,
        region: "eu-west-1".parse().unwrap(),
        engine_version: "2.5.4-0.1.1_3.2".to_owned(),
        selection: vec!["default.*".parse().unwrap(), "default.items".parse().unwrap()],
        created_at: odd(at),
        expires_at: None,
        cancel_requested_at: None,
        pins: BTreeSet::new(),
        state: BackupState::Pending,
    }
}

pub(super) fn snapshot(at: Time) -> Snapshot {
    Snapshot {
        started_at: at,
        completed_at: odd(at),
        point_in_time: at,
        totals: Totals {
            size_bytes: u64::MAX,
            added_bytes: i64::MAX as u64 + 1,
            objects: (1 << 53) + 1,
            collections: 16_000,
            entities: 0,
        },
    }
}

fn failure() -> Failure {
    Failure::new(FailureCode::SourceChanged, "a \"quoted\"\nmessage")
}

pub(super) fn backup_states(at: Time) -> Vec<BackupState> {
    let phases = [
        BackupPhase::Flush,
        BackupPhase::Plan { capture: u64::MAX },
        BackupPhase::Copy { plan: 1, pages: u32::MAX, next: 0, done_bytes: 0, added_bytes: u64::MAX },
        BackupPhase::Verify { plan: (1 << 53) + 1, pages: 0, added_bytes: 0 },
        BackupPhase::Publish,
        BackupPhase::Clean(Ending::Cancelled),
        BackupPhase::Clean(Ending::Failed(failure())),
    ];
    let progress = Progress { objects_done: 1, objects_total: u64::MAX, bytes_done: 0, bytes_total: (1 << 53) + 1 };
    let running = phases.map(|phase| BackupState::Running(BackupRun { phase, progress, ..BackupRun::begin(odd(at)) }));
    let (snapshot, failure) = (snapshot(at), failure());
    let mut states = vec![
        BackupState::Pending,
        BackupState::Available(snapshot.clone()),
        BackupState::Damaged { snapshot: snapshot.clone(), failure: failure.clone() },
        BackupState::Failed { started_at: None, ended_at: at, failure },
        BackupState::Cancelled { started_at: Some(odd(at)), ended_at: at },
        BackupState::Deleting { snapshot: snapshot.clone(), since: at },
        BackupState::Deleted { snapshot, deleted_at: at },
    ];
    states.extend(running);
    states
}

pub(super) fn restore(instance: &InstanceId, id: &RestoreId, backup: &BackupId, at: Time) -> Restore {
    let name = |name: &str| name.parse::<CollectionName>().unwrap();
    Restore {
        id: id.clone(),
        instance_id: instance.clone(),
        source_instance_id: instance.clone(),
        backup_id: backup.clone(),
        backup_name: "vor der Umstellung".parse().unwrap(),
        selection: vec!["default.items".parse().unwrap()],
        rename: BTreeMap::from([
            (name("default.items"), name("other.items")),
            (name("default.users"), name("default.people")),
        ]),
        mode: RestoreMode::Create,
        reload: Reload::None,
        keep_previous_hours: 24,
        created_at: odd(at),
        cancel_requested_at: None,
        warnings: vec!["ein Hinweis".to_owned()],
        collections: 2,
        state: RestoreState::Pending,
    }
}

pub(super) fn restore_states(at: Time) -> Vec<RestoreState> {
    let phases = [
        RestorePhase::Stage { next: None },
        RestorePhase::Stage { next: Some(u32::MAX) },
        RestorePhase::Build,
        RestorePhase::Import,
        RestorePhase::Verify,
        RestorePhase::Swap,
        RestorePhase::Clean,
        RestorePhase::Undo(Ending::Failed(failure())),
        RestorePhase::Rollback { completed_at: odd(at), until: at },
    ];
    let (started_at, completed_at) = (odd(at), at);
    let kept = Previous::Kept { until: odd(at) };
    let mut states = vec![
        RestoreState::Pending,
        RestoreState::Completed { started_at, completed_at, previous: kept },
        RestoreState::Completed { started_at, completed_at, previous: Previous::Gone },
        RestoreState::Failed { started_at: None, ended_at: at, failure: failure(), leftovers_since: Some(at) },
        RestoreState::Cancelled { started_at: Some(at), ended_at: at, leftovers_since: None },
        RestoreState::RolledBack { started_at, completed_at, rolled_back_at: at },
    ];
    states.extend(phases.map(|phase| RestoreState::Running(RestoreRun::resume(at, phase))));
    states
}

pub(super) fn ledger_line(number: u32) -> CollectionRestore {
    CollectionRestore {
        number,
        source: CollectionName::new("default", "items"),
        source_id: i64::MIN,
        target: CollectionName::new("default", format!("items_{number}")),
        capture_page: u32::MAX,
        loaded_before: Loaded::Partitions { replicas: 2, names: vec!["_default".to_owned(), String::new()] },
        rows_expected: u64::MAX,
        rows_found: None,
        attempts: 0,
        unavailable_ms: Some(0),
        stage: CollectionStage::Waiting,
    }
}

pub(super) fn collection_stages() -> Vec<CollectionStage> {
    let import = |state| ImportTask { partition: "_default".to_owned(), source_partition_id: i64::MAX, state };
    let imports = vec![
        import(ImportState::Planned),
        import(ImportState::Starting),
        import(ImportState::Started { task: i64::MAX }),
        import(ImportState::Completed { task: i64::MIN, rows: u64::MAX }),
    ];
    let swap = Swap {
        new_id: i64::MIN,
        live_id: None,
        live_loaded: Loaded::No,
        live_aliases: vec![],
        aliases: vec!["a".to_owned()],
        taken_aliases: vec![("a".to_owned(), "other".to_owned())],
    };
    vec![
        CollectionStage::Waiting,
        CollectionStage::Built { id: None, imports: vec![] },
        CollectionStage::Built { id: Some(i64::MAX), imports },
        CollectionStage::Imported { id: -1, rows: 0 },
        CollectionStage::Verified { id: (1 << 53) + 1 },
        CollectionStage::Swapping(swap.clone()),
        CollectionStage::Swapped(Swap { live_id: Some(1), live_loaded: Loaded::Whole { replicas: 1 }, ..swap }),
        CollectionStage::Undone,
    ]
}
