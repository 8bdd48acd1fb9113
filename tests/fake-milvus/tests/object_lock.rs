//! Backups into a bucket with Object Lock: what they name can't be destroyed before they may go.
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use milvault_fake_milvus::Line;
use milvault_jobs::{
    Jobs, backup, deletion,
    ports::{Clock, Deadline, LockMode, Locking},
    sweep::{SweepMode, sweep},
};
use milvault_memory::TestClock;
use milvault_model::{Backup, BackupStatus, Time};
use world::{World, back_up_for};

const PERIOD: TimeDelta = TimeDelta::days(30);

/// The real time, some days ahead, as the bucket tells it too.
struct ClockAhead {
    ahead: Mutex<TimeDelta>,
    buckets: Arc<TestClock>,
}

impl ClockAhead {
    fn advance(&self, by: TimeDelta) {
        *self.ahead.lock().unwrap() += by;
    }
}

#[async_trait]
impl Clock for ClockAhead {
    fn now(&self) -> Time {
        let now = Utc::now() + *self.ahead.lock().unwrap();
        self.buckets.set(now);
        now
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// An instance with a collection, and a bucket for its snapshots that locks what is new.
async fn locking_world() -> (World, Jobs, Arc<ClockAhead>) {
    let world = World::of(Line::ALL[0]).await;
    world.fake.add_collection("items", &[], milvault_fake_milvus::Loading::Loaded).await;
    world.fake.insert("items", "_default", 20).await;
    world.fake.seal("items").await;
    let buckets = Arc::new(TestClock::new(Utc::now()));
    let clock = Arc::new(ClockAhead { ahead: Mutex::default(), buckets: buckets.clone() });
    world.objects.lock_new(&world.snapshots, Locking { mode: LockMode::Governance, period: PERIOD }, buckets);
    let mut jobs = world.jobs().await;
    jobs.ports.clock = clock.clone();
    (world, jobs, clock)
}

/// Until when what the instance's backups share is locked, and what is this one's alone.
fn locks(world: &World, of: &Backup) -> BTreeMap<String, Time> {
    let (data, documents) =
        (format!("{}/objects/", world.instance.id), format!("{}/snapshots/{}/", world.instance.id, of.id));
    let locks = world.objects.locks(&world.snapshots).into_iter();
    let locks = locks.filter(|(key, _)| key.starts_with(&data) || key.starts_with(&documents));
    locks.map(|(key, until)| (key, until.unwrap())).collect()
}

/// Everything of a backup is locked until that time, and as long as its record says.
fn assert_locked(world: &World, backup: &Backup, until: Time) {
    let least = locks(world, backup).into_values().min().unwrap();
    let promised = backup.locked_until.unwrap();
    assert!(until <= promised && promised <= least, "{until} {promised} {least}");
}

#[tokio::test]
async fn what_backups_share_is_locked_for_each_of_them_and_seldom_renewed() {
    let (world, jobs, clock) = locking_world().await;
    let mut renewals = 0;
    let mut before = BTreeMap::new();
    for night in 0..45 {
        let backup = back_up_for(&jobs, &world, &format!("night {night}"), Some(TimeDelta::days(3))).await;
        assert_locked(&world, &backup, backup.expires_at.unwrap());
        let now = locks(&world, &backup);
        renewals += usize::from(before.iter().any(|(key, until)| now.get(key).is_some_and(|now| now > until)));
        before = now;
        clock.advance(TimeDelta::days(1));
    }
    // Every 22 nights: eight days are always left.
    assert_eq!(renewals, 2);
}

#[tokio::test]
async fn a_backup_that_is_kept_for_longer_than_the_period_is_locked_until_its_expiry() {
    let (world, jobs, _) = locking_world().await;
    back_up_for(&jobs, &world, "first", Some(TimeDelta::days(3))).await;
    let backup = back_up_for(&jobs, &world, "second", Some(TimeDelta::days(400))).await;
    assert_locked(&world, &backup, backup.expires_at.unwrap());
}

#[tokio::test]
async fn what_has_expired_or_is_deleted_goes_when_its_locks_end_and_not_before() {
    let (world, jobs, clock) = locking_world().await;
    let expired = back_up_for(&jobs, &world, "expired", Some(TimeDelta::days(3))).await;
    let unwanted = back_up_for(&jobs, &world, "unwanted", None).await;
    let deadline = || Deadline::at(clock.now() + TimeDelta::minutes(5));
    let status = async |of: &Backup| {
        jobs.ports.catalog.backup(&of.instance_id, &of.id).await.unwrap().unwrap().value.state.status()
    };
    let asked = deletion::delete(&jobs, &unwanted.instance_id, &unwanted.id, deadline()).await.unwrap();
    assert_eq!((asked.state.status(), asked.free_from), (BackupStatus::Available, unwanted.free_from));

    let mut before = world.objects.locks(&world.snapshots);
    for day in 0..32 {
        sweep(&jobs, SweepMode::Act, deadline()).await.unwrap();
        let now = world.objects.locks(&world.snapshots);
        for (key, until) in before.iter().filter(|(key, _)| !now.contains_key(*key)) {
            assert!(until.unwrap() <= clock.now(), "day {day}: {key} is locked until {until:?}");
        }
        before = now;
        // A verification renews nothing of what is to go, which would stay for ever then.
        if day % 7 == 6 && day < 28 {
            for of in [&expired, &unwanted] {
                let verified = backup::verify(&jobs, &of.instance_id, &of.id, deadline()).await;
                assert_eq!(verified.unwrap().free_from, of.free_from, "day {day}");
            }
        }
        if clock.now() < expired.free_from.unwrap().min(unwanted.free_from.unwrap()) {
            assert_eq!(status(&expired).await, BackupStatus::Available, "day {day}");
            assert_eq!(status(&unwanted).await, BackupStatus::Available, "day {day}");
        }
        clock.advance(TimeDelta::days(1));
    }
    assert_eq!((status(&expired).await, status(&unwanted).await), (BackupStatus::Deleted, BackupStatus::Deleted));
    assert!(before.keys().all(|key| !key.starts_with(&format!("{}/", world.instance.id))), "{before:?}");
}

#[tokio::test]
async fn verifying_a_backup_without_an_expiry_renews_its_locks_before_they_end() {
    let (world, jobs, clock) = locking_world().await;
    let backup = back_up_for(&jobs, &world, "kept", None).await;
    let verified = async || {
        let deadline = Deadline::at(jobs.ports.clock.now() + TimeDelta::minutes(5));
        backup::verify(&jobs, &backup.instance_id, &backup.id, deadline).await.unwrap()
    };
    for week in 0..9 {
        let now = clock.now();
        let found = verified().await;
        // Until the next verification, and a day more.
        assert_locked(&world, &found, now + TimeDelta::days(8));
        let renewed = found.locked_until.unwrap() >= now + PERIOD;
        assert_eq!(renewed, week > 0 && week % 4 == 0, "week {week}");
        clock.advance(TimeDelta::days(7));
    }
}
