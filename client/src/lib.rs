//! The command-line client for people: what the HTTP API offers, as tables, with progress bars while it waits.
//!
//! Its exit codes are in `milvault --help`.
#![forbid(unsafe_code)]

mod api;
mod arguments;
mod commands;
mod error;
mod form;
mod output;
mod pages;
mod refusal;
mod region;
mod retry;
mod show;
mod signer;
mod wait;

use std::{io::ErrorKind, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind as ArgumentError};

use arguments::{Arguments, Command};
use form::Form;
use output::say;

pub(crate) use error::Error;

impl Error {
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
