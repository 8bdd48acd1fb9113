//! Why a step of a job stops early, and what an error means for the job.

use std::time::Duration;

use milvault_model::{Failure, FailureCode, Time};
use milvault_ports::Deadline;

use crate::{Class, Error};

/// Why a step of a job stops early.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The slice's time is over. The next slice continues.
    OutOfTime,
    /// The caller cancelled the job.
    CancelRequested,
    /// The job can't succeed.
    Fatal(Failure),
    /// A fault that may be temporary, or that the job didn't cause.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// The result of a step.
pub(crate) type Step<T = ()> = Result<T, Halt>;

/// Returns the halt of a job that can't succeed.
pub(crate) fn fatal(code: FailureCode, message: impl Into<String>) -> Halt {
    Halt::Fatal(Failure::new(code, message))
}

/// What a job does about an error.
pub(crate) enum Verdict {
    /// The fault may be temporary: try again, and fail with this once the job is stalled.
    Retry(Failure),
    /// The fault is permanent: fail.
    Fail(Failure),
    /// The error says nothing about the job: this worker stops, and another one continues.
    Stop,
}

/// Returns what a job does about an error.
pub(crate) fn verdict(error: &Error) -> Verdict {
    match (error.class(), error.failure()) {
        (Class::Unavailable, Some(failure)) => Verdict::Retry(failure),
        (Class::Refused | Class::Damaged | Class::Request, Some(failure)) => Verdict::Fail(failure),
        _ => Verdict::Stop,
    }
}

/// Returns how long to wait before the retry with this number in a row, counted from 0. No crate makes the retries,
/// because the clock is a port and the slice's deadline cuts each wait.
pub(crate) fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(250 << attempt.min(5))
}

/// Checks that the slice has time left.
///
/// # Errors
/// [`Halt::OutOfTime`] from the deadline on.
pub(crate) fn require_time(deadline: Deadline, now: Time) -> Step {
    match deadline.is_over(now) {
        true => Err(Halt::OutOfTime),
        false => Ok(()),
    }
}
