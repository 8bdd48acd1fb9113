//! A slice of a job's work: takes the lease, works, waits out temporary faults, and hands over to the next invocation.

use chrono::TimeDelta;
use milvault_model::{Ending, InstanceId, JobRef, Time};
use milvault_ports::{Deadline, LeasePurpose};

use super::{
    halt::{Halt, Step, Verdict, backoff, verdict},
    lease::{Held, keep},
};
use crate::{Error, Jobs};

/// How long after a handover the sweep treats it as lost and resumes the job.
pub(crate) const HANDOVER_TIMEOUT: TimeDelta = TimeDelta::seconds(30);

/// How often a long step records its progress.
pub(crate) const PROGRESS_INTERVAL: TimeDelta = TimeDelta::seconds(1);

/// How a slice of a job's work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum SliceEnd {
    /// The job is over, or there was nothing to do.
    Ended,
    /// The slice's time was over; the next invocation has been requested.
    Continued,
    /// The job can't continue for now; the next sweep resumes it.
    Waiting,
    /// Another worker holds the lease.
    Busy,
}

impl SliceEnd {
    /// Returns the name in responses and in the log.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How work under a lease ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WorkEnd {
    /// The job is over; its last commit released the lease.
    Over,
    /// The slice's time is over.
    OutOfTime,
    /// The job can't continue for now, and an immediate retry would fail too: the next sweep resumes it.
    LeaveToSweep,
}

/// Runs `work` under the instance's lease for this job, and hands over to the next invocation if time ran out.
pub(crate) async fn run<W>(jobs: &Jobs, job: &JobRef, work: W) -> Result<SliceEnd, Error>
where
    W: AsyncFnOnce(&Held) -> Result<WorkEnd, Error>,
{
    let held = Held::take(jobs, job.instance_id(), &LeasePurpose::Job(job.clone())).await?;
    let end = match &held {
        None => SliceEnd::Busy,
        Some(held) => match keep(held, work(held)).await {
            Ok(WorkEnd::Over) => SliceEnd::Ended,
            Ok(WorkEnd::OutOfTime) => {
                held.release(jobs.now() + HANDOVER_TIMEOUT).await?;
                // A lost handover only costs time: the sweep finds the job.
                if let Err(error) = jobs.ports.continuation.resume(job).await {
                    tracing::warn!(%error, "the sweep will resume the job");
                }
                SliceEnd::Continued
            }
            Ok(WorkEnd::LeaveToSweep) => {
                held.release(jobs.now()).await?;
                SliceEnd::Waiting
            }
            Err(Error::LeaseLost) => return Err(Error::LeaseLost),
            Err(error) => {
                held.release(jobs.now() + HANDOVER_TIMEOUT).await?;
                return Err(error);
            }
        },
    };
    // The job's span has its IDs and its phase.
    tracing::info!(end = end.name(), "the slice is over");
    Ok(end)
}

/// Runs `work` under the instance's lease while it has no job; returns `None` if the lease isn't free.
pub(crate) async fn run_without_job<W>(jobs: &Jobs, instance: &InstanceId, work: W) -> Result<Option<()>, Error>
where
    W: AsyncFnOnce(&Held) -> Result<(), Error>,
{
    let Some(held) = Held::take(jobs, instance, &LeasePurpose::Garbage).await? else { return Ok(None) };
    let done = keep(&held, work(&held)).await;
    if matches!(done, Err(Error::LeaseLost)) {
        // A request that was in flight when the lease was lost may still arrive: the lease is left to expire.
        return done.map(Some);
    }
    held.release(jobs.now()).await?;
    // A job that was accepted during the work found the lease taken.
    if let Some(job) = jobs.ports.catalog.job(instance).await?
        && let Err(error) = jobs.ports.continuation.resume(&job).await
    {
        tracing::warn!(%error, %instance, "the sweep will resume the job");
    }
    done.map(Some)
}

/// A running job that advances step by step.
pub(crate) trait Job {
    /// Does the next step; returns `Some` when the slice is over.
    async fn advance(&mut self) -> Step<Option<WorkEnd>>;

    /// Returns whether the job has made no progress for too long.
    fn is_stalled(&self, now: Time) -> bool;

    /// Starts the cleanup of a job that won't complete; returns `Some` if the cleanup itself can't continue.
    async fn abort(&mut self, ending: Ending) -> Result<Option<WorkEnd>, Error>;
}

/// Runs a job step by step until the slice is over, and waits out temporary faults.
pub(crate) async fn drive(held: &Held, deadline: Deadline, job: &mut impl Job) -> Result<WorkEnd, Error> {
    let jobs = &held.jobs;
    let mut attempt = 0;
    loop {
        let halt = match job.advance().await {
            Ok(Some(end)) => return Ok(end),
            Ok(None) => {
                attempt = 0;
                continue;
            }
            Err(halt) => halt,
        };
        let now = jobs.now();
        let ending = match halt {
            Halt::OutOfTime => return Ok(WorkEnd::OutOfTime),
            Halt::CancelRequested => Ending::Cancelled,
            Halt::Fatal(failure) => Ending::Failed(failure),
            Halt::Error(error) => match verdict(&error) {
                Verdict::Stop => return Err(error),
                Verdict::Fail(failure) => Ending::Failed(failure),
                Verdict::Retry(failure) if job.is_stalled(now) => {
                    // A failed request must not take effect after the undoing.
                    if held.drain(deadline).await.is_err() {
                        return Ok(WorkEnd::OutOfTime);
                    }
                    Ending::Failed(failure)
                }
                Verdict::Retry(_) if deadline.is_over(now) => return Ok(WorkEnd::OutOfTime),
                Verdict::Retry(_) => {
                    tracing::warn!(%error, attempt, "waiting before a retry");
                    jobs.ports.clock.sleep(backoff(attempt).min(deadline.left(now))).await;
                    // A failed request must not take effect after the retry.
                    if held.drain(deadline).await.is_err() {
                        return Ok(WorkEnd::OutOfTime);
                    }
                    attempt += 1;
                    continue;
                }
            },
        };
        if let Some(end) = job.abort(ending).await? {
            return Ok(end);
        }
    }
}
