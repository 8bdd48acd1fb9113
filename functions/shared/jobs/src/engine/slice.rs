//! A slice of a job's work: it takes the lease, works, and hands over or waits out what will pass.

use chrono::TimeDelta;
use milvault_model::{Ending, InstanceId, JobRef, Time};
use milvault_ports::{Deadline, LeasePurpose};

use super::{
    halt::{Halt, Step, Verdict, backoff, verdict},
    lease::{Held, keep},
};
use crate::{Error, Jobs};

/// The sweep drives on a job whose hand-over got lost from so long after it.
pub(crate) const HAND_OVER: TimeDelta = TimeDelta::seconds(30);

/// How often a step that takes long writes down how far it is.
pub(crate) const SHOW_PROGRESS: TimeDelta = TimeDelta::seconds(1);

/// How a slice of a job's work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum SliceEnd {
    /// The job is over, or there was nothing to do.
    Ended,
    /// The time was over; the next invocation is on its way.
    Continued,
    /// It can't go on for now; the next sweep drives it on.
    Waiting,
    /// Another worker has the lease.
    Busy,
}

impl SliceEnd {
    /// Its name in answers and in the log.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How work under a lease came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WorkEnd {
    /// The job is over; its last commit gave the lease up.
    Over,
    /// The slice's time is over.
    OutOfTime,
    /// It can't go on for now, and trying at once again would be of no use: the next sweep does.
    LeaveToSweep,
}

/// Runs `work` under the instance's lease for this job, renewing it all the while; then hands over if need be.
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
                held.release(jobs.now() + HAND_OVER).await?;
                // A lost hand-over only costs time: the sweep finds the job.
                if let Err(error) = jobs.ports.continuation.resume(job).await {
                    tracing::warn!(%error, "the sweep will drive the job on");
                }
                SliceEnd::Continued
            }
            Ok(WorkEnd::LeaveToSweep) => {
                held.release(jobs.now()).await?;
                SliceEnd::Waiting
            }
            Err(Error::LeaseLost) => return Err(Error::LeaseLost),
            Err(error) => {
                held.release(jobs.now() + HAND_OVER).await?;
                return Err(error);
            }
        },
    };
    // The job's span has its ids and its phase.
    tracing::info!(end = end.name(), "the slice is over");
    Ok(end)
}

/// Runs `work` under the instance's lease while it has no job; `None` if that can't be had.
pub(crate) async fn run_without_job<W>(jobs: &Jobs, instance: &InstanceId, work: W) -> Result<Option<()>, Error>
where
    W: AsyncFnOnce(&Held) -> Result<(), Error>,
{
    let Some(held) = Held::take(jobs, instance, &LeasePurpose::Garbage).await? else { return Ok(None) };
    let done = keep(&held, work(&held)).await;
    if matches!(done, Err(Error::LeaseLost)) {
        // What was on its way when it was lost may still arrive: the lease runs out.
        return done.map(Some);
    }
    held.release(jobs.now()).await?;
    // A job that was accepted meanwhile found the lease taken.
    if let Some(job) = jobs.ports.catalog.job(instance).await?
        && let Err(error) = jobs.ports.continuation.resume(&job).await
    {
        tracing::warn!(%error, %instance, "the sweep will drive the job on");
    }
    done.map(Some)
}

/// A job under way, step by step.
pub(crate) trait Job {
    /// Does the next step; `Some` when the slice is over.
    async fn advance(&mut self) -> Step<Option<WorkEnd>>;

    /// Whether it has got no further for too long.
    fn is_stalled(&self, now: Time) -> bool;

    /// Turns to the clean-up of a job that won't complete; `Some` if that is what can't go on.
    async fn turn_back(&mut self, ending: Ending) -> Result<Option<WorkEnd>, Error>;
}

/// Drives a job step by step until the slice is over, and waits out what will pass.
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
                    // What is undone must not be overtaken by what was done before.
                    if held.settle(deadline).await.is_err() {
                        return Ok(WorkEnd::OutOfTime);
                    }
                    Ending::Failed(failure)
                }
                Verdict::Retry(_) if deadline.is_over(now) => return Ok(WorkEnd::OutOfTime),
                Verdict::Retry(_) => {
                    tracing::warn!(%error, attempt, "waiting before another try");
                    jobs.ports.clock.sleep(backoff(attempt).min(deadline.left(now))).await;
                    // What is done again must not be overtaken by what was done before.
                    if held.settle(deadline).await.is_err() {
                        return Ok(WorkEnd::OutOfTime);
                    }
                    attempt += 1;
                    continue;
                }
            },
        };
        if let Some(end) = job.turn_back(ending).await? {
            return Ok(end);
        }
    }
}
