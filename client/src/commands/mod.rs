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
use serde_json::{Map, Value, json};

use crate::{
    Error,
    api::Api,
    arguments::{Arguments, Command, Confirmation, Waiting},
    output::{self, say},
    show::{field, reasons},
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
    fn print(self, answer: &Value, tables: impl FnOnce(&Value) -> String) -> Result<(), Error> {
        match self {
            Self::Tables => output::answer(&tables(answer)),
            Self::Json => output::answer(&format!("{answer:#}\n")),
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

/// Only what was said.
fn said(fields: Vec<(&str, Option<Value>)>) -> Value {
    let said = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(said.collect::<Map<_, _>>())
}

/// A list that is left out where nothing was said of it.
fn listed(values: &[String]) -> Option<Value> {
    (!values.is_empty()).then(|| json!(values))
}

fn warn(answer: &Value) {
    for warning in items(answer, "warnings").chain(answer.get("warning")).filter_map(Value::as_str) {
        say(format!("warning: {warning}"));
    }
}

fn items<'v>(object: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    object.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// What was accepted, or what became of it once it is over.
async fn ended(api: &Api, job: Job<'_>, waiting: Waiting, accepted: Value) -> Result<Value, Error> {
    if waiting.no_wait {
        job.leave();
        return Ok(accepted);
    }
    job.ended(api).await
}

/// Whether what was waited for has everything that was asked for.
fn whole(found: &Value, what: &'static str, status: &'static str) -> Result<(), Error> {
    if found.get("complete") != Some(&Value::Bool(false)) {
        return Ok(());
    }
    Err(Error::Incomplete { what, status, reasons: reasons(found).collect::<Vec<_>>().join("; ") })
}

/// Whether what was waited for ended as it should.
fn succeeded(job: &Value, waiting: Waiting, hoped: &str) -> Result<(), Error> {
    let status = field(job, "status");
    if waiting.no_wait || status == hoped {
        return Ok(());
    }
    Err(Error::Ended(match field(job, "failure.message") {
        message if message.is_empty() => format!("it is {status}"),
        message => format!("it is {status}: {message} ({})", field(job, "failure.code")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_incomplete_isnt_whole() {
        let whole = |found| whole(&found, "backup", "available");
        let incomplete = whole(json!({ "complete": false, "incompleteReasons": ["a", "b"] })).unwrap_err();
        assert_eq!(incomplete.to_string(), "the backup is available and incomplete: a; b");
        assert!(whole(json!({ "complete": true })).is_ok());
        assert!(whole(json!({ "complete": null })).is_ok() && whole(json!({})).is_ok());
    }
}
