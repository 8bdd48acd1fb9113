//! What each command does.

use std::io::{IsTerminal, Write};

use serde_json::{Map, Value, json};

use crate::{
    Error,
    api::Api,
    arguments::{
        Arguments, AutoCommand, BackupCommand, Command, Confirmation, Granularity, InstanceCommand, Mode, Register,
        Reload, RestoreCommand, Start, Usage, Waiting,
    },
    show::{facts, field, size, table},
    wait::ended,
};

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Tables,
    Json,
}

impl Form {
    /// Prints an answer: as it is, or by `tables`.
    fn print(self, answer: &Value, tables: impl FnOnce(&Value)) {
        match self {
            Self::Tables => tables(answer),
            Self::Json => println!("{answer:#}"),
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Error> {
    let url = arguments.url.as_deref();
    let url = url.ok_or_else(|| Error::Usage("which API? Use --url or set MILVAULT_URL".to_owned()))?;
    let api = Api::at(url, arguments.region, arguments.token.filter(|token| !token.is_empty())).await?;
    let form = if arguments.json { Form::Json } else { Form::Tables };
    match arguments.command {
        Command::Instance(command) => instance(&api, form, command).await,
        Command::Backup(command) => backup(&api, form, command).await,
        Command::Restore(command) => restore(&api, form, command).await,
        Command::Auto(command) => auto(&api, form, command).await,
        Command::Usage(usage) => used(&api, form, usage).await,
        Command::Completion { .. } => Ok(()),
    }
}

/// Asks before what can't be undone.
fn confirm(confirmation: Confirmation, what: &str) -> Result<(), Error> {
    if confirmation.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::NotConfirmed("say --yes".to_owned()));
    }
    eprint!("{what} Go on? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stderr().flush().and_then(|()| std::io::stdin().read_line(&mut answer));
    match read {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Error::NotConfirmed("you didn't say yes".to_owned())),
    }
}

/// Only what was said.
fn said(fields: Vec<(&str, Option<Value>)>) -> Value {
    let said = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(said.collect::<Map<_, _>>())
}

fn warn(answer: &Value) {
    let many = answer.get("warnings").and_then(Value::as_array).into_iter().flatten();
    for warning in many.chain(answer.get("warning")).filter_map(Value::as_str) {
        eprintln!("warning: {warning}");
    }
}

fn items<'v>(object: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    object.get(name).and_then(Value::as_array).into_iter().flatten()
}

async fn instance(api: &Api, form: Form, command: InstanceCommand) -> Result<(), Error> {
    match command {
        InstanceCommand::List => {
            let found = Value::Array(api.all(&["instances"], &[], "items").await?);
            form.print(&found, |found| {
                let row = |i: &Value| ["instanceId", "name", "endpoint", "region"].map(|name| field(i, name)).to_vec();
                let rows: Vec<_> = found.as_array().into_iter().flatten().map(row).collect();
                table(&["instance", "name", "endpoint", "region"], &rows);
            });
        }
        InstanceCommand::Show { instance } => {
            form.print(&api.get(&["instances", &instance], &[]).await?, show_instance);
        }
        InstanceCommand::Register(register) => {
            let (path, body) = registration(api, &register);
            form.print(&api.put(&["instances", &path], &body).await?, show_instance);
        }
        InstanceCommand::Check { instance } => {
            let found = api.post(&["instances", &instance, "preflight"], None).await?;
            form.print(&found, |found| {
                let row = |check: &Value| ["name", "status", "detail"].map(|name| field(check, name)).to_vec();
                table(&["check", "status", "detail"], &items(found, "checks").map(row).collect::<Vec<_>>());
            });
            if found.get("ok") != Some(&Value::Bool(true)) {
                return Err(Error::Ended("it can't be backed up as it is".to_owned()));
            }
        }
        InstanceCommand::Remove { instance, confirmation } => {
            confirm(confirmation, &format!("Milvault forgets the instance {instance}."))?;
            let answer = api.delete(&["instances", &instance]).await?;
            form.print(&answer, |_| println!("{instance} is removed"));
        }
    }
    Ok(())
}

fn registration(api: &Api, register: &Register) -> (String, Value) {
    let region = register.data_region.clone().unwrap_or_else(|| api.region.clone());
    let name = register.name.clone().unwrap_or_else(|| register.instance.clone());
    let body = said(vec![
        ("name", Some(json!(name))),
        ("endpoint", Some(json!(register.endpoint))),
        ("region", Some(json!(region))),
        ("storage", Some(json!({ "bucket": register.bucket, "rootPath": register.root_path }))),
        ("auth", register.secret.as_ref().map(|arn| json!({ "secretArn": arn }))),
        ("managementEndpoint", register.management_endpoint.as_ref().map(|url| json!(url))),
        ("copyWorkers", register.copy_workers.map(|workers| json!(workers))),
    ]);
    (register.instance.clone(), body)
}

