//! Work on jobs, in this invocation or in the next one.

use milvault_gateway::{Answer, Caller};
use milvault_jobs::{Error, Jobs, SliceEnd};
use milvault_model::JobRef;
use serde_json::json;

/// Answers for a slice of a job's work. Each function passes the work of its own kind of job, because a function with
/// all kinds would be larger.
///
/// # Errors
/// Faults that aren't the job's own. The job continues later.
pub async fn slice(work: impl Future<Output = Result<SliceEnd, Error>>) -> Result<Answer, Error> {
    Ok(Answer::ok(json!({ "slice": work.await?.name() })))
}

/// Begins the work on a job that was just accepted. A direct caller waits for it; an HTTP caller can't.
///
/// The job is stored before this is called, so errors in here are only logged: the caller gets its answer, and the
/// sweep finds the job.
pub async fn begin_job(jobs: &Jobs, job: &JobRef, caller: Caller, work: impl Future<Output = Result<SliceEnd, Error>>) {
    match caller {
        Caller::Direct => match work.await {
            Ok(_) => {}
            Err(error) => about(job).in_scope(|| tracing::error!(%error, "the sweep will resume the job")),
        },
        Caller::Http | Caller::Background => {
            if let Err(error) = jobs.ports.continuation.resume(job).await {
                about(job).in_scope(|| tracing::error!(%error, "the sweep will start the job"));
            }
        }
    }
}

/// A span that names the job, for an event that didn't know the job yet.
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
