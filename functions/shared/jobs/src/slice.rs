//! What every slice of every job does: take the lease, keep it, work, and hand over or wait out what will pass.

use std::{pin::pin, sync::Arc, time::Duration};

use chrono::TimeDelta;
use futures::future::{Either, select};
use milvault_model::{Ending, Failure, FailureCode, InstanceId, JobRef, Time};
use milvault_ports::{Deadline, Lease, LeasePurpose, MilvusError, ObjectsError};

use crate::{Error, Jobs, SliceEnd, auto_backup, notices, watched::Watched};

/// The sweep drives on a job whose hand-over got lost from so long after it.
pub(crate) const HAND_OVER: TimeDelta = TimeDelta::seconds(30);

/// The most invocations that one job may take, whatever progress it makes.
pub(crate) const MAX_SLICES: u32 = 20_000;

/// How often a step that takes long writes down how far it is.
pub(crate) const SHOW_PROGRESS: TimeDelta = TimeDelta::seconds(1);

/// Why a step of a job's work stops short.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The slice's time is over; another one goes on.
    OutOfTime,
    /// The caller asked to stop.
    CancelRequested,
    /// The job can't succeed.
    Fatal(Failure),
    /// Something that may pass, or that isn't the job's fault.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// The result of a step.
pub(crate) type Step<T = ()> = Result<T, Halt>;

pub(crate) fn fatal(code: FailureCode, message: impl Into<String>) -> Halt {
    Halt::Fatal(Failure::new(code, message))
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

/// What an error means for a job.
pub(crate) enum Verdict {
    /// It may pass: try again, and fail with this once the job is stalled.
    Retry(Failure),
    /// It won't pass.
    Fail(Failure),
    /// It says nothing about the job: this worker stops, another one goes on.
    Stop,
}

pub(crate) fn verdict(error: &Error) -> Verdict {
    let failure = |code| Failure::new(code, error.to_string());
    match error {
        Error::Milvus(MilvusError::Unreachable(_) | MilvusError::NotReady(_) | MilvusError::RateLimited(_)) => {
            Verdict::Retry(failure(FailureCode::MilvusUnreachable))
        }
        Error::Milvus(MilvusError::NoCollection(_)) => Verdict::Fail(failure(FailureCode::CollectionDropped)),
        Error::Milvus(_) => Verdict::Fail(failure(FailureCode::MilvusRefused)),
        Error::Objects(ObjectsError::Unavailable(_)) => Verdict::Retry(failure(FailureCode::StorageUnreachable)),
        Error::Objects(ObjectsError::Bucket { .. }) => Verdict::Fail(failure(FailureCode::StorageUnreachable)),
        Error::Document { .. } => Verdict::Fail(failure(FailureCode::SnapshotDamaged)),
        Error::EngineUnsupported(_) => Verdict::Fail(failure(FailureCode::EngineVersionUnsupported)),
        Error::CollectionExists(_) => Verdict::Fail(failure(FailureCode::CollectionExists)),
        _ => Verdict::Stop,
    }
}

/// How long to wait before trying again, for the `attempt`th time in a row (from 0).
pub(crate) fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(250 << attempt.min(5))
}

/// The instance's lease, with the world that a worker has under it.
pub(crate) struct Held {
    /// Its object storage is watched.
    pub(crate) jobs: Jobs,
    pub(crate) lease: Lease,
    pub(crate) objects: Arc<Watched>,
    /// When it was asked for: its time runs from then.
    taken_at: Time,
}

impl Held {
    /// Takes the instance's lease, if it is free.
    async fn take(jobs: &Jobs, instance: &InstanceId, purpose: &LeasePurpose) -> Result<Option<Self>, Error> {
        let now = jobs.ports.clock.now();
        let lease = jobs.ports.catalog.acquire(instance, purpose, now, jobs.settings.lease).await?;
        let (jobs, objects) = Watched::over(jobs);
        Ok(lease.map(|lease| Self { jobs, lease, objects, taken_at: now }))
    }

    /// When every request has arrived, or never will: as for a worker that is gone, see [`keep`].
    fn settled_at(&self) -> Option<Time> {
        self.objects.failed_at().map(|failed| failed + self.jobs.settings.lease / 3)
    }

