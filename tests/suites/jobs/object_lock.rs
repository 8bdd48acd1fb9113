//! Tests of backups into a bucket with Object Lock: no object can be deleted before its backups may be.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use milvault_fake_milvus::Line;
use milvault_harness::{TestClock, locked, minutes_left};
use milvault_jobs::{
    Jobs, Precondition, deletion, schedule, scrub,
    sweep::{SweepMode, sweep},
};
use milvault_model::{Backup, BackupId, BackupStatus, InstanceId, JobRef, Plan, RequestedSwitch, Time};
use milvault_ports::{Clock, Continuation, ContinuationError, Expect, LockMode, Locking, Write};
use milvault_tests::world::{World, back_up_as, back_up_automatically, back_up_for};

const PERIOD: TimeDelta = TimeDelta::days(30);

/// A clock ahead of the real time by some days, for the jobs and the bucket.
struct ClockAhead {
    ahead: Mutex<TimeDelta>,
    buckets: Arc<TestClock>,
}

impl ClockAhead {
    fn advance(&self, by: TimeDelta) {
        *locked(&self.ahead) += by;
    }
}

#[async_trait]
impl Clock for ClockAhead {
    fn now(&self) -> Time {
        let now = Utc::now() + *locked(&self.ahead);
        self.buckets.set(now);
        now
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A continuation that resumes nothing, and records the backups whose verification was requested.
#[derive(Default)]
struct Verifications(Mutex<Vec<BackupId>>);

#[async_trait]
impl Continuation for Verifications {
    async fn resume(&self, _: &JobRef) -> Result<(), ContinuationError> {
        Ok(())
    }

    async fn verify(&self, _: &InstanceId, backup: &BackupId) -> Result<(), ContinuationError> {
        locked(&self.0).push(backup.clone());
        Ok(())
    }

    async fn begin_run(&self, _: &InstanceId, _: Time) -> Result<(), ContinuationError> {
        Ok(())
    }
}

/// A world with one collection, whose snapshot bucket locks new objects.
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

/// The ends of the locks of the instance's shared objects and of this backup's documents, by key.
fn locks(world: &World, backup: &Backup) -> BTreeMap<String, Time> {
    let (data, documents) =
        (format!("{}/objects/", world.instance.id), format!("{}/snapshots/{}/", world.instance.id, backup.id));
    let locks = world.objects.locks(&world.snapshots).into_iter();
    let locks = locks.filter(|(key, _)| key.starts_with(&data) || key.starts_with(&documents));
    locks.map(|(key, until)| (key, until.unwrap())).collect()
}

/// Checks that all of a backup's objects are locked at least until this time, as its record says.
fn assert_locked(world: &World, backup: &Backup, until: Time) {
    let earliest = locks(world, backup).into_values().min().unwrap();
    let recorded = backup.all_locked_until.unwrap();
    assert!(until <= recorded && recorded <= earliest, "{until} {recorded} {earliest}");
}

#[tokio::test]
async fn shared_objects_are_locked_for_every_backup_and_seldom_renewed() {
    let (world, jobs, clock) = locking_world().await;
    let mut renewals = 0;
    let mut before = BTreeMap::new();
    for night in 0..45 {
        let backup = back_up_for(&jobs, &world, &format!("night {night}"), TimeDelta::days(3)).await;
        assert_locked(&world, &backup, backup.expires_at.unwrap());
        let now = locks(&world, &backup);
        renewals += usize::from(before.iter().any(|(key, until)| now.get(key).is_some_and(|now| now > until)));
        before = now;
        clock.advance(TimeDelta::days(1));
    }
    // Locks are renewed every 27th night, so that three days are always left.
    assert_eq!(renewals, 1);
}

#[tokio::test]
async fn a_backup_that_is_kept_for_longer_than_the_period_is_locked_until_its_expiry() {
    let (world, jobs, _) = locking_world().await;
    back_up_for(&jobs, &world, "first", TimeDelta::days(3)).await;
    let backup = back_up_for(&jobs, &world, "second", TimeDelta::days(400)).await;
    assert_locked(&world, &backup, backup.expires_at.unwrap());
}

#[tokio::test]
async fn a_backup_that_expires_is_locked_until_its_expiry_and_verifications_do_not_extend_that() {
    for days in [10, 30, 45] {
        let (world, jobs, clock) = locking_world().await;
        back_up_for(&jobs, &world, "first", TimeDelta::days(3)).await;
        clock.advance(TimeDelta::days(5));
        let made = back_up_for(&jobs, &world, "second", TimeDelta::days(days)).await;
        let may_go = made.expires_at.unwrap().max(made.created_at + PERIOD);
        assert!(made.locked_until.unwrap() - may_go < TimeDelta::minutes(5), "{days} days");
        for _ in 0..days / 7 {
            clock.advance(TimeDelta::days(7));
            let deadline = minutes_left(&jobs, 5);
            let found = scrub::verify(&jobs, &made.instance_id, &made.id, deadline).await.unwrap();
            assert_eq!(found.locked_until, made.locked_until, "{days} days");
            assert_locked(&world, &found, made.expires_at.unwrap());
        }
        assert!(locks(&world, &made).into_values().all(|until| until <= made.locked_until.unwrap()), "{days} days");
    }
}

#[tokio::test]
async fn an_automatic_backup_that_is_kept_past_its_expiry_is_locked_again() {
    let (world, mut jobs, clock) = locking_world().await;
    let requested = Arc::new(Verifications::default());
    jobs.ports.continuation = requested.clone();
    let instance = &world.instance.id;
    let plan = Plan { keep_at_least: 1.try_into().unwrap(), ..Plan::default() };
    schedule::change(&jobs, instance, &|_| plan.clone(), RequestedSwitch::On, &Precondition::None).await.unwrap();
    let made = back_up_automatically(&jobs, &world, "nightly", PERIOD).await;
    let verify = async || {
        let deadline = minutes_left(&jobs, 5);
        scrub::verify(&jobs, instance, &made.id, deadline).await.unwrap()
    };
    clock.advance(TimeDelta::days(28));
    assert_eq!(verify().await.all_locked_until, made.all_locked_until, "the backup is to expire");

    clock.advance(TimeDelta::days(2) + TimeDelta::hours(1));
    let sweeps = async || sweep(&jobs, SweepMode::Act, minutes_left(&jobs, 5)).await.unwrap();
    sweeps().await;
    assert_eq!(std::mem::take(&mut *locked(&requested.0)), std::slice::from_ref(&made.id));
    let verified = verify().await;
    assert_eq!(verified.state.status(), BackupStatus::Available);
    assert_locked(&world, &verified, clock.now() + TimeDelta::days(8));
    // The lock lasts for weeks.
    clock.advance(TimeDelta::hours(2));
    sweeps().await;
    assert!(locked(&requested.0).is_empty());
}

#[tokio::test]
async fn a_restore_that_reads_a_backup_does_not_delay_its_requested_deletion() {
    let (world, jobs, clock) = locking_world().await;
    let made = back_up_as(&jobs, &world, "read").await;
    clock.advance(TimeDelta::days(25));
    let deadline = minutes_left(&jobs, 5);
    deletion::delete(&jobs, &made.instance_id, &made.id, deadline).await.unwrap();
    let mut found = jobs.ports.catalog.backup(&made.instance_id, &made.id).await.unwrap().unwrap();
    found.value.pins.insert("rs-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
    let pinned = Write::Backup(Box::new(found.value), Expect::Version(found.version));
    jobs.ports.catalog.commit(vec![pinned]).await.unwrap();
    let verified = scrub::verify(&jobs, &made.instance_id, &made.id, deadline).await.unwrap();
    assert_eq!(verified.locked_until, made.locked_until);
}

#[tokio::test]
async fn expired_and_deleted_backups_go_when_their_locks_end() {
    let (world, jobs, clock) = locking_world().await;
    let expired = back_up_for(&jobs, &world, "expired", TimeDelta::days(3)).await;
    let unwanted = back_up_as(&jobs, &world, "unwanted").await;
    let deadline = || minutes_left(&jobs, 5);
    let status = async |backup: &Backup| {
        jobs.ports.catalog.backup(&backup.instance_id, &backup.id).await.unwrap().unwrap().value.state.status()
    };
    let found = deletion::delete(&jobs, &unwanted.instance_id, &unwanted.id, deadline()).await.unwrap();
    assert_eq!((found.state.status(), found.locked_until), (BackupStatus::Available, unwanted.locked_until));

    let mut before = world.objects.locks(&world.snapshots);
    for day in 0..32 {
        sweep(&jobs, SweepMode::Act, deadline()).await.unwrap();
        let now = world.objects.locks(&world.snapshots);
        for (key, until) in before.iter().filter(|(key, _)| !now.contains_key(*key)) {
            assert!(until.unwrap() <= clock.now(), "day {day}: {key} is locked until {until:?}");
        }
        before = now;
        // A verification doesn't renew the locks of a backup that is to be deleted: otherwise it would stay forever.
        if day % 7 == 6 && day < 28 {
            for backup in [&expired, &unwanted] {
                let verified = scrub::verify(&jobs, &backup.instance_id, &backup.id, deadline()).await;
                assert_eq!(verified.unwrap().locked_until, backup.locked_until, "day {day}");
            }
        }
        if clock.now() < expired.locked_until.unwrap().min(unwanted.locked_until.unwrap()) {
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
    let backup = back_up_as(&jobs, &world, "kept").await;
    let verified = async || {
        let deadline = minutes_left(&jobs, 5);
        scrub::verify(&jobs, &backup.instance_id, &backup.id, deadline).await.unwrap()
    };
    for week in 0..9 {
        let now = clock.now();
        let found = verified().await;
        // The locks last until a day after the next verification.
        assert_locked(&world, &found, now + TimeDelta::days(8));
        let renewed = found.all_locked_until.unwrap() >= now + PERIOD;
        assert_eq!(renewed, week > 0 && week % 4 == 0, "week {week}");
        clock.advance(TimeDelta::days(7));
    }
}
