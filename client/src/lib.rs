//! The command-line client for people: what the HTTP API offers, as tables, with progress bars while it waits.
//!
//! Its exit codes are in `milvault --help`.
#![forbid(unsafe_code)]

mod api;
mod arguments;
mod commands;
mod output;
mod pages;
mod refusal;
mod region;
mod retry;
mod show;
mod signer;
mod wait;

use std::{
    io::{self, ErrorKind},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, error::ErrorKind as ArgumentError};

use arguments::{Arguments, Command};
use commands::Form;
use output::say;
use refusal::Refusal;

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
    fn code(&self) -> u8 {
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

    /// Tells it, a refusal in the form that answers have.
    fn tell(&self, form: Form) {
        match self {
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Self::Waiting { why, goes_on } => {
                why.tell(form);
                say(goes_on);
            }
            Self::Interrupted { goes_on } => say(format!("milvault: {self}: {goes_on}")),
            Self::Refused(refusal) => match (form, refusal.document()) {
                (Form::Json, Some(document)) => say(document),
                _ => say(format!("milvault: {self}")),
            },
            _ => say(format!("milvault: {self}")),
        }
    }
}

/// Runs the command that the process was started with.
pub async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let form = if arguments.json { Form::Json } else { Form::Tables };
    // By hand, because clap doesn't hold an option before the command against one behind it.
    if matches!(&arguments.command, Command::Usage(usage) if usage.focus && arguments.json) {
        let text = "the argument '--focus', which is CSV, cannot be used with '--json'";
        Arguments::command().error(ArgumentError::ArgumentConflict, text).exit();
    }
    match commands::run(arguments, form).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.tell(form);
            ExitCode::from(error.code())
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
