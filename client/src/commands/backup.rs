//! Backups.

use serde_json::{Value, json};

use super::{Form, confirm, ended, find, items, listed, said, succeeded, warn, whole};
use crate::{
    Error,
    api::Api,
    arguments::BackupCommand,
    output::say,
    show::{complete, completeness, facts, field, rows, size, table, time},
    wait::{Job, Kind},
};

pub(super) async fn run(api: &Api, form: Form, command: BackupCommand) -> Result<(), Error> {
    match command {
        BackupCommand::Create { instance, name, collections, expires_in_days, waiting } => {
            let body = said(vec![
                ("name", Some(json!(name))),
                ("collections", listed(&collections)),
                ("expiresInDays", expires_in_days.map(|days| json!(days))),
            ]);
            let accepted = api.post(&["instances", &instance, "backups"], Some(&body)).await?;
            let id = field(&accepted, "backupId");
            let job = Job { kind: Kind::Backup, instance: &instance, id: &id };
            let found = ended(api, job, waiting, accepted).await?;
            form.print(&found, show)?;
            left_out(&found);
            succeeded(&found, waiting, "AVAILABLE")?;
            whole(&found, "backup", "available")
        }
        BackupCommand::List { instance, status, kind, deleted } => {
            let mut query: Vec<(&str, String)> = Vec::new();
            query.extend(status.map(|status| ("status", status.to_uppercase())));
            query.extend(kind.map(|kind| ("type", kind.to_uppercase())));
            query.extend(deleted.then(|| ("includeDeleted", "true".to_owned())));
            form.print(&api.whole(&["instances", &instance, "backups"], &query).await?, list)
        }
        BackupCommand::Show { instance, backup } => {
            let id = field(&find::backup(api, &instance, &backup).await?, "backupId");
            let found = api.whole(&["instances", &instance, "backups", &id], &[]).await?;
            form.print(&found, show)?;
            left_out(&found);
            Ok(())
        }
        BackupCommand::Verify { instance, backup } => {
            let id = field(&find::backup(api, &instance, &backup).await?, "backupId");
            let begun = api.post(&["instances", &instance, "backups", &id, "verify"], None).await?;
            let found = match field(&begun, "verification.status").as_str() {
                // What is damaged may not be described any more.
                "COMPLETED" => begun,
                _ => Job { kind: Kind::Verification, instance: &instance, id: &id }.ended(api).await?,
            };
            form.print(&found, |found| {
                let [missing, changed] = ["missing", "changed"].map(|kind| objects(found, kind));
                format!("{}{missing}{changed}", facts(&verification(found)))
            })?;
            match field(&found, "status").as_str() {
                "AVAILABLE" => Ok(()),
                status => Err(Error::Ended(format!("the backup is {status}"))),
            }
        }
        BackupCommand::Delete { instance, backup, confirmation } => {
            let found = find::backup(api, &instance, &backup).await?;
            let (id, name) = (field(&found, "backupId"), field(&found, "name"));
            let created = time(&found, "createdAt");
            let what = format!("The backup '{name}' ({id}) of {instance}, created {created}, will be gone for good.");
            confirm(confirmation, &what)?;
            let answer = api.delete(&["instances", &instance, "backups", &id]).await?;
            form.print(&answer, |answer| match field(answer, "status").as_str() {
                "RUNNING" | "PENDING" => format!("{name} ({id}) is being stopped\n"),
                status => format!("{name} ({id}) is {status}\n"),
            })?;
            warn(&answer);
            Ok(())
        }
    }
}

fn list(found: &Value) -> String {
    let row = |backup: &Value| {
        let [id, name, kind, status] = ["backupId", "name", "type", "status"].map(|name| field(backup, name));
        let [size, added] = ["sizeBytes", "addedBytes"].map(|name| size(backup, name));
        let [created, expires] = ["createdAt", "expiresAt"].map(|name| time(backup, name));
        vec![id, name, kind, status, complete(backup), size, added, created, expires]
    };
    let headings = ["backup", "name", "type", "status", "complete", "size", "added", "created", "expires"];
    table(&headings, &items(found, "items").map(row).collect::<Vec<_>>())
}

