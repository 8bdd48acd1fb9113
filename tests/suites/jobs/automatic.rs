//! Tests of automatic backups: runs that can't begin, and changes that don't reach the scheduler.

use chrono::{TimeDelta, Timelike, Utc};
use milvault_fake_milvus::Line;
use milvault_harness::{backup_request, minutes_left};
use milvault_jobs::{
    Error, IdempotencyKey, Jobs, Precondition, Tag, backup,
    schedule::{self, RunEnd, SchedulerUpdate},
    sweep::{SweepMode, sweep},
};
use milvault_model::{
    AutoBackup, AutoRunState, BackupKind, FailureCode, InstanceId, JobRef, NoticeKind, Plan, RequestedSwitch,
    ScheduleState, Switch, Time,
};
use milvault_ports::{Expect, Write};
use milvault_tests::world::World;

/// The start of this minute.
fn this_minute() -> Time {
    Utc::now().with_second(0).and_then(|time| time.with_nanosecond(0)).unwrap()
}

fn plan_at(run: Time) -> Plan {
    Plan { time: run.format("%H:%M").to_string().parse().unwrap(), ..Plan::default() }
}

/// Switches automatic backups on, as of 20 hours ago. Returns the time of a run that has just become due.
async fn due_now(jobs: &Jobs, world: &World) -> Time {
    let run = this_minute();
    let switch = Switch::On { since: run - TimeDelta::hours(20) };
    let record = AutoBackup { plan: plan_at(run), switch, ..AutoBackup::off(world.instance.id.clone()) };
    jobs.ports.catalog.commit(vec![Write::AutoBackup(Box::new(record), Expect::Absent)]).await.unwrap();
    run
}

async fn last_run(jobs: &Jobs, instance: &InstanceId) -> AutoRunState {
    schedule::find(jobs, instance).await.unwrap().last_run.unwrap().state
}

fn notices(world: &World) -> Vec<NoticeKind> {
    world.events.published().into_iter().map(|notice| notice.kind).collect()
}

async fn run_to_its_end(jobs: &Jobs, job: &JobRef) {
    let JobRef::Backup { instance_id, backup_id } = job else { panic!("{job:?}") };
    backup::run(jobs, instance_id, backup_id, minutes_left(jobs, 5)).await.unwrap();
}

#[tokio::test]
async fn a_run_makes_one_backup_with_the_expiry_of_the_retention_in_force() {
    let world = World::of(Line::V2_6).await;
    let jobs = world.jobs().await;
    let run = due_now(&jobs, &world).await;
    let instance = &world.instance.id;
    let RunEnd::Begun(backup) = schedule::run(&jobs, instance, Some(run)).await.unwrap() else {
        panic!("the run didn't begin")
    };
    assert_eq!(backup.kind, BackupKind::Auto);
    assert_eq!(backup.name.as_str(), run.format("auto-%Y-%m-%dT%H-%M").to_string());
    assert_eq!(backup.expires_at, Some(backup.created_at + TimeDelta::days(3)));
    for again in [Some(run), None] {
        assert!(matches!(schedule::run(&jobs, instance, again).await.unwrap(), RunEnd::Nothing(_)));
    }
    let job = jobs.ports.catalog.job(instance).await.unwrap().unwrap();
    run_to_its_end(&jobs, &job).await;
    assert!(matches!(schedule::run(&jobs, instance, Some(run)).await.unwrap(), RunEnd::Nothing(_)));
    assert_eq!(notices(&world), [NoticeKind::BackupCompleted]);
}

#[tokio::test]
async fn a_run_on_a_build_that_is_too_old_fails_with_a_notice() {
    let world = World::of(Line::V2_4).await;
    world.fake.set(|faults| faults.version = Some("2.4.21-0.1.0_3.2".to_owned())).await;
    let jobs = world.jobs().await;
    let run = due_now(&jobs, &world).await;
    let end = schedule::run(&jobs, &world.instance.id, Some(run)).await.unwrap();
    assert!(matches!(&end, RunEnd::Failed(failure) if failure.code == FailureCode::EngineVersionUnsupported));
    let AutoRunState::Failed { failure, .. } = last_run(&jobs, &world.instance.id).await else {
        panic!("the run didn't fail")
    };
    assert!(failure.message.contains("2.4.22-0.1.0_3.2"), "{failure:?}");
    assert_eq!(notices(&world), [NoticeKind::AutomaticBackupFailed]);
    assert!(matches!(schedule::run(&jobs, &world.instance.id, Some(run)).await.unwrap(), RunEnd::Nothing(_)));
}

