//! Time, ids and the next invocation.

use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_model::{BackupId, InstanceId, JobRef, Notice, Plan, Time};
use ulid::Ulid;

/// The time, and waiting for it to pass.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Time;

    /// Returns after this long.
    async fn sleep(&self, duration: Duration);
}

/// New ids: time-sorted and random.
pub trait IdSource: Send + Sync {
    /// A ULID of this time.
    fn ulid(&self, now: Time) -> Ulid;
}

/// Starts the next invocation of a job.
#[async_trait]
pub trait Continuation: Send + Sync {
    /// Has a worker take up the job soon, without waiting for it.
    ///
    /// # Errors
    /// When the invocation wasn't accepted. The sweep finds the job all the same, only later.
    async fn resume(&self, job: &JobRef) -> Result<(), ContinuationError>;

    /// Has a worker begin a backup's verification, or go on with it, without waiting for it.
    ///
    /// # Errors
    /// When the invocation wasn't accepted. The sweep does the same, only later.
    async fn verify(&self, instance: &InstanceId, backup: &BackupId) -> Result<(), ContinuationError>;

    /// Has a worker begin the automatic backup that was scheduled for this time, without waiting for it.
    ///
    /// # Errors
    /// When the invocation wasn't accepted. The sweep does the same, only later.
    async fn begin_run(&self, instance: &InstanceId, scheduled_for: Time) -> Result<(), ContinuationError>;
}

/// The schedules that start automatic backups, one per instance.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Makes the instance's schedule this plan's, whatever it was.
    ///
    /// # Errors
    /// When the scheduler doesn't answer or refuses; it may have done it all the same.
    async fn put(&self, instance: &InstanceId, plan: &Plan) -> Result<(), SchedulesError>;

    /// Removes the instance's schedule, if there is one.
    ///
    /// # Errors
    /// Likewise.
    async fn remove(&self, instance: &InstanceId) -> Result<(), SchedulesError>;
}

/// Why the scheduler didn't do it.
#[derive(Debug, thiserror::Error)]
#[error("the scheduler failed: {0}")]
pub struct SchedulesError(pub String);

/// Where users are told things.
#[async_trait]
pub trait Events: Send + Sync {
    /// Publishes at most [`EVENTS_AT_ONCE`] notices.
    ///
    /// # Errors
    /// When any of them wasn't accepted; others may have been.
    async fn publish(&self, notices: &[Notice]) -> Result<(), EventsError>;
}

/// The most notices that are published at once: EventBridge takes no more.
pub const EVENTS_AT_ONCE: usize = 10;

/// Why users couldn't be told.
#[derive(Debug, thiserror::Error)]
#[error("the events weren't accepted: {0}")]
pub struct EventsError(pub String);

/// An invocation that wasn't accepted.
#[derive(Debug, thiserror::Error)]
#[error("the next invocation wasn't accepted: {0}")]
pub struct ContinuationError(pub String);

/// When a slice of work has to be over.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Time);

impl Deadline {
    /// At this time.
    pub fn at(time: Time) -> Self {
        Self(time)
    }

    /// The time.
    pub fn time(&self) -> Time {
        self.0
    }

    /// Whether it is reached.
    pub fn is_over(&self, now: Time) -> bool {
        now >= self.0
    }

    /// How much time is left; zero once it is reached.
    pub fn left(&self, now: Time) -> Duration {
        (self.0 - now).max(TimeDelta::zero()).to_std().unwrap_or_default()
    }
}
