//! Records to store, with values that are hard to store.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta};
use milvault_model::{
    Account, AutoBackup, AutoRun, AutoRunState, Backup, BackupId, BackupName, BackupPhase, BackupRun, BackupState,
    CaptureTrouble, Charge, CollectionName, CollectionRestore, CollectionStage, Completeness, Copied, Copying,
    Correction, CountKind, Ending, Failure, FailureCode, Flushing, Grant, Hour, ImportJob, ImportProgress, ImportState,
    Imports, Instance, InstanceId, LeftOut, LeftOutCause, Loaded, Notice, ObjectKey, OnError, PageSet, Pass, Planning,
    Previous, Principal, Progress, Publishing, Region, Reload, RequestedSwitch, Restore, RestoreId, RestoreMode,
    RestorePhase, RestoreRun, RestoreState, RollbackStep, ScheduleState, Snapshot, Storage, Swap, Time, Totals,
    Unexplained, Unsettled, UsageRecord, Verification, Verifying, Visibility,
};

use crate::pending;

/// A time that uses every digit.
fn odd(time: Time) -> Time {
    time + TimeDelta::nanoseconds(123_456_789)
}

pub(super) fn instance(id: &InstanceId, at: Time) -> Instance {
    Instance {
        name: "Bestellungen — 注文 🛒".to_owned(),
        endpoint: "http://10.0.3.17:19530".to_owned(),
        storage: Some(Storage { bucket: "milvus-data".to_owned(), root_path: "files".parse().unwrap() }),
        created_at: odd(at),
        reported_engine_version: Some(String::new()),
        ..crate::instance(id.as_str())
    }
}

pub(super) fn backup(instance: &InstanceId, id: &BackupId, name: &BackupName, at: Time) -> Backup {
    Backup {
        name: name.clone(),
        engine_version: "2.5.4-0.1.1_3.2".to_owned(),
        selection: vec!["default.*".parse().unwrap(), "default.items".parse().unwrap()],
        created_at: odd(at),
        verification: Some(Verification {
            started_at: at,
            advanced_at: odd(at),
            completed_at: None,
            next: u32::MAX,
            objects_checked: u64::MAX,
            missing: vec!["a\"b".to_owned()],
            changed: Vec::new(),
        }),
        ..pending(instance, id.clone(), at)
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
            found_bytes: 5,
            counted_exactly: 15_999,
        },
        completeness: Completeness::Incomplete { reasons: vec!["default.items: why".to_owned()] },
        captured_as: Some(Principal {
            user: Some("backup".to_owned()),
            visibility: Visibility::Unsure { reason: "why".to_owned() },
        }),
    }
}

fn pages() -> PageSet {
    let mut pages = PageSet::default();
    pages.push((1 << 53) + 1);
    pages.push(u64::MAX);
    pages
}

fn failure() -> Failure {
    Failure::new(FailureCode::SourceChanged, "a \"quoted\"\nmessage")
}

