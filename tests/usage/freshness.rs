//! How old each instance's newest backup is, over a catalog in memory.

use chrono::{DateTime, TimeDelta};
use milvault_billing::{
    freshness::{Freshness, freshness},
    meter::meter,
};
use milvault_memory::{MemoryWorld, available};
use milvault_model::{
    Account, AutoBackup, Backup, BackupId, BackupState, CaptureMethod, Failure, FailureCode, Hour, Instance,
    InstanceId, Plan, Region, Time, Wanted,
};
use milvault_ports::{Bucket, Catalog, Deadline, Expect, Write};

/// Half past ten, on the first of February.
const NOW: Time = DateTime::from_timestamp_nanos(1_769_941_800_000_000_000);
const SIZE: u64 = 1 << 31;

fn region() -> Region {
    "eu-west-1".parse().unwrap()
}

fn orders() -> InstanceId {
    "orders".parse().unwrap()
}

/// With one instance, whose automatic backups have been on for so many days.
async fn world(days: i64) -> MemoryWorld {
    let world = MemoryWorld::new(&[Bucket { region: region(), name: "snapshots".to_owned() }], NOW);
    let instance = Instance {
        copy_workers: 1,
        id: orders(),
        name: "orders".to_owned(),
        endpoint: "http://milvus:19530".to_owned(),
        region: region(),
        storage: None,
        auth: None,
        management_endpoint: None,
        created_at: DateTime::UNIX_EPOCH,
        reported_engine_version: None,
    };
    let on = AutoBackup::off(orders()).changed(Plan::default(), Wanted::On, NOW - TimeDelta::days(days));
    let writes =
        vec![Write::Instance(Box::new(instance), Expect::Absent), Write::AutoBackup(Box::new(on), Expect::Absent)];
    world.catalog.commit(writes).await.unwrap();
    world
}

/// A backup of so many hours ago, as `change` leaves it.
async fn made(world: &MemoryWorld, hours: i64, change: impl FnOnce(&mut Backup)) -> Backup {
    let made = NOW - TimeDelta::hours(hours);
    let id = BackupId::new(world.jobs.ports.ids.ulid(made));
    let mut backup = available(&orders(), id, &region(), made, SIZE);
    backup.method = CaptureMethod::Binlog;
    change(&mut backup);
    world.catalog.commit(vec![Write::Backup(Box::new(backup.clone()), Expect::Absent)]).await.unwrap();
    backup
}

fn fails(backup: &mut Backup) {
    let failure = Failure::new(FailureCode::Stalled, "it stood still");
    backup.state = BackupState::Failed { started_at: None, ended_at: backup.created_at, failure };
}

fn is_damaged(backup: &mut Backup) {
    let snapshot = backup.state.snapshot().unwrap().clone();
    backup.state = BackupState::Damaged { snapshot, failure: Failure::new(FailureCode::SnapshotDamaged, "gone") };
}

async fn stands(world: &MemoryWorld) -> (Option<i64>, bool) {
    let page = freshness(&world.jobs, None, NOW).await.unwrap();
    let [Freshness { instance_id, newest, is_overdue }] = page.items.as_slice() else { panic!("{:?}", page.items) };
    assert_eq!((instance_id, page.more), (&orders(), false));
    (newest.map(|newest| (NOW - newest).num_hours()), *is_overdue)
}

#[tokio::test]
async fn a_backup_that_added_nothing_is_as_new_as_any_though_there_is_nothing_to_bill_of_it() {
    let world = world(30).await;
    let first = made(&world, 72, |_| {}).await;
    let (hour, ids) = (Hour::of(first.created_at), (first.instance_id.clone(), first.id.clone()));
    let account = Account::open(region(), ids.0, ids.1, first.kind, SIZE, (hour, SIZE));
    world.catalog.commit(vec![Write::Account(Box::new(account), Expect::Absent)]).await.unwrap();
    assert_eq!(stands(&world).await, (Some(72), true));
    // Idle data: the backup of the next night stores nothing, and so opens no account.
    made(&world, 5, |_| {}).await;
    let metered = meter(&world.jobs, &region(), Deadline::at(NOW + TimeDelta::minutes(14))).await.unwrap();
    assert_eq!(metered.accounts, 1);
    assert_eq!(stands(&world).await, (Some(5), false));
}

#[tokio::test]
async fn what_can_not_be_restored_is_no_newest_backup() {
    let world = world(30).await;
    made(&world, 60, |_| {}).await;
    made(&world, 9, is_damaged).await;
    for hours in 1..8 {
        made(&world, hours, fails).await;
    }
    made(&world, 0, |backup| backup.state = BackupState::Pending).await;
    assert_eq!(stands(&world).await, (Some(60), true));
}

#[tokio::test]
async fn behind_a_thousand_failures_no_backup_is_looked_for() {
    let world = world(30).await;
    made(&world, 1_100, |_| {}).await;
    for hours in 1..=960 {
        made(&world, hours, fails).await;
    }
    assert_eq!(stands(&world).await, (Some(1_100), true));
    for hours in 961..=1_050 {
        made(&world, hours, fails).await;
    }
    assert_eq!(stands(&world).await, (None, true));
}

#[tokio::test]
async fn nothing_is_overdue_before_automatic_backups_have_been_on_for_two_days() {
    assert_eq!(stands(&world(1).await).await, (None, false));
    assert_eq!(stands(&world(3).await).await, (None, true));
    let world = world(1).await;
    made(&world, 72, |_| {}).await;
    assert_eq!(stands(&world).await, (Some(72), false));
}
