//! The command-line client of the HTTP API, for people: it prints tables, and shows progress while it waits for a job.
//!
//! `milvault --help` lists its exit codes.
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
    /// Prints the error, a refusal in the same form as answers.
    fn report(&self, form: Form) {
        match self {
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Self::Waiting { cause, hint } => {
                cause.report(form);
                say(hint);
            }
            Self::Interrupted { hint } => say(format!("milvault: {self}: {hint}")),
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
    // Checked here, because clap doesn't find a conflict between options before and after the command.
    if matches!(&arguments.command, Command::Usage(usage) if usage.focus && arguments.json) {
        let text = "the argument '--focus', which is CSV, cannot be used with '--json'";
        Arguments::command().error(ArgumentError::ArgumentConflict, text).exit();
    }
    match commands::run(arguments, form).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(form);
            ExitCode::from(error.code())
        }
    }
}