fn show_instance(found: &Value) {
    facts(&[
        ("instance", field(found, "instanceId")),
        ("name", field(found, "name")),
        ("endpoint", field(found, "endpoint")),
        ("region", field(found, "region")),
        ("bucket", field(found, "storage.bucket")),
        ("root path", field(found, "storage.rootPath")),
        ("secret", field(found, "auth.secretArn")),
        ("management", field(found, "managementEndpoint")),
        ("engine", field(found, "reportedEngineVersion")),
        ("registered", field(found, "createdAt")),
    ]);
}

/// The id of a backup that is given by its name or id: the newest of that name.
async fn backup_id(api: &Api, instance: &str, backup: &str) -> Result<String, Error> {
    let mut cursor: Option<String> = None;
    loop {
        let query: Vec<(&str, String)> = cursor.take().map(|cursor| ("cursor", cursor)).into_iter().collect();
        let page = api.get(&["instances", instance, "backups"], &query).await?;
        if let Some(found) = items(&page, "items").find(|found| field(found, "name") == backup) {
            return Ok(field(found, "backupId"));
        }
        match page.get("nextCursor").and_then(Value::as_str) {
            Some(next) => cursor = Some(next.to_owned()),
            // Then it is an id, or the API says that there is none.
            None => return Ok(backup.to_owned()),
        }
    }
}

