//! Working on jobs: now, or by the next invocation.

use milvault_gateway::{Answer, Caller};
use milvault_jobs::{Error, Jobs, SliceEnd};
use milvault_model::JobRef;
use serde_json::json;

/// A slice of a job's work: of this kind of job only, since a function that had all of them would be larger for it.
///
/// # Errors
/// What isn't the job's own fault; the job goes on later.
pub async fn slice(work: impl Future<Output = Result<SliceEnd, Error>>) -> Result<Answer, Error> {
    Ok(Answer::ok(json!({ "slice": work.await?.name() })))
}

/// Begins the work on a job that was just accepted: a direct caller waits for it, an HTTP caller can't.
///
/// The job is durable before this is called, so that whatever goes wrong in here is for the log: the caller has its
/// answer, and the sweep finds the job.
pub async fn take_up(jobs: &Jobs, job: &JobRef, caller: Caller, work: impl Future<Output = Result<SliceEnd, Error>>) {
    match caller {
        Caller::Direct => match work.await {
            Ok(_) => {}
            Err(error) => about(job).in_scope(|| tracing::error!(%error, "the sweep will drive the job on")),
        },
        Caller::Http | Caller::Background => {
            if let Err(error) = jobs.ports.continuation.resume(job).await {
                about(job).in_scope(|| tracing::error!(%error, "the sweep will start the job"));
            }
        }
    }
}

/// What is logged of a job that the event didn't know of yet says which it is.
fn about(job: &JobRef) -> tracing::Span {
    match job {
        JobRef::Backup { instance_id, backup_id } => {
            tracing::error_span!("job", instance = %instance_id, backup = %backup_id)
        }
        JobRef::Restore { instance_id, restore_id } => {
            tracing::error_span!("job", instance = %instance_id, restore = %restore_id)
        }
    }
}
