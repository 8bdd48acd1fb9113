//! Errors of commands, and their exit codes.

use std::io::{self, ErrorKind};

use crate::refusal::Refusal;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API refused the request.
    #[error("{0}")]
    Refused(Refusal),
    /// The job didn't end as expected.
    #[error("{0}")]
    Ended(String),
    /// The backup or restore has ended, but something is missing, or may be missing.
    #[error("the {what} is {status} and incomplete: {reasons}")]
    Incomplete { what: &'static str, status: &'static str, reasons: String },
    /// The arguments are invalid in combination.
    #[error("{0}")]
    Usage(String),
    /// The API doesn't answer, or its answer isn't valid.
    #[error("{0}")]
    Unreachable(String),
    /// There are no credentials to sign requests with.
    #[error("no AWS credentials: {0}")]
    Credentials(String),
    /// The user didn't confirm.
    #[error("not confirmed: nothing was done{0}")]
    NotConfirmed(String),
    /// The wait for a job ended before the job.
    #[error("{cause}")]
    Waiting { cause: Box<Error>, hint: String },
    /// The user interrupted the wait for a job.
    #[error("interrupted")]
    Interrupted { hint: String },
    /// The output can't be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

impl Error {
    /// Whether the same request may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Credentials(_) => true,
            Self::Refused(refusal) => refusal.is_server_error(),
            _ => false,
        }
    }

    /// Returns the exit code. For an end that a signal usually causes, it is the code that shells show for the signal.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => 141,
            Self::Refused(_) | Self::Ended(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) | Self::Credentials(_) => 3,
            Self::NotConfirmed(_) => 4,
            Self::Incomplete { .. } => 5,
            Self::Waiting { cause, .. } => cause.code(),
            Self::Interrupted { .. } => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_ends_early_has_the_exit_code_of_its_cause() {
        let waiting = |cause| Error::Waiting { cause: Box::new(cause), hint: String::new() }.code();
        assert_eq!(waiting(Error::Unreachable(String::new())), 3);
        assert_eq!(waiting(Error::Ended(String::new())), 1);
        assert_eq!(Error::Interrupted { hint: String::new() }.code(), 130);
    }

    #[test]
    fn a_closed_reader_has_another_exit_code_than_a_full_disk() {
        assert_eq!(Error::Output(ErrorKind::BrokenPipe.into()).code(), 141);
        assert_eq!(Error::Output(ErrorKind::StorageFull.into()).code(), 1);
    }
}