async fn backup(api: &Api, form: Form, command: BackupCommand) -> Result<(), Error> {
    match command {
        BackupCommand::Create { instance, name, collections, expires_in_days, waiting } => {
            let body = said(vec![
                ("name", Some(json!(name))),
                ("collections", (!collections.is_empty()).then(|| json!(collections))),
                ("expiresInDays", expires_in_days.map(|days| json!(days))),
            ]);
            let accepted = api.post(&["instances", &instance, "backups"], Some(&body)).await?;
            let id = field(&accepted, "backupId");
            let path = ["instances", instance.as_str(), "backups", id.as_str()];
            let found = if waiting.no_wait { accepted } else { ended(api, &path, "status").await? };
            form.print(&found, show_backup);
            succeeded(&found, waiting, "AVAILABLE")
        }
        BackupCommand::List { instance, status, kind, deleted } => {
            let mut query: Vec<(&str, String)> = Vec::new();
            query.extend(status.map(|status| ("status", status)));
            query.extend(kind.map(|kind| ("type", kind)));
            query.extend(deleted.then(|| ("includeDeleted", "true".to_owned())));
            let found = Value::Array(api.all(&["instances", &instance, "backups"], &query, "items").await?);
            form.print(&found, |found| {
                let row = |backup: &Value| {
                    let [id, name, kind, status, created, expires] =
                        ["backupId", "name", "type", "status", "createdAt", "expiresAt"]
                            .map(|name| field(backup, name));
                    vec![
                        id,
                        name,
                        kind,
                        status,
                        size(backup, "sizeBytes"),
                        size(backup, "addedBytes"),
                        created,
                        expires,
                    ]
                };
                let rows: Vec<_> = found.as_array().into_iter().flatten().map(row).collect();
                table(&["backup", "name", "type", "status", "size", "added", "created", "expires"], &rows);
            });
            Ok(())
        }
        BackupCommand::Show { instance, backup } => {
            let id = backup_id(api, &instance, &backup).await?;
            form.print(&api.get(&["instances", &instance, "backups", &id], &[]).await?, show_backup);
            Ok(())
        }
        BackupCommand::Verify { instance, backup } => {
            let id = backup_id(api, &instance, &backup).await?;
            api.post(&["instances", &instance, "backups", &id, "verify"], None).await?;
            let found = ended(api, &["instances", &instance, "backups", &id], "verification.status").await?;
            form.print(&found, |found| {
                facts(&[
                    ("backup", field(found, "name")),
                    ("status", field(found, "status")),
                    ("verification", field(found, "verification.status")),
                    ("objects checked", field(found, "verification.objectsChecked")),
                    ("missing", field(found, "verification.missing")),
                    ("changed", field(found, "verification.changed")),
                ]);
            });
            match field(&found, "status").as_str() {
                "DAMAGED" => Err(Error::Ended("the backup is damaged".to_owned())),
                _ => Ok(()),
            }
        }
        BackupCommand::Delete { instance, backup, confirmation } => {
            let id = backup_id(api, &instance, &backup).await?;
            confirm(confirmation, &format!("The backup {backup} of {instance} will be gone for good."))?;
            let found = api.delete(&["instances", &instance, "backups", &id]).await?;
            form.print(&found, |found| println!("{backup} is {}", field(found, "status")));
            Ok(())
        }
    }
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

fn show_backup(found: &Value) {
    facts(&[
        ("backup", field(found, "backupId")),
        ("name", field(found, "name")),
        ("type", field(found, "type")),
        ("status", field(found, "status")),
        ("size", size(found, "sizeBytes")),
        ("added", size(found, "addedBytes")),
        ("rows", field(found, "entityCount")),
        ("engine", field(found, "engineVersion")),
        ("created", field(found, "createdAt")),
        ("point in time", field(found, "pointInTime")),
        ("expires", field(found, "expiresAt")),
        ("failure", field(found, "failure.message")),
    ]);
    let mut rows = Vec::new();
    for database in items(found, "databases") {
        for collection in items(database, "collections") {
            let name = format!("{}.{}", field(database, "name"), field(collection, "name"));
            let [entities, partitions] = ["entityCount", "partitions"].map(|name| field(collection, name));
            rows.push(vec![name, entities, size(collection, "sizeBytes"), partitions]);
        }
    }
    if !rows.is_empty() {
        println!();
        table(&["collection", "rows", "size", "partitions"], &rows);
    }
    for left in items(found, "leftOut") {
        eprintln!("left out: {}", left.get("name").map_or_else(|| left.to_string(), ToString::to_string));
    }
}

async fn restore(api: &Api, form: Form, command: RestoreCommand) -> Result<(), Error> {
    match command {
        RestoreCommand::Start(start) => restore_start(api, form, start).await,
        RestoreCommand::List { instance } => {
            let found = Value::Array(api.all(&["instances", &instance, "restores"], &[], "items").await?);
            form.print(&found, |found| {
                let fields = ["restoreId", "backupName", "status", "createdAt", "completedAt", "previousKeptUntil"];
                let row = |restore: &Value| fields.map(|name| field(restore, name)).to_vec();
                let rows: Vec<_> = found.as_array().into_iter().flatten().map(row).collect();
                table(&["restore", "backup", "status", "created", "completed", "previous kept until"], &rows);
            });
            Ok(())
        }
        RestoreCommand::Show { instance, restore } => {
            form.print(&api.get(&["instances", &instance, "restores", &restore], &[]).await?, show_restore);
            Ok(())
        }
        RestoreCommand::Cancel { instance, restore } => {
            let found = api.delete(&["instances", &instance, "restores", &restore]).await?;
            form.print(&found, |_| println!("{restore} stops"));
            Ok(())
        }
        RestoreCommand::Rollback { instance, restore, confirmation, waiting } => {
            confirm(confirmation, "What was written since the restore will be gone.")?;
            let path = ["instances", instance.as_str(), "restores", restore.as_str()];
            let accepted = api.post(&[path.as_slice(), &["rollback"]].concat(), None).await?;
            let found = if waiting.no_wait { accepted } else { ended(api, &path, "status").await? };
            form.print(&found, show_restore);
            warn(&found);
            succeeded(&found, waiting, "ROLLED_BACK")
        }
    }
}

async fn restore_start(api: &Api, form: Form, start: Start) -> Result<(), Error> {
    let source = start.from.as_deref().unwrap_or(&start.instance);
    let backup = backup_id(api, source, &start.backup).await?;
    let mut rename = Map::new();
    for pair in &start.rename {
        let (old, new) = pair.split_once('=').ok_or_else(|| Error::Usage(format!("'{pair}' is not OLD=NEW")))?;
        rename.insert(old.to_owned(), json!(new));
    }
    if matches!(start.mode, Mode::Replace) && start.keep_previous_hours == 0 {
        confirm(start.confirmation, "What is live in the collections now will be gone after the restore.")?;
    }
    let body = said(vec![
        ("backupId", Some(json!(backup))),
        ("sourceInstanceId", start.from.as_ref().map(|from| json!(from))),
        ("collections", (!start.collections.is_empty()).then(|| json!(start.collections))),
        ("rename", (!rename.is_empty()).then_some(Value::Object(rename))),
        ("mode", matches!(start.mode, Mode::Create).then(|| json!("CREATE"))),
        ("reload", matches!(start.reload, Reload::None).then(|| json!("NONE"))),
        ("keepPreviousHours", Some(json!(start.keep_previous_hours))),
        ("allowDamaged", start.allow_damaged.then_some(json!(true))),
    ]);
    let accepted = api.post(&["instances", &start.instance, "restores"], Some(&body)).await?;
    let id = field(&accepted, "restoreId");
    if form == Form::Tables && !start.waiting.no_wait {
        for sentence in items(&accepted, "unavailability").filter_map(Value::as_str) {
            eprintln!("{sentence}");
        }
    }
    let path = ["instances", start.instance.as_str(), "restores", id.as_str()];
    let found = if start.waiting.no_wait { accepted } else { ended(api, &path, "status").await? };
    form.print(&found, show_restore);
    warn(&found);
    succeeded(&found, start.waiting, "COMPLETED")
}

fn show_restore(found: &Value) {
    facts(&[
        ("restore", field(found, "restoreId")),
        ("backup", field(found, "backupName")),
        ("status", field(found, "status")),
        ("phase", field(found, "phase")),
        ("created", field(found, "createdAt")),
        ("completed", field(found, "completedAt")),
        ("previous kept until", field(found, "previousKeptUntil")),
        ("failure", field(found, "failure.message")),
    ]);
    let row = |line: &Value| {
        let load = if line.get("loadRequired") == Some(&Value::Bool(true)) { "yes" } else { "" };
        let [name, state, expected, found, gone] =
            ["name", "state", "rowsExpected", "rowsFound", "unavailableMs"].map(|name| field(line, name));
        vec![name, state, expected, found, gone, load.to_owned(), field(line, "previousCollection")]
    };
    let rows: Vec<_> = items(found, "collections").map(row).collect();
    if !rows.is_empty() {
        println!();
        table(&["collection", "state", "rows expected", "found", "gone for ms", "to load", "previous"], &rows);
    }
}

async fn auto(api: &Api, form: Form, command: AutoCommand) -> Result<(), Error> {
    match command {
        AutoCommand::Show { instance } => {
            form.print(&api.get(&["instances", &instance, "auto-backup"], &[]).await?, show_auto);
        }
        AutoCommand::On { instance, time, timezone, retention_days, keep_at_least } => {
            let path = ["instances", &instance, "auto-backup"];
            let (present, tag) = api.get_tagged(&path).await?;
            let as_it_is = |name: &str| present.get(name).cloned();
            let body = said(vec![
                ("enabled", Some(json!(true))),
                ("time", time.map(|time| json!(time)).or_else(|| as_it_is("time"))),
                ("timezone", timezone.map(|zone| json!(zone)).or_else(|| as_it_is("timezone"))),
                ("retentionDays", retention_days.map(|days| json!(days)).or_else(|| as_it_is("retentionDays"))),
                ("keepAtLeast", keep_at_least.map(|count| json!(count)).or_else(|| as_it_is("keepAtLeast"))),
            ]);
            form.print(&api.put_if(&path, &body, tag).await?, show_auto);
        }
        AutoCommand::Off { instance, confirmation } => {
            confirm(confirmation, "From now on no automatic backup is taken: what is lost can't be brought back.")?;
            let answer = api.put(&["instances", &instance, "auto-backup"], &json!({ "enabled": false })).await?;
            form.print(&answer, show_auto);
            warn(&answer);
        }
    }
    Ok(())
}

fn show_auto(found: &Value) {
    facts(&[
        ("enabled", field(found, "enabled")),
        ("time", field(found, "time")),
        ("time zone", field(found, "timezone")),
        ("kept for days", field(found, "retentionDays")),
        ("at least", field(found, "keepAtLeast")),
        ("next run", field(found, "nextRunAt")),
        ("last run", field(found, "lastRun.status")),
        ("at", field(found, "lastRun.at")),
        ("backup", field(found, "lastRun.backupId")),
        ("failure", field(found, "lastRun.failure.message")),
    ]);
}

async fn used(api: &Api, form: Form, usage: Usage) -> Result<(), Error> {
    let granularity = match usage.by {
        Granularity::Hour => "HOUR",
        Granularity::Day => "DAY",
        Granularity::Month => "MONTH",
    };
    let mut query = vec![("granularity", granularity.to_owned())];
    query.extend(usage.from.map(|from| ("from", from)));
    query.extend(usage.to.map(|to| ("to", to)));
    query.extend(usage.instance.map(|instance| ("instance", instance)));
    query.extend(usage.region.map(|region| ("region", region)));
    if usage.focus {
        query.push(("format", "focus".to_owned()));
        print!("{}", api.csv(&["usage"], &query).await?);
        return Ok(());
    }
    let found = Value::Array(api.all(&["usage"], &query, "items").await?);
    form.print(&found, |found| {
        let fields =
            ["periodStart", "region", "instanceId", "backupId", "byteHours", "cost", "currency", "correction.id"];
        let row = |record: &Value| fields.map(|name| field(record, name)).to_vec();
        let rows: Vec<_> = found.as_array().into_iter().flatten().map(row).collect();
        table(&["from", "region", "instance", "backup", "byte-hours", "cost", "currency", "correction"], &rows);
    });
    Ok(())
}
