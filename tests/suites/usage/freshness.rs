//! How old each instance's newest backup is, over a catalog in memory.

use chrono::{DateTime, TimeDelta};
use milvault_billing::{
    freshness::{Freshness, freshness},
    meter::meter,
};
use milvault_harness::{MemoryWorld, account, available, bucket, instance, minutes_left, region, register};
use milvault_model::{
    AutoBackup, Backup, BackupId, BackupState, Failure, FailureCode, InstanceId, Plan, RequestedSwitch, Time,
};
use milvault_ports::{Catalog, Expect, Write};

/// Half past ten, on the first of February.
const NOW: Time = DateTime::from_timestamp_nanos(1_769_941_800_000_000_000);
const SIZE: u64 = 1 << 31;

fn orders() -> InstanceId {
    "orders".parse().unwrap()
}

/// A world with one instance, whose automatic backups have been on for this many days.
async fn world(days: i64) -> MemoryWorld {
    let world = MemoryWorld::new(&[bucket("snapshots")], NOW);
    register(world.catalog.as_ref(), &instance(orders().as_str())).await;
    let on = AutoBackup::off(orders()).changed(Plan::default(), RequestedSwitch::On, NOW - TimeDelta::days(days));
    world.catalog.commit(vec![Write::AutoBackup(Box::new(on), Expect::Absent)]).await.unwrap();
    world
}

/// A backup of this many hours ago, changed by `change`.
async fn made(world: &MemoryWorld, hours: i64, change: impl FnOnce(&mut Backup)) -> Backup {
    let made = NOW - TimeDelta::hours(hours);
    let id = BackupId::new(world.jobs.ports.ids.ulid(made));
    let mut backup = available(&orders(), id, made, SIZE);
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
    assert_eq!((instance_id, page.next.as_deref()), (&orders(), None));
    (newest.map(|newest| (NOW - newest).num_hours()), *is_overdue)
}

#[tokio::test]
async fn a_backup_that_stored_nothing_new_counts_as_the_newest_though_it_has_no_account() {
    let world = world(30).await;
    let first = made(&world, 72, |_| {}).await;
    let account = Write::Account(Box::new(account(&first, SIZE)), Expect::Absent);
    world.catalog.commit(vec![account]).await.unwrap();
    assert_eq!(stands(&world).await, (Some(72), true));
    // The next night's backup of idle data stores nothing and opens no account.
    made(&world, 5, |_| {}).await;
    let metered = meter(&world.jobs, &region(), minutes_left(&world.jobs, 14)).await.unwrap();
    assert_eq!(metered.accounts, 1);
    assert_eq!(stands(&world).await, (Some(5), false));
}

#[tokio::test]
async fn a_backup_that_cannot_be_restored_does_not_count_as_the_newest() {
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
async fn the_search_for_the_newest_backup_ends_after_a_thousand_failures() {
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
