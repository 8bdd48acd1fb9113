//! Restores.

use serde_json::{Map, Value, json};

use super::{Form, confirm, ended, find, items, listed, said, succeeded, warn, whole};
use crate::{
    Error,
    api::Api,
    arguments::{Mode, OnError, Reload, RestoreCommand, Start},
    output::say,
    show::{complete, completeness, facts, field, reasons, rows, table, time},
    wait::{Job, Kind},
};

pub(super) async fn run(api: &Api, form: Form, command: RestoreCommand) -> Result<(), Error> {
    match command {
        RestoreCommand::Start(start) => begin(api, form, start).await,
        RestoreCommand::List { instance } => {
            form.print(&api.whole(&["instances", &instance, "restores"], &[]).await?, list)
        }
        RestoreCommand::Show { instance, restore } => {
            let found = api.whole(&["instances", &instance, "restores", &restore], &[]).await?;
            form.print(&found, show)?;
            warn(&found);
            Ok(())
        }
        RestoreCommand::Cancel { instance, restore } => {
            let found = api.delete(&["instances", &instance, "restores", &restore]).await?;
            form.print(&found, |_| format!("{restore} is being stopped\n"))
        }
        RestoreCommand::Rollback { instance, restore, confirmation, waiting } => {
            let path = ["instances", instance.as_str(), "restores", restore.as_str()];
            let what = format!("What was written to {instance} since the restore {restore} will be gone.");
            confirm(confirmation, &what)?;
            let accepted = api.post(&[path.as_slice(), &["rollback"]].concat(), None).await?;
            let job = Job { kind: Kind::Rollback, instance: &instance, id: &restore };
            let found = ended(api, job, waiting, accepted).await?;
            form.print(&found, show)?;
            warn(&found);
            succeeded(&found, waiting, "ROLLED_BACK")
        }
    }
}

async fn begin(api: &Api, form: Form, start: Start) -> Result<(), Error> {
    let Start { instance, waiting, .. } = &start;
    let mut rename = Map::new();
    for pair in &start.rename {
        let (old, new) = pair.split_once('=').ok_or_else(|| Error::Usage(format!("'{pair}' is not OLD=NEW")))?;
        rename.insert(old.to_owned(), json!(new));
    }
    let source = start.from.as_deref().unwrap_or(instance);
    let backup = find::backup(api, source, &start.backup).await?;
    for reason in reasons(&backup) {
        say(format!("warning: the backup is incomplete: {reason}"));
    }
    // What is kept can be brought back by a rollback, so that only this can't be undone.
    if matches!(start.mode, Mode::Replace) && start.keep_previous_hours == 0 {
        confirm(start.confirmation, &replaced(&backup, source, &start))?;
    }
    let body = said(vec![
        ("backupId", backup.get("backupId").cloned()),
        ("sourceInstanceId", start.from.as_ref().map(|from| json!(from))),
        ("collections", listed(&start.collections)),
        ("rename", (!rename.is_empty()).then_some(Value::Object(rename))),
        ("mode", matches!(start.mode, Mode::Create).then(|| json!("CREATE"))),
        ("reload", matches!(start.reload, Reload::None).then(|| json!("NONE"))),
        ("onError", matches!(start.on_error, OnError::Continue).then(|| json!("CONTINUE"))),
        ("keepPreviousHours", Some(json!(start.keep_previous_hours))),
        ("allowDamaged", start.allow_damaged.then_some(json!(true))),
    ]);
    let accepted = api.post(&["instances", instance, "restores"], Some(&body)).await?;
    if form == Form::Tables {
        for sentence in items(&accepted, "unavailability").filter_map(Value::as_str) {
            say(sentence);
        }
    }
    let id = field(&accepted, "restoreId");
    let found = ended(api, Job { kind: Kind::Restore, instance, id: &id }, *waiting, accepted).await?;
    form.print(&found, show)?;
    warn(&found);
    succeeded(&found, *waiting, "COMPLETED")?;
    whole(&found, "restore", "completed")
}

/// What a restore that keeps nothing does.
fn replaced(backup: &Value, source: &str, start: &Start) -> String {
    let [name, id] = ["name", "backupId"].map(|name| field(backup, name));
    let of = match time(backup, "pointInTime") {
        unknown if unknown.is_empty() => time(backup, "createdAt"),
        known => known,
    };
    let only = match start.collections.join(", ") {
        all if all.is_empty() => String::new(),
        some => format!(" of {some}"),
    };
    let instance = &start.instance;
    format!(
        "The backup '{name}' ({id}) of {source}, as it was at {of}, replaces what is live{only} in {instance}, and \
         nothing of that is kept."
    )
}

fn list(found: &Value) -> String {
    let row = |restore: &Value| {
        let [id, backup, status] = ["restoreId", "backupName", "status"].map(|name| field(restore, name));
        let [created, completed, kept] =
            ["createdAt", "completedAt", "previousKeptUntil"].map(|name| time(restore, name));
        vec![id, backup, status, complete(restore), created, completed, kept]
    };
    let headings = ["restore", "backup", "status", "complete", "created", "completed", "previous kept until"];
    table(&headings, &items(found, "items").map(row).collect::<Vec<_>>())
}

fn show(found: &Value) -> String {
    let mut lines = vec![
        ("restore", field(found, "restoreId")),
        ("backup", field(found, "backupName")),
        ("status", field(found, "status")),
    ];
    lines.extend(completeness(found));
    lines.extend([
        ("phase", field(found, "phase")),
        ("percent", field(found, "progress.percent")),
        ("created", time(found, "createdAt")),
        ("completed", time(found, "completedAt")),
        ("previous kept until", time(found, "previousKeptUntil")),
        ("failure", field(found, "failure.message")),
    ]);
    let mut text = facts(&lines);
    let row = |line: &Value| {
        let load = if line.get("loadRequired") == Some(&Value::Bool(true)) { "yes" } else { "" };
        let [name, state, found, gone] = ["name", "state", "rowsFound", "unavailableMs"].map(|name| field(line, name));
        let expected = rows(line, "rowsExpected");
        let [previous, waits] = ["previousCollection", "waitsFor"].map(|name| field(line, name));
        vec![name, state, expected, found, gone, load.to_owned(), previous, waits]
    };
    let lines: Vec<_> = items(found, "collections").map(row).collect();
    if !lines.is_empty() {
        let headings =
            ["collection", "state", "rows expected", "found", "gone for ms", "to load", "previous", "waits for"];
        text.push('\n');
        text.push_str(&table(&headings, &lines));
    }
    for failed in items(found, "collections").filter(|line| !field(line, "failure.message").is_empty()) {
        text.push_str(&format!("failed: {}\n", field(failed, "failure.message")));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    #[test]
    fn what_keeps_nothing_is_asked_by_instance_backup_and_time() {
        let backup = json!({ "backupId": "bk-1", "name": "before", "pointInTime": "2026-11-23T05:39:01.079Z" });
        let started = |more: &[&str]| {
            let said = ["milvault", "restore", "start", "copy", "before", "--from", "orders"];
            match Arguments::try_parse_from(said.iter().chain(more)).unwrap().command {
                Command::Restore(RestoreCommand::Start(start)) => replaced(&backup, "orders", &start),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            started(&[]),
            "The backup 'before' (bk-1) of orders, as it was at 2026-11-23 05:39:01Z, replaces what is live in copy, and \
             nothing of that is kept."
        );
        assert!(started(&["--collection", "default.*"]).contains("what is live of default.* in copy"));
    }
}
