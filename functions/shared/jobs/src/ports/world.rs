//! Time, ids and the next invocation.

use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_model::{BackupId, InstanceId, JobRef, Time};
use ulid::Ulid;

use crate::backup::{CopyReport, CopyTask};

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
}

/// Other invocations, which copy pages of a backup's plan.
#[async_trait]
pub trait CopyWorkers: Send + Sync {
    /// Has an invocation copy a page, as [`crate::backup::copy_page`] does, and waits for it.
    ///
    /// # Errors
    /// When the invocation wasn't accepted or failed. It may be at work all the same, until the task's time is over.
    async fn copy(&self, task: &CopyTask) -> Result<CopyReport, ContinuationError>;
}

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
