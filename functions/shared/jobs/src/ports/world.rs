//! Time, ids and the next invocation.

use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_model::{JobRef, Time};
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

    /// Whether it is reached.
    pub fn is_over(&self, now: Time) -> bool {
        now >= self.0
    }

    /// How much time is left; zero once it is reached.
    pub fn left(&self, now: Time) -> Duration {
        (self.0 - now).max(TimeDelta::zero()).to_std().unwrap_or_default()
    }
}
