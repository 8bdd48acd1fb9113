//! Runs the function that an event is for.

use std::sync::Arc;

use chrono::TimeDelta;
use milvault_billing::meter::meter;
use milvault_harness::locked;
use milvault_jobs::{
    Jobs, Precondition,
    backup::{self, CreateBackup},
    deletion,
    restore::{self},
    schedule::{self, RunEnd},
    scrub,
    sweep::{SweepMode, sweep},
};
use milvault_model::{JobRef, Restore};
use milvault_ports::{Deadline, Lease};

use super::Invocation;
use crate::{ports::Port, world::World};

/// Runs the function that an event is for.
pub(super) async fn work(world: Arc<World>, port: Arc<Port>, jobs: Jobs, invocation: Invocation, deadline: Deadline) {
    let worker = port.worker;
    let result = match &invocation {
        Invocation::Create(request) => create(&port, &jobs, request, deadline).await,
        Invocation::Run(JobRef::Backup { instance_id, backup_id }) => {
            let end = backup::run(&jobs, instance_id, backup_id, deadline).await;
            if end.is_err() && world.draw(|random| random.permille(300)) {
                let (again, told) = (invocation.clone(), world.clone());
                world.after(TimeDelta::seconds(60), Box::new(move || told.invoke(again)));
            }
            end.map(|end| format!("{end:?}"))
        }
        Invocation::Run(JobRef::Restore { instance_id, restore_id }) => {
            let end = restore::run(&jobs, instance_id, restore_id, deadline).await;
            end.map(|end| format!("{end:?}"))
        }
        Invocation::Restore(request) => {
            let created = restore::create(&jobs, request.clone()).await;
            follow_up(&jobs, created).await
        }
        Invocation::Rollback(instance, id) => {
            let accepted = restore::rollback(&jobs, instance, id, None).await;
            follow_up(&jobs, accepted).await
        }
        Invocation::Cancel(instance, id) => {
            let stopped = restore::cancel(&jobs, instance, id).await;
            stopped.map(|restore| format!("{:?}", restore.state.status()))
        }
        Invocation::Copy(task, report) => {
            let lease = Lease { instance_id: task.instance_id.clone(), fence: task.fence };
            port.audit.lent(&lease, worker);
            let done = backup::copy_page(&jobs, task.clone(), deadline).await;
            let shown = format!("{done:?}");
            *locked(&report.0) = Some(done.map_err(|error| error.to_string()));
            Ok(shown)
        }
        Invocation::Verify(instance, id) => {
            let found = scrub::verify(&jobs, instance, id, deadline).await;
            found.map(|found| format!("{:?}", found.verification))
        }
        Invocation::Delete(instance, id) => {
            let deleted = deletion::delete(&jobs, instance, id, deadline).await;
            deleted.map(|backup| format!("{:?}", backup.state.status()))
        }
        Invocation::SetAutoBackup(instance, plan, wanted) => {
            let changed = schedule::change(&jobs, instance, &|_| plan.clone(), *wanted, &Precondition::None).await;
            changed.map(|(record, told)| format!("{:?}, {told:?}", record.switch))
        }
        Invocation::Scheduled(instance, time) => match schedule::run(&jobs, instance, *time).await {
            Ok(RunEnd::Begun(backup)) => {
                let end = backup::run(&jobs, instance, &backup.id, deadline).await;
                Ok(format!("{}, {end:?}", backup.id))
            }
            end => end.map(|end| format!("{end:?}")),
        },
        Invocation::Meter => {
            let region = "eu-west-1".parse().expect("a region");
            meter(&jobs, &region, deadline).await.map(|report| format!("{report:?}"))
        }
        Invocation::Sweep => sweep(&jobs, SweepMode::Act, deadline).await.map(|report| format!("{report:?}")),
    };
    world.note(|| format!("[{worker}] is done: {result:?}"));
}

/// Starts the job of an accepted restore.
async fn follow_up(
    jobs: &Jobs,
    accepted: Result<Restore, milvault_jobs::Error>,
) -> Result<String, milvault_jobs::Error> {
    let restore = accepted?;
    let job = JobRef::Restore { instance_id: restore.instance_id.clone(), restore_id: restore.id.clone() };
    let taken_up = jobs.ports.continuation.resume(&job).await;
    Ok(format!("{}, {taken_up:?}", restore.id))
}

async fn create(
    port: &Port,
    jobs: &Jobs,
    request: &CreateBackup,
    deadline: Deadline,
) -> Result<String, milvault_jobs::Error> {
    let created = backup::create(jobs, request.clone()).await;
    if let Some(key) = &request.idempotency {
        match &created {
            Ok(backup) => port.audit.answered(&key.key, &backup.id),
            Err(error) => port.audit.refused(&request.instance_id, &key.key, error),
        }
    }
    let backup = created?;
    let job = JobRef::Backup { instance_id: backup.instance_id.clone(), backup_id: backup.id.clone() };
    // A job accepted over HTTP begins in its own invocation, one from a direct caller in this one.
    if port.network.world.draw(|random| random.permille(700)) {
        let taken_up = jobs.ports.continuation.resume(&job).await;
        return Ok(format!("{}, {taken_up:?}", backup.id));
    }
    let end = backup::run(jobs, &backup.instance_id, &backup.id, deadline).await;
    Ok(format!("{}, {end:?}", backup.id))
}