#[tokio::test]
async fn a_run_waits_while_the_server_does_not_answer_or_another_job_runs() {
    let world = World::of(Line::V2_4).await;
    let jobs = world.jobs().await;
    let run = due_now(&jobs, &world).await;
    let instance = &world.instance.id;
    let found = jobs.ports.catalog.instance(instance).await.unwrap().unwrap();
    let mut away = found.value.clone();
    // Nothing listens at a port that only a client has used.
    away.endpoint = "http://127.0.0.1:1".to_owned();
    jobs.ports.catalog.commit(vec![Write::Instance(Box::new(away), Expect::Version(1))]).await.unwrap();
    let end = schedule::run(&jobs, instance, Some(run)).await.unwrap();
    assert!(matches!(&end, RunEnd::Waits(failure) if failure.code == FailureCode::MilvusUnreachable), "{end:?}");

    jobs.ports.catalog.commit(vec![Write::Instance(Box::new(found.value), Expect::Version(2))]).await.unwrap();
    backup::create(&jobs, backup_request(instance, "in the way")).await.unwrap();
    let end = schedule::run(&jobs, instance, Some(run)).await.unwrap();
    assert!(matches!(&end, RunEnd::Waits(failure) if failure.code == FailureCode::InstanceBusy), "{end:?}");

    let job = jobs.ports.catalog.job(instance).await.unwrap().unwrap();
    run_to_its_end(&jobs, &job).await;
    assert!(matches!(schedule::run(&jobs, instance, Some(run)).await.unwrap(), RunEnd::Begun(_)));
}

#[tokio::test]
async fn a_run_whose_backup_name_is_taken_uses_another_name() {
    let world = World::of(Line::V2_4).await;
    let jobs = world.jobs().await;
    let run = due_now(&jobs, &world).await;
    let name = run.format("auto-%Y-%m-%dT%H-%M").to_string();
    backup::create(&jobs, backup_request(&world.instance.id, &name)).await.unwrap();
    let job = jobs.ports.catalog.job(&world.instance.id).await.unwrap().unwrap();
    run_to_its_end(&jobs, &job).await;
    let end = schedule::run(&jobs, &world.instance.id, Some(run)).await.unwrap();
    assert!(matches!(&end, RunEnd::Begun(backup) if backup.name.as_str() == format!("{name}-2")), "{end:?}");
}

#[tokio::test]
async fn the_sweep_repeats_a_change_that_did_not_reach_the_scheduler() {
    let world = World::of(Line::V2_4).await;
    let jobs = world.jobs().await;
    let instance = &world.instance.id;
    let plan = plan_at(this_minute() + TimeDelta::hours(6));
    world.schedules.fail(1);
    let (changed, heard) =
        schedule::change(&jobs, instance, &|_| plan.clone(), RequestedSwitch::On, &Precondition::None).await.unwrap();
    assert_eq!((heard, world.schedules.plan(instance)), (SchedulerUpdate::BySweep, None));

    // The change is old enough that no earlier request can still be in progress.
    let found = jobs.ports.catalog.auto_backup(instance).await.unwrap().unwrap();
    assert_eq!(found.value, changed);
    let schedule = ScheduleState::Unconfirmed { since: Utc::now() - TimeDelta::minutes(3) };
    let old = AutoBackup { schedule, ..found.value };
    let put = Write::AutoBackup(Box::new(old), Expect::Version(found.version));
    jobs.ports.catalog.commit(vec![put]).await.unwrap();
    let deadline = minutes_left(&jobs, 5);
    let report = sweep(&jobs, SweepMode::Act, deadline).await.unwrap();
    assert_eq!(report.automatic.iter().map(|action| action.outcome.as_str()).collect::<Vec<_>>(), ["Reconcile"]);
    assert_eq!(world.schedules.plan(instance), Some(plan.clone()));
    assert!(sweep(&jobs, SweepMode::Act, deadline).await.unwrap().automatic.is_empty());

    let (_, heard) =
        schedule::change(&jobs, instance, &|_| plan.clone(), RequestedSwitch::Off, &Precondition::None).await.unwrap();
    assert_eq!((heard, world.schedules.plan(instance)), (SchedulerUpdate::Confirmed, None));
}

#[tokio::test]
async fn only_one_of_two_changes_with_the_same_precondition_is_accepted() {
    let world = World::of(Line::V2_4).await;
    let jobs = world.jobs().await;
    let instance = &world.instance.id;
    let seen = Tag::for_auto_backup(&schedule::find(&jobs, instance).await.unwrap());
    let unchanged = Precondition::Matches(vec![seen.as_str().to_owned()]);
    let first = plan_at(this_minute() + TimeDelta::hours(6));
    let second = plan_at(this_minute() + TimeDelta::hours(7));
    schedule::change(&jobs, instance, &|_| first.clone(), RequestedSwitch::On, &unchanged).await.unwrap();
    let refused = schedule::change(&jobs, instance, &|_| second.clone(), RequestedSwitch::On, &unchanged).await;
    assert!(matches!(refused, Err(Error::PreconditionFailed)), "{:?}", refused.err());
    assert_eq!(schedule::find(&jobs, instance).await.unwrap().plan, first);
}

#[tokio::test]
async fn an_idempotency_key_is_accepted_again_with_the_same_request_only() {
    let world = World::of(Line::V2_4).await;
    let jobs = world.jobs().await;
    let key = |request: &str| IdempotencyKey { key: "4711".into(), request_hash: request.into() };
    for _ in 0..2 {
        key("one").remember(&jobs, "verify#orders".into(), "one".into()).await.unwrap();
    }
    let reused = key("other").remember(&jobs, "verify#orders".into(), "other".into()).await;
    assert!(matches!(reused, Err(Error::KeyReused)), "{reused:?}");
    key("other").remember(&jobs, "rollback#orders".into(), "other".into()).await.unwrap();
}
