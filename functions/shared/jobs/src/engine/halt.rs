//! Why a step of a job stops short, and what an error means for the job.

use std::time::Duration;

use milvault_model::{Failure, FailureCode, Time};
use milvault_ports::Deadline;

use crate::{Class, Error};

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
    match (error.class(), error.failure()) {
        (Class::Unavailable, Some(failure)) => Verdict::Retry(failure),
        (Class::Refused | Class::Damaged | Class::Request, Some(failure)) => Verdict::Fail(failure),
        _ => Verdict::Stop,
    }
}

/// How long to wait before trying again, for the `attempt`th time in a row (from 0).
pub(crate) fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(250 << attempt.min(5))
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
