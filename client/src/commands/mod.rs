//! What each command does, by what it is about; here, what they share.

mod auto;
mod backup;
mod find;
mod instance;
mod registration;
mod restore;
mod usage;

use std::io::{BufRead, IsTerminal};

use clap::CommandFactory;
use milvault_wire::{CompletenessView, FailureView, Open};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error,
    api::{Answer, Api},
    arguments::{Arguments, Command, Confirmation, Waiting},
    output::{self, say},
    show::{known, reasons, text},
    wait::Job,
};

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Tables,
    Json,
}

impl Form {
    /// Prints an answer: as it is, or by `tables`.
    fn print<T>(self, answer: &Answer<T>, tables: impl FnOnce(&T) -> String) -> Result<(), Error> {
        self.print_document(&answer.document, || tables(&answer.object))
    }

    /// Prints a document, or the tables in its place.
    fn print_document(self, document: &Value, tables: impl FnOnce() -> String) -> Result<(), Error> {
        match self {
            Self::Tables => output::answer(&tables()),
            Self::Json => output::answer(&format!("{document:#}\n")),
        }
    }
}

pub(crate) async fn run(arguments: Arguments, form: Form) -> Result<(), Error> {
    if let Command::Completion { shell } = arguments.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "milvault", &mut script);
        return output::answer(&String::from_utf8_lossy(&script));
    }
    let url = arguments.url.as_deref();
    let url = url.ok_or_else(|| Error::Usage("which API? Use --url or set MILVAULT_URL".to_owned()))?;
    let api = Api::at(url, arguments.region, arguments.token.filter(|token| !token.is_empty())).await?;
    match arguments.command {
        Command::Instance(command) => instance::run(&api, form, command).await,
        Command::Backup(command) => backup::run(&api, form, command).await,
        Command::Restore(command) => restore::run(&api, form, command).await,
        Command::Auto(command) => auto::run(&api, form, command).await,
        Command::Usage(usage) => usage::run(&api, form, usage).await,
        Command::Completion { .. } => Ok(()),
    }
}

/// Asks before what can't be undone.
fn confirm(confirmation: Confirmation, what: &str) -> Result<(), Error> {
    if confirmation.yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::NotConfirmed(format!(". {what} Say --yes if that is what you want.")));
    }
    output::ask(&format!("{what} Go on? [y/N]"));
    let mut answer = String::new();
    match stdin.lock().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") => Ok(()),
        _ => Err(Error::NotConfirmed(String::new())),
    }
}

/// A list that is left out where nothing was said of it.
fn listed(values: Vec<String>) -> Option<Vec<String>> {
    (!values.is_empty()).then_some(values)
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        say(format!("warning: {warning}"));
    }
}

/// What was accepted, or what became of it once it is over.
async fn ended<T: DeserializeOwned>(
    api: &Api,
    job: Job<'_, T>,
    waiting: Waiting,
    accepted: Answer<T>,
) -> Result<Answer<T>, Error> {
    if waiting.no_wait {
        job.leave();
        return Ok(accepted);
    }
    job.ended(api).await
}

/// Whether what was waited for has everything that was asked for.
fn whole(found: &CompletenessView, what: &'static str, status: &'static str) -> Result<(), Error> {
    if found.complete != Some(false) {
        return Ok(());
    }
    Err(Error::Incomplete { what, status, reasons: reasons(found).collect::<Vec<_>>().join("; ") })
}

/// Whether what was waited for ended as it should.
fn succeeded<S: PartialEq + Serialize>(
    status: &Open<S>,
    failure: Option<&FailureView>,
    waiting: Waiting,
    hoped: S,
) -> Result<(), Error> {
    if waiting.no_wait || *status == hoped {
        return Ok(());
    }
    Err(Error::Ended(match known(failure.map(|failure| &failure.message)) {
        message if message.is_empty() => format!("it is {}", text(status)),
        message => format!("it is {}: {message} ({})", text(status), known(failure.map(|failure| &failure.code))),
    }))
}

#[cfg(test)]
mod tests {
    use milvault_model::RestoreStatus;
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn only_what_is_known_to_be_incomplete_isnt_whole() {
        let whole = |found| whole(&from_value(found).unwrap(), "backup", "available");
        let incomplete = whole(json!({ "complete": false, "incompleteReasons": ["a", "b"] })).unwrap_err();
        assert_eq!(incomplete.to_string(), "the backup is available and incomplete: a; b");
        assert!(whole(json!({ "complete": true })).is_ok());
        assert!(whole(json!({ "complete": null })).is_ok() && whole(json!({})).is_ok());
    }

    #[test]
    fn what_ended_otherwise_than_hoped_says_why() {
        let ended = |status: &str, failure| {
            let (status, failure): (_, Option<FailureView>) = from_value(json!([status, failure])).unwrap();
            succeeded(&status, failure.as_ref(), Waiting { no_wait: false }, RestoreStatus::Completed)
        };
        assert!(ended("COMPLETED", json!(null)).is_ok());
        let failed = ended("FAILED", json!({ "code": "DISK_FULL", "message": "no\nroom" })).unwrap_err();
        assert_eq!(failed.to_string(), "it is FAILED: no\u{fffd}room (DISK_FULL)");
        assert_eq!(ended("PAUSED", json!(null)).unwrap_err().to_string(), "it is PAUSED");
    }
}
