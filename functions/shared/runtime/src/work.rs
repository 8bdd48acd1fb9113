//! Working on jobs: now, or by the next invocation.

use milvault_gateway::{Answer, Caller};
use milvault_jobs::{Error, Jobs, SliceEnd};
use milvault_model::JobRef;
use serde_json::json;

/// A slice of a job's work: of this kind of job only, since a function that had all of them would be larger for it.
///
/// # Errors
/// What isn't the job's own fault; the job goes on later.
pub async fn slice(job: &JobRef, work: impl Future<Output = Result<SliceEnd, Error>>) -> Result<Answer, Error> {
    let end = match work.await? {
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
pub async fn take_up(jobs: &Jobs, job: &JobRef, caller: Caller, work: impl Future<Output = Result<SliceEnd, Error>>) {
    match caller {
        Caller::Direct => match work.await {
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