fn show(found: &Value) -> String {
    let what = [
        ("backup", field(found, "backupId")),
        ("name", field(found, "name")),
        ("type", field(found, "type")),
        ("status", field(found, "status")),
    ];
    let more = [
        ("phase", field(found, "phase")),
        ("percent", field(found, "progress.percent")),
        ("size", size(found, "sizeBytes")),
        ("added", size(found, "addedBytes")),
        ("rows", rows(found, "entityCount")),
        ("captured as", captured_as(found)),
        ("engine", field(found, "engineVersion")),
        ("created", time(found, "createdAt")),
        ("point in time", time(found, "pointInTime")),
        ("expires", time(found, "expiresAt")),
        ("locked until", time(found, "lockedUntil")),
        ("failure", field(found, "failure.message")),
        ("verification", field(found, "verification.status")),
        ("verified", time(found, "verification.completedAt")),
    ];
    let all: Vec<_> = what.into_iter().chain(completeness(found)).chain(more).collect();
    let mut text = facts(&all);
    let mut lines = Vec::new();
    for database in items(found, "databases") {
        for collection in items(database, "collections") {
            let name = format!("{}.{}", field(database, "name"), field(collection, "name"));
            let [entities, bytes] = [rows(collection, "entityCount"), size(collection, "sizeBytes")];
            lines.push(vec![name, entities, bytes, field(collection, "partitions")]);
        }
    }
    if !lines.is_empty() {
        text.push('\n');
        text.push_str(&table(&["collection", "rows", "size", "partitions"], &lines));
    }
    text
}

/// The user that Milvus was asked as, where it is known.
fn captured_as(found: &Value) -> String {
    match (field(found, "capturedAs.user"), found.pointer("/capturedAs/seesEverything").and_then(Value::as_bool)) {
        (user, Some(false)) if user.is_empty() => "a user who may not see everything".to_owned(),
        (user, Some(false)) => format!("{user}, who may not see everything"),
        (user, _) => user,
    }
}

/// Says what was there and isn't in it.
fn left_out(found: &Value) {
    for left in items(found, "leftOut") {
        say(format!("left out: {}: {}", field(left, "collection"), field(left, "reason")));
    }
}

fn verification(found: &Value) -> [(&'static str, String); 6] {
    let count = |name: &str| items(&found["verification"], name).count().to_string();
    [
        ("backup", field(found, "name")),
        ("status", field(found, "status")),
        ("verification", field(found, "verification.status")),
        ("objects checked", field(found, "verification.objectsChecked")),
        ("missing", count("missing")),
        ("changed", count("changed")),
    ]
}

/// The objects that aren't as they were, of which the API tells the first hundred.
fn objects(found: &Value, kind: &str) -> String {
    items(&found["verification"], kind).filter_map(Value::as_str).map(|key| format!("{kind}: {key}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_shown_with_its_collections() {
        let found = json!({
            "backupId": "bk-1", "name": "2026-11-23T05:39:01.079Z", "status": "AVAILABLE", "sizeBytes": 906_478,
            "createdAt": "2026-11-23T05:39:01.079Z", "verification": null,
            "databases": [
                { "name": "default", "collections": [{ "name": "items", "entityCount": 5, "sizeBytes": 99, "partitions": 1 }] }
            ]
        });
        assert_eq!(
            show(&found),
            "backup   bk-1\nname     2026-11-23T05:39:01.079Z\nstatus   AVAILABLE\nsize     906.4 kB\n\
             created  2026-11-23 05:39:01Z\n\nCOLLECTION     ROWS  SIZE  PARTITIONS\ndefault.items  5     99 B  1\n"
        );
    }

    #[test]
    fn an_incomplete_backup_is_shown_as_such_with_its_reasons_its_user_and_upper_bounds() {
        let found = json!({
            "backupId": "bk-1", "status": "AVAILABLE", "complete": false, "incompleteReasons": ["default.b: broken"],
            "entityCount": 7, "entityCountIs": "AT_MOST", "capturedAs": { "user": "backup", "seesEverything": false },
            "databases": [{ "name": "default", "collections": [
                { "name": "a", "entityCount": 5, "entityCountIs": "EXACT", "sizeBytes": 99, "partitions": 1 },
                { "name": "b", "entityCount": 2, "entityCountIs": "AT_MOST", "sizeBytes": 9, "partitions": 1 }
            ] }]
        });
        assert_eq!(
            show(&found),
            "backup       bk-1\nstatus       AVAILABLE\ncomplete     no\nincomplete   default.b: broken\n\
             rows         at most 7\ncaptured as  backup, who may not see everything\n\n\
             COLLECTION  ROWS       SIZE  PARTITIONS\ndefault.a   5          99 B  1\ndefault.b   at most 2  9 B   1\n"
        );
        let listed = list(&json!({ "items": [found] }));
        assert!(listed.contains("AVAILABLE  no\n"), "{listed}");
    }

    #[test]
    fn a_verification_names_each_object_that_isnt_as_it_was() {
        let found = json!({ "verification": { "missing": ["a/b"], "changed": [] } });
        assert_eq!(verification(&found)[4..], [("missing", "1".to_owned()), ("changed", "0".to_owned())]);
        assert_eq!(objects(&found, "missing"), "missing: a/b\n");
    }
}