pub(super) fn backup_states(at: Time) -> Vec<BackupState> {
    let phases = [
        BackupPhase::Flush(Flushing {
            after: Some("45".to_owned()),
            again: Some(Pass {
                capture: pages(),
                plan: pages(),
                collections: BTreeSet::from([i64::MIN, 0, i64::MAX]),
                unexplained: vec![Unexplained {
                    collection: i64::MAX,
                    code: FailureCode::SourceInconsistent,
                    reason: "why".to_owned(),
                }],
                superseded: BTreeSet::from([i64::MAX]),
                left_out: vec![LeftOut {
                    collection: "default.items".parse().unwrap(),
                    id: Some(i64::MAX),
                    reason: "why".to_owned(),
                    cause: LeftOutCause::Trouble,
                    code: Some(FailureCode::SourceChanged),
                }],
            }),
            restless: vec![Unsettled { what: "default.items".parse().unwrap(), rounds: u32::MAX, since: odd(at) }],
            troubled: vec![CaptureTrouble { collection: i64::MIN, since: odd(at), tried: odd(at) }],
            ..Flushing::default()
        }),
        BackupPhase::Plan(Planning {
            after: ObjectKey::from_source("insert_log/1/2/3/0/4"),
            bytes: u64::MAX,
            ..Planning::default()
        }),
        BackupPhase::Copy(Copying {
            plan: pages(),
            next: u32::MAX,
            ahead: BTreeSet::from([0, u32::MAX]),
            done: Copied { objects: (1 << 53) + 1, bytes: u64::MAX, added_bytes: 0 },
            ..Copying::default()
        }),
        BackupPhase::Verify(Verifying { capture: pages(), ..Verifying::default() }),
        BackupPhase::Publish(Publishing { next: 3, owned_bytes: 1 << 40 }),
        BackupPhase::Clean(Ending::Cancelled),
        BackupPhase::Clean(Ending::Failed(failure())),
    ];
    let progress = Progress {
        objects_done: 1,
        objects_total: u64::MAX,
        bytes_done: 0,
        bytes_total: (1 << 53) + 1,
        imports: Some(ImportProgress { jobs_done: 1, jobs_total: u64::MAX, rows_done: 0, rows_total: u64::MAX }),
    };
    let running = phases.map(|phase| {
        BackupState::Running(Box::new(BackupRun {
            phase,
            progress,
            survey: Some(pages()),
            ..BackupRun::begin(odd(at))
        }))
    });
    let (snapshot, failure) = (snapshot(at), failure());
    let mut states = vec![
        BackupState::Pending,
        BackupState::Available(snapshot.clone()),
        BackupState::Damaged { snapshot: snapshot.clone(), failure: failure.clone() },
        BackupState::Failed { started_at: None, ended_at: at, failure },
        BackupState::Cancelled { started_at: Some(odd(at)), ended_at: at },
        BackupState::Deleting { snapshot: snapshot.clone(), since: at, after: None },
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
        backup_region: "eu-west-1".parse().unwrap(),
        selection: vec!["default.items".parse().unwrap()],
        rename: BTreeMap::from([
            (name("default.items"), name("other.items")),
            (name("default.users"), name("default.people")),
        ]),
        mode: RestoreMode::Create,
        reload: Reload::None,
        on_error: OnError::Continue,
        keep_previous_hours: 24,
        created_at: odd(at),
        cancel_requested_at: None,
        warnings: vec!["ein Hinweis".to_owned()],
        collections: 2,
        completeness: Completeness::Incomplete { reasons: vec!["default.items: gone".to_owned()] },
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
        RestorePhase::Rollback { completed_at: odd(at), until: at, step: RollbackStep::PutBack },
    ];
    let (started_at, completed_at) = (odd(at), at);
    let kept = Previous::Kept { until: odd(at) };
    let mut states = vec![
        RestoreState::Pending,
        RestoreState::Completed { started_at, completed_at, previous: kept, leftovers_since: Some(at) },
        RestoreState::Completed { started_at, completed_at, previous: Previous::Gone, leftovers_since: None },
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
        rows_expected_kind: CountKind::Exact,
        rows_found: None,
        segments_per_job: 1,
        jobs: u32::MAX,
        lost_indexes: vec!["vector".to_owned()],
        attempts: 0,
        unavailable_ms: Some(0),
        failure: (number % 2 == 1).then(failure),
        warnings: (0..number % 3).map(|number| format!("warning {number}")).collect(),
        stage: CollectionStage::Waiting,
        since: (number % 2 == 1).then_some(DateTime::UNIX_EPOCH),
    }
}

