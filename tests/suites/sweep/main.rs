//! The sweep at scale: ten thousand backups across a thousand instances, and the cost of each.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use chrono::{DateTime, TimeDelta};
use milvault_harness::{MemoryWorld, available, bucket, minutes_left};
use milvault_jobs::sweep::{SweepMode, SweepReport, sweep};
use milvault_model::{AutoBackup, Backup, BackupId, BackupKind, BackupStatus, InstanceId, NoticeKind, Plan, Time};
use milvault_ports::{Catalog, Expect, Write};

const INSTANCES: u64 = 1_000;
const BACKUPS: u64 = 10;

/// How many of each instance's newest backups outlive their expiry.
const KEPT: u32 = 2;

const NOW: Time = DateTime::from_timestamp_nanos(1_800_000_000_000_000_000);

fn world() -> World {
    World(MemoryWorld::new(&[bucket("snapshots")], NOW))
}

struct World(MemoryWorld);

impl std::ops::Deref for World {
    type Target = MemoryWorld;

    fn deref(&self) -> &MemoryWorld {
        &self.0
    }
}

fn instance(number: u64) -> InstanceId {
    format!("instance-{number:04}").parse().unwrap()
}

impl World {
    /// An automatic backup of this many hours ago, which expired half an hour ago.
    async fn put_backup(&self, instance: &InstanceId, hours: u64) -> Backup {
        let made = NOW - TimeDelta::hours(hours.cast_signed());
        let id = BackupId::new(self.jobs.ports.ids.ulid(made));
        let backup = Backup {
            name: format!("auto-{hours}").parse().unwrap(),
            kind: BackupKind::Auto,
            expires_at: Some(NOW - TimeDelta::minutes(30)),
            ..available(instance, id, made, 1)
        };
        self.catalog.commit(vec![Write::Backup(Box::new(backup.clone()), Expect::Absent)]).await.unwrap();
        backup
    }

    async fn sweep(&self, mode: SweepMode) -> SweepReport {
        sweep(&self.jobs, mode, minutes_left(&self.jobs, 14)).await.unwrap()
    }

    async fn status(&self, backup: &Backup) -> BackupStatus {
        let found = self.catalog.backup(&backup.instance_id, &backup.id).await.unwrap();
        found.unwrap().value.state.status()
    }
}

#[tokio::test]
async fn ten_thousand_expired_backups_are_deleted_at_a_bounded_cost_and_kept_ones_are_not_read_again() {
    let world = world();
    let mut backups = Vec::new();
    for number in 0..INSTANCES {
        let instance = instance(number);
        let plan = Plan { keep_at_least: KEPT.try_into().unwrap(), ..Plan::default() };
        let record = AutoBackup { plan, ..AutoBackup::off(instance.clone()) };
        world.catalog.commit(vec![Write::AutoBackup(Box::new(record), Expect::Absent)]).await.unwrap();
        for hours in 0..BACKUPS {
            backups.push((hours, world.put_backup(&instance, hours).await));
        }
    }
    let count = u64::try_from(backups.len()).unwrap();
    let kept = INSTANCES * u64::from(KEPT);

    let before = world.catalog.requests();
    let dry = world.sweep(SweepMode::DryRun).await;
    assert!(dry.errors.is_empty(), "{:?}", dry.errors);
    assert_eq!(dry.expired.len() as u64 + dry.unlisted, count);
    let looked = world.catalog.requests() - before;
    assert!(looked <= count * 4, "{looked} requests to look at {count} backups");

    let before = world.catalog.requests();
    let report = world.sweep(SweepMode::Act).await;
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    // The report doesn't grow with the amount of work.
    assert!(report.expired.len() <= 1_000 && report.expired.len() as u64 + report.unlisted >= count);
    let requests = world.catalog.requests() - before;
    assert!(requests <= count * 20, "{requests} requests for {count} backups");
    for (hours, backup) in &backups {
        let expected = if *hours < KEPT.into() { BackupStatus::Available } else { BackupStatus::Deleted };
        assert_eq!(world.status(backup).await, expected, "{} hours old, of {}", hours, backup.instance_id);
    }
    let told = world.events.published();
    assert_eq!(told.len() as u64, count - kept);
    assert!(told.iter().all(|notice| notice.kind == NoticeKind::BackupExpired));

    // Kept backups aren't read by every sweep.
    let before = world.catalog.requests();
    world.clock.advance(TimeDelta::minutes(15));
    assert!(world.sweep(SweepMode::Act).await.expired.is_empty());
    assert!(world.catalog.requests() - before <= 20);

    // A newer backup takes a kept one's place.
    let first = instance(0);
    world.put_backup(&first, 0).await;
    world.clock.advance(TimeDelta::hours(1));
    world.sweep(SweepMode::Act).await;
    let oldest_kept = backups.iter().find(|(hours, backup)| *hours == 1 && backup.instance_id == first).unwrap();
    assert_eq!(world.status(&oldest_kept.1).await, BackupStatus::Deleted);
}

#[tokio::test]
async fn a_dry_run_reports_each_decision_with_its_reason_and_changes_nothing() {
    let world = world();
    let backup = world.put_backup(&instance(1), 2).await;
    let before = world.catalog.backup(&backup.instance_id, &backup.id).await.unwrap();
    let report = world.sweep(SweepMode::DryRun).await;
    let [expired] = report.expired.as_slice() else { panic!("{report:?}") };
    assert_eq!((expired.outcome.as_str(), &expired.backup_id), ("Delete", &backup.id));
    assert!(expired.reason.as_ref().unwrap().starts_with("it expired at 2027-01-15T07:30"), "{expired:?}");
    assert_eq!(world.catalog.backup(&backup.instance_id, &backup.id).await.unwrap(), before);
    assert!(world.events.published().is_empty());
}

#[tokio::test]
async fn verifications_overdue_by_more_than_a_day_are_counted_until_they_succeed() {
    let world = world();
    let kept = async |number: u64, hours: u64| {
        let made = world.put_backup(&instance(number), hours).await;
        let kept = Backup { expires_at: None, ..made };
        world.catalog.commit(vec![Write::Backup(Box::new(kept), Expect::Version(1))]).await.unwrap();
    };
    // A verification is due a week after the backup was made.
    kept(1, 7 * 24 + 23).await;
    kept(2, 8 * 24 + 1).await;
    let report = world.sweep(SweepMode::Act).await;
    assert_eq!((report.verifications.len(), report.verifications_overdue), (2, 1));
    // No verification is ever carried out here.
    world.clock.advance(TimeDelta::hours(2));
    assert_eq!(world.sweep(SweepMode::Act).await.verifications_overdue, 2);
}