    /// Waits until nothing of what failed can take effect any more: before things are removed that it could bring back,
    /// and before others do what it could undo.
    ///
    /// # Errors
    /// [`Halt::OutOfTime`] at the deadline.
    pub(crate) async fn settle(&self, deadline: Deadline) -> Step {
        while let Some(settled) = self.settled_at() {
            let now = self.jobs.ports.clock.now();
            if now >= settled {
                break;
            }
            require_time(deadline, now)?;
            let wait = (settled - now).to_std().unwrap_or_default();
            self.jobs.ports.clock.sleep(wait.min(deadline.left(now))).await;
        }
        Ok(())
    }

    /// Gives the lease up, keeping the job, which the sweep drives from `due` on. With something unsettled it is left to
    /// run out instead.
    async fn release(&self, due: Time) -> Result<(), Error> {
        let now = self.jobs.ports.clock.now();
        if self.settled_at().is_some_and(|settled| now < settled) {
            return Ok(());
        }
        Ok(self.jobs.ports.catalog.release(&self.lease, due).await?)
    }
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
            Ok(WorkEnd::Over) => {
                auto_backup::begin_waiting(jobs, job.instance_id()).await;
                notices::publish_or_leave_to_sweep(jobs, job.instance_id()).await;
                SliceEnd::Ended
            }
            Ok(WorkEnd::OutOfTime) => {
                held.release(jobs.ports.clock.now() + HAND_OVER).await?;
                // A lost hand-over only costs time: the sweep finds the job.
                if let Err(error) = jobs.ports.continuation.resume(job).await {
                    tracing::warn!(%error, "the sweep will drive the job on");
                }
                SliceEnd::Continued
            }
            Ok(WorkEnd::LeaveToSweep) => {
                held.release(jobs.ports.clock.now()).await?;
                SliceEnd::Waiting
            }
            Err(Error::LeaseLost) => return Err(Error::LeaseLost),
            Err(error) => {
                held.release(jobs.ports.clock.now() + HAND_OVER).await?;
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
    held.release(jobs.ports.clock.now()).await?;
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
        let now = jobs.ports.clock.now();
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

/// Does `work` while renewing the lease; stops it when the lease is lost.
///
/// It counts as lost a third of its time before it ends: a request that is on its way by then has arrived, or never
/// will, before another worker can take the lease.
async fn keep<T>(held: &Held, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let Held { jobs, lease, taken_at, .. } = held;
    let renewing = async {
        let third = (jobs.settings.lease / 3).to_std().unwrap_or(Duration::from_secs(1));
        let safe = jobs.settings.lease * 2 / 3;
        let mut safe_until = *taken_at + safe;
        loop {
            jobs.ports.clock.sleep(third).await;
            let now = jobs.ports.clock.now();
            let renewal = jobs.ports.catalog.renew(lease, now + jobs.settings.lease);
            match before(jobs, Deadline::at(safe_until), renewal).await {
                Some(Ok(true)) => safe_until = now + safe,
                Some(Ok(false)) | None => return,
                Some(Err(error)) => {
                    tracing::warn!(%error, instance = %lease.instance_id, "the lease couldn't be renewed");
                    if jobs.ports.clock.now() >= safe_until {
                        return;
                    }
                }
            }
        }
    };
    match select(pin!(work), pin!(renewing)).await {
        Either::Left((result, _)) => result,
        Either::Right(((), _)) => Err(Error::LeaseLost),
    }
}

/// Sees that the slice's time isn't over.
///
/// # Errors
/// [`Halt::OutOfTime`] from the deadline on.
pub(crate) fn require_time(deadline: Deadline, now: Time) -> Step {
    match deadline.is_over(now) {
        true => Err(Halt::OutOfTime),
        false => Ok(()),
    }
}

/// What `work` gives if it is done before the deadline; `None` otherwise, and then it isn't done any further.
pub(crate) async fn before<T>(jobs: &Jobs, deadline: Deadline, work: impl Future<Output = T>) -> Option<T> {
    let left = deadline.left(jobs.ports.clock.now());
    match select(pin!(work), pin!(jobs.ports.clock.sleep(left))).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(((), _)) => None,
    }
}
