//! Time, ids, further invocations, schedules and events.

use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_model::{BackupId, InstanceId, JobRef, Notice, Plan, Time};
use ulid::Ulid;

/// A clock that tells the time and can wait.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present time.
    fn now(&self) -> Time;

    /// Waits for this long.
    async fn sleep(&self, duration: Duration);
}

/// A source of new ids, which sort by time and are random otherwise.
pub trait IdSource: Send + Sync {
    /// A ULID with this time.
    fn ulid(&self, now: Time) -> Ulid;
}

/// Starts further invocations of a job.
#[async_trait]
pub trait Continuation: Send + Sync {
    /// Starts a worker for the job, without waiting for it.
    ///
    /// # Errors
    /// The invocation wasn't accepted. The sweep finds the job anyway, only later.
    async fn resume(&self, job: &JobRef) -> Result<(), ContinuationError>;

    /// Starts a worker that begins or continues a backup's verification, without waiting for it.
    ///
    /// # Errors
    /// The invocation wasn't accepted. The sweep starts the verification anyway, only later.
    async fn verify(&self, instance: &InstanceId, backup: &BackupId) -> Result<(), ContinuationError>;

    /// Starts a worker that begins the automatic backup scheduled for this time, without waiting for it.
    ///
    /// # Errors
    /// The invocation wasn't accepted. The sweep begins the backup anyway, only later.
    async fn begin_run(&self, instance: &InstanceId, scheduled_for: Time) -> Result<(), ContinuationError>;
}

/// The schedules that start automatic backups, one per instance.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Creates or replaces the instance's schedule according to this plan.
    ///
    /// # Errors
    /// The scheduler didn't answer or refused. The change may have taken effect anyway.
    async fn put(&self, instance: &InstanceId, plan: &Plan) -> Result<(), SchedulesError>;

    /// Removes the instance's schedule, if there is one.
    ///
    /// # Errors
    /// The scheduler didn't answer or refused. The change may have taken effect anyway.
    async fn remove(&self, instance: &InstanceId) -> Result<(), SchedulesError>;
}

/// The reason why a call to the scheduler failed.
#[derive(Debug, thiserror::Error)]
#[error("the scheduler failed: {0}")]
pub struct SchedulesError(pub String);

/// The destination of notices to users.
#[async_trait]
pub trait Events: Send + Sync {
    /// Publishes at most [`EVENTS_AT_ONCE`] notices.
    ///
    /// # Errors
    /// Some notices weren't accepted; others may have been.
    async fn publish(&self, notices: &[Notice]) -> Result<(), EventsError>;
}

/// The maximum number of notices in one call, which is EventBridge's limit.
pub const EVENTS_AT_ONCE: usize = 10;

/// The reason why notices couldn't be published.
#[derive(Debug, thiserror::Error)]
#[error("the events weren't accepted: {0}")]
pub struct EventsError(pub String);

/// The reason why an invocation wasn't accepted.
#[derive(Debug, thiserror::Error)]
#[error("the next invocation wasn't accepted: {0}")]
pub struct ContinuationError(pub String);

/// The time at which a slice of work has to be over.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Time);

impl Deadline {
    /// A deadline at this time.
    pub fn at(time: Time) -> Self {
        Self(time)
    }

    /// The deadline's time.
    pub fn time(&self) -> Time {
        self.0
    }

    /// Whether the deadline is reached.
    pub fn is_over(&self, now: Time) -> bool {
        now >= self.0
    }

    /// The time left; zero once the deadline is reached.
    pub fn left(&self, now: Time) -> Duration {
        (self.0 - now).max(TimeDelta::zero()).to_std().unwrap_or_default()
    }
}