pub(super) fn collection_stages() -> Vec<CollectionStage> {
    let import = |state| {
        let at_work = vec![ImportJob { group: u32::MAX, state }];
        Imports {
            completed: vec![i64::MIN, i64::MAX],
            rows: u64::MAX,
            empty: vec![u32::MAX],
            guessed: vec![-1],
            at_work,
        }
    };
    let grant = |name: &str| {
        let [role, database, object, name, privilege] =
            ["reader", "default", "Collection", name, "Query"].map(str::to_owned);
        Grant { role, database, object, name, privilege }
    };
    let swap = Swap {
        new_id: i64::MIN,
        live_id: None,
        live_loaded: Loaded::No,
        live_aliases: vec![],
        aliases: vec!["a".to_owned()],
        taken_aliases: vec![("a".to_owned(), "other".to_owned())],
        live_grants: vec![grant("items")],
        grants: vec![grant("*"), grant("")],
    };
    vec![
        CollectionStage::Waiting,
        CollectionStage::Built { id: None, imports: Imports::default() },
        CollectionStage::Built { id: Some(i64::MAX), imports: import(ImportState::Starting) },
        CollectionStage::Built { id: Some(i64::MAX), imports: import(ImportState::Failed) },
        CollectionStage::Built {
            id: Some(i64::MAX),
            imports: import(ImportState::Refused { since: DateTime::UNIX_EPOCH }),
        },
        CollectionStage::Built {
            id: Some(i64::MAX),
            imports: import(ImportState::Started {
                task: i64::MAX,
                progress: Some(u64::MAX),
                since: DateTime::UNIX_EPOCH,
            }),
        },
        CollectionStage::Imported { id: -1, rows: 0, empty: vec![7] },
        CollectionStage::Compared { id: 1 },
        CollectionStage::Verified { id: (1 << 53) + 1 },
        CollectionStage::Swapping(swap.clone()),
        CollectionStage::Swapped(Swap { live_id: Some(1), live_loaded: Loaded::Whole { replicas: 1 }, ..swap }),
        CollectionStage::Undone,
    ]
}

/// Automatic backups in every state; the first is due two minutes later.
pub(super) fn auto_backups(instance: &InstanceId, backup: &BackupId, at: Time) -> Vec<AutoBackup> {
    let off = AutoBackup::off(instance.clone());
    let mut plan = off.plan.clone();
    plan.timezone = "America/Argentina/ComodRivadavia".parse().unwrap();
    plan.keep_at_least = 365.try_into().unwrap();
    let on = off.clone().changed(plan, RequestedSwitch::On, odd(at));
    let with = |state| {
        let last_run = Some(AutoRun { scheduled_for: at, state });
        AutoBackup { schedule: ScheduleState::Confirmed, last_run, ..on.clone() }
    };
    vec![
        on.clone(),
        off,
        with(AutoRunState::Waiting { since: odd(at), failure: failure() }),
        with(AutoRunState::Started { at: odd(at), backup_id: backup.clone() }),
        with(AutoRunState::Failed { at, failure: failure() }),
        with(AutoRunState::Missed { at, failure: failure() }),
    ]
}

/// That this backup is damaged.
pub(super) fn notice(backup: &Backup, at: Time) -> Option<Notice> {
    let state = BackupState::Damaged { snapshot: snapshot(at), failure: failure() };
    Notice::backup_ended(&Backup { state, ..backup.clone() }, at)
}

/// With every kind of change.
pub(super) fn account(region: &Region, backup: &Backup) -> Account {
    let hour = Hour::containing(backup.created_at);
    let mut account = crate::account(&Backup { region: region.clone(), ..backup.clone() }, (1 << 53) + 1);
    account.inherit(hour, 7).unwrap();
    account.lose(hour.next(), 3).unwrap();
    account
}

/// A record without a price, and corrections of it with one.
pub(super) fn usage(region: &Region, backup: &Backup, hour: Hour) -> Vec<UsageRecord> {
    let metered = UsageRecord {
        region: region.clone(),
        hour,
        instance_id: backup.instance_id.clone(),
        backup_id: backup.id.clone(),
        kind: backup.kind,
        byte_hours: (1 << 53) + 1,
        logical_bytes: (1 << 53) + 3,
        charge: None,
        correction: None,
    };
    let correction = |id: &str| UsageRecord {
        byte_hours: -5,
        charge: Some(Charge {
            currency: "EUR".to_owned().try_into().unwrap(),
            unit_price: "0.000000000931322574615478515625".parse().unwrap(),
            cost: "-0.1".parse().unwrap(),
        }),
        correction: Some(Correction {
            id: id.to_owned().try_into().unwrap(),
            reason: "doppelt gezählt".to_owned(),
            made_at: backup.created_at,
        }),
        ..metered.clone()
    };
    vec![metered.clone(), correction("Invoice.1"), correction("invoice-2")]
}
