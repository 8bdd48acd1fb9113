//! Why a command fails, and the exit code that says so.

use std::io::{self, ErrorKind};

use crate::refusal::Refusal;

/// Why a command didn't do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The job ended otherwise than hoped.
    #[error("{0}")]
    Ended(String),
    /// What was waited for is there, and something is missing from it, or may be.
    #[error("the {what} is {status} and incomplete: {reasons}")]
    Incomplete { what: &'static str, status: &'static str, reasons: String },
    /// The arguments, together, aren't right.
    #[error("{0}")]
    Usage(String),
    /// No answer, or none that an API of ours would give.
    #[error("{0}")]
    Unreachable(String),
    /// No credentials to sign with.
    #[error("no AWS credentials: {0}")]
    Credentials(String),
    /// The user didn't say yes.
    #[error("not confirmed: nothing was done{0}")]
    NotConfirmed(String),
    /// The waiting for a job is over, and the job isn't.
    #[error("{why}")]
    Waiting { why: Box<Error>, goes_on: String },
    /// The user didn't want to wait for a job any longer.
    #[error("interrupted")]
    Interrupted { goes_on: String },
    /// What was to be printed can't be.
    #[error("can't write: {0}")]
    Output(io::Error),
}

impl Error {
    /// Whether it may be otherwise in a while, without anyone doing anything about the request.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Credentials(_) => true,
            Self::Refused(refusal) => refusal.is_a_fault(),
            _ => false,
        }
    }

    /// The exit code. Where a signal would have ended a program, it is the one that shells show for that.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => 141,
            Self::Refused(_) | Self::Ended(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) | Self::Credentials(_) => 3,
            Self::NotConfirmed(_) => 4,
            Self::Incomplete { .. } => 5,
            Self::Waiting { why, .. } => why.code(),
            Self::Interrupted { .. } => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_ends_early_has_the_exit_code_of_what_ended_it() {
        let waiting = |why| Error::Waiting { why: Box::new(why), goes_on: String::new() }.code();
        assert_eq!(waiting(Error::Unreachable(String::new())), 3);
        assert_eq!(waiting(Error::Ended(String::new())), 1);
        assert_eq!(Error::Interrupted { goes_on: String::new() }.code(), 130);
    }

    #[test]
    fn a_reader_who_has_seen_enough_is_told_apart_from_a_full_disk() {
        assert_eq!(Error::Output(ErrorKind::BrokenPipe.into()).code(), 141);
        assert_eq!(Error::Output(ErrorKind::StorageFull.into()).code(), 1);
    }
}
