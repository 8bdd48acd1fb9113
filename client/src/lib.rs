//! The command-line client for people: what the HTTP API offers, as tables, with progress bars while it waits.
//!
//! Exit codes: 0 done; 1 refused, or the job that was waited for didn't succeed; 2 the command isn't right; 3 the API
//! doesn't answer, or there are no credentials; 4 not confirmed.
#![forbid(unsafe_code)]

mod api;
mod arguments;
mod commands;
mod show;
mod wait;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};

/// Why a command didn't do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API said no; its words.
    #[error("{0}")]
    Refused(String),
    /// The job ended otherwise than hoped.
    #[error("{0}")]
    Ended(String),
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
    #[error("not confirmed: nothing was done ({0})")]
    NotConfirmed(String),
}

impl Error {
    fn code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Ended(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) | Self::Credentials(_) => 3,
            Self::NotConfirmed(_) => 4,
        }
    }
}

/// Runs the command that the process was started with.
pub async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Completion { shell } = arguments.command {
        clap_complete::generate(shell, &mut Arguments::command(), "milvault", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    match commands::run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("milvault: {error}");
            ExitCode::from(error.code())
        }
    }
}
