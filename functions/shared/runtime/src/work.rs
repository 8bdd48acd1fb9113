//! Working on jobs: now, or by the next invocation.

use milvault_gateway::{Answer, Caller};
use milvault_jobs::{Error, Jobs, SliceEnd, backup, ports::Deadline, restore};
use milvault_model::JobRef;
use serde_json::json;

use crate::Invocation;

/// A slice of a job's work.
///
/// # Errors
/// What isn't the job's own fault; the job goes on later.
pub async fn slice(jobs: &Jobs, job: &JobRef, invocation: &Invocation) -> Result<Answer, Error> {
    let end = match run(jobs, job, invocation.deadline).await? {
        SliceEnd::Ended => "ENDED",
        SliceEnd::Continued => "CONTINUED",
        SliceEnd::Waiting => "WAITING",
        SliceEnd::Busy => "BUSY",
    };
    tracing::info!(?job, end, "the slice is over");
    Ok(Answer::ok(json!({ "slice": end })))
}

/// Begins the work on a job that was just accepted: a direct caller waits for it, an HTTP caller can't.
///
/// The job is durable before this is called, so that whatever goes wrong in here is for the log: the caller has its
/// answer, and the sweep finds the job.
pub async fn take_up(jobs: &Jobs, job: &JobRef, caller: Caller, invocation: &Invocation) {
    match caller {
        Caller::Direct => match run(jobs, job, invocation.deadline_for(caller, jobs.ports.clock.now())).await {
            Ok(end) => tracing::info!(?job, ?end, "the slice is over"),
            Err(error) => tracing::error!(%error, ?job, "the sweep will drive the job on"),
        },
        Caller::Http | Caller::Background => {
            if let Err(error) = jobs.ports.continuation.resume(job).await {
                tracing::error!(%error, ?job, "the sweep will start the job");
            }
        }
    }
}

async fn run(jobs: &Jobs, job: &JobRef, deadline: Deadline) -> Result<SliceEnd, Error> {
    match job {
        JobRef::Backup { instance_id, backup_id } => backup::run(jobs, instance_id, backup_id, deadline).await,
        JobRef::Restore { instance_id, restore_id } => restore::run(jobs, instance_id, restore_id, deadline).await,
    }
}
