//! The commands for backups.

use milvault_model::BackupStatus;
use milvault_wire::{
    AsGiven, BackupDescription, BackupRequest, BackupView, CollectionView, DeletedBackupView, LeftOutView, Open,
    PageView, PrincipalView, VerificationStatus, VerificationView,
};

use super::{
    confirmation::confirm,
    find,
    outcome::{require_complete, require_status, wait_for},
    request::listed,
};
use crate::{
    Error,
    api::{Answer, Api},
    arguments::BackupCommand,
    form::Form,
    output::{say, warn},
    show::{bytes, complete, completeness, facts, known, rows, size, table, text, time},
    wait::Job,
};

pub(super) async fn run(api: &Api, form: Form, command: BackupCommand) -> Result<(), Error> {
    match command {
        BackupCommand::Create { instance, name, collections, expires_in_days, waiting } => {
            let collections = listed(collections);
            let request = BackupRequest::<AsGiven> { name, collections, expires_in_days };
            let accepted: Answer<BackupDescription> = api.post(&["instances", &instance, "backups"], &request).await?;
            let id = text(&accepted.object.backup.backup_id);
            let found = wait_for(api, Job::backup(&instance, &id), waiting, accepted).await?;
            form.print(&found, show)?;
            left_out(&found.object.left_out);
            let backup = &found.object.backup;
            require_status(&backup.status, backup.failure.as_ref(), waiting, BackupStatus::Available)?;
            require_complete(&backup.completeness, "backup", "available")
        }
        BackupCommand::List { instance, status, kind, deleted } => {
            let mut query: Vec<(&str, String)> = Vec::new();
            query.extend(status.map(|status| ("status", status.to_uppercase())));
            query.extend(kind.map(|kind| ("type", kind.to_uppercase())));
            query.extend(deleted.then(|| ("includeDeleted", "true".to_owned())));
            form.print(&api.get_all(&["instances", &instance, "backups"], &query).await?, list)
        }
        BackupCommand::Show { instance, backup } => {
            let id = find::backup(api, &instance, &backup).await?.backup_id;
            let found: Answer<BackupDescription> = api.get_all(&["instances", &instance, "backups", &id], &[]).await?;
            form.print(&found, show)?;
            left_out(&found.object.left_out);
            Ok(())
        }
        BackupCommand::Verify { instance, backup } => {
            let id = find::backup(api, &instance, &backup).await?.backup_id;
            let begun: Answer<BackupDescription> =
                api.post_empty(&["instances", &instance, "backups", &id, "verify"]).await?;
            let found = match &begun.object.verification {
                // A damaged backup may have no readable description any more.
                Some(verification) if verification.status == VerificationStatus::Completed => begun,
                _ => Job::verification(&instance, &id).wait(api).await?,
            };
            form.print(&found, verified)?;
            match &found.object.backup.status {
                Open::Known(BackupStatus::Available) => Ok(()),
                status => Err(Error::Ended(format!("the backup is {}", text(status)))),
            }
        }
        BackupCommand::Delete { instance, backup, confirmation } => {
            let found = find::backup(api, &instance, &backup).await?;
            let [id, name] = [&found.backup_id, &found.name].map(text);
            let created = time(&found.created_at);
            let what =
                format!("The backup '{name}' ({id}) of {instance}, created {created}, will be deleted permanently.");
            confirm(confirmation, &what)?;
            let answer: Answer<DeletedBackupView> = api.delete(&["instances", &instance, "backups", &id]).await?;
            form.print(&answer, |answer| match &answer.backup.status {
                Open::Known(BackupStatus::Running | BackupStatus::Pending) => {
                    format!("{name} ({id}) is being cancelled\n")
                }
                status => format!("{name} ({id}) is {}\n", text(status)),
            })?;
            warn(std::slice::from_ref(&answer.object.warning));
            Ok(())
        }
    }
}

fn list(found: &PageView<BackupView>) -> String {
    let row = |backup: &BackupView| {
        vec![
            text(&backup.backup_id),
            text(&backup.name),
            text(&backup.kind),
            text(&backup.status),
            complete(&backup.completeness),
            size(backup.size_bytes),
            size(backup.added_bytes),
            time(&backup.created_at),
            time(backup.expires_at.as_ref()),
        ]
    };
    let headings = ["backup", "name", "type", "status", "complete", "size", "added", "created", "expires"];
    table(&headings, &found.items.iter().map(row).collect::<Vec<_>>())
}

fn show(found: &BackupDescription) -> String {
    let (backup, verification) = (&found.backup, found.verification.as_ref());
    let what = [
        ("backup", text(&backup.backup_id)),
        ("name", text(&backup.name)),
        ("type", text(&backup.kind)),
        ("status", text(&backup.status)),
    ];
    let more = [
        ("phase", known(backup.phase.as_ref())),
        ("percent", known(backup.progress.map(|progress| progress.percent))),
        ("size", size(backup.size_bytes)),
        ("added", size(backup.added_bytes)),
        ("rows", rows(backup.entity_count, backup.entity_count_is.as_ref())),
        ("captured as", backup.captured_as.as_ref().map(captured_as).unwrap_or_default()),
        ("engine", text(&backup.engine_version)),
        ("created", time(&backup.created_at)),
        ("point in time", time(backup.point_in_time.as_ref())),
        ("expires", time(backup.expires_at.as_ref())),
        ("locked until", time(backup.locked_until.as_ref())),
        ("failure", known(backup.failure.as_ref().map(|failure| &failure.message))),
        ("verification", known(verification.map(|verification| &verification.status))),
        ("verified", time(verification.and_then(|verification| verification.completed_at.as_ref()))),
    ];
    let all: Vec<_> = what.into_iter().chain(completeness(&backup.completeness)).chain(more).collect();
    let row = |database: &str, collection: &CollectionView| {
        let name = text(format!("{database}.{}", collection.name));
        let entities = rows(Some(collection.entity_count), Some(&collection.entity_count_is));
        vec![name, entities, bytes(collection.size_bytes), text(collection.partitions)]
    };
    let databases = found.databases.iter();
    let lines: Vec<_> =
        databases.flat_map(|database| database.collections.iter().map(|one| row(&database.name, one))).collect();
    let mut shown = facts(&all);
    if !lines.is_empty() {
        shown.push('\n');
        shown.push_str(&table(&["collection", "rows", "size", "partitions"], &lines));
    }
    shown
}

/// Describes the user that Milvus was queried as, if it is known.
fn captured_as(principal: &PrincipalView) -> String {
    match (known(principal.user.as_ref()), principal.sees_everything) {
        (user, false) if user.is_empty() => "a user who may not see everything".to_owned(),
        (user, false) => format!("{user}, who may not see everything"),
        (user, true) => user,
    }
}

/// Prints the collections that existed and aren't in the backup.
fn left_out(left_out: &[LeftOutView]) {
    for left in left_out {
        say(format!("left out: {}: {}", text(&left.collection), text(&left.reason)));
    }
}

/// Describes the result of a verification, with each missing or changed object: the API names the first hundred.
fn verified(found: &BackupDescription) -> String {
    let verification = found.verification.as_ref();
    let objects = |kind: fn(&VerificationView) -> &Vec<String>| verification.map(kind).map_or(&[][..], Vec::as_slice);
    let (missing, changed) = (objects(|found| &found.missing), objects(|found| &found.changed));
    let mut shown = facts(&[
        ("backup", text(&found.backup.name)),
        ("status", text(&found.backup.status)),
        ("verification", known(verification.map(|found| &found.status))),
        ("objects checked", known(verification.map(|found| found.objects_checked))),
        ("missing", missing.len().to_string()),
        ("changed", changed.len().to_string()),
    ]);
    for (kind, keys) in [("missing", missing), ("changed", changed)] {
        shown.extend(keys.iter().map(|key| format!("{kind}: {}\n", text(key))));
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

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
            show(&from_value(found).unwrap()),
            "backup   bk-1\nname     2026-11-23T05:39:01.079Z\nstatus   AVAILABLE\nsize     906.4 kB\n\
             created  2026-11-23 05:39:01Z\n\nCOLLECTION     ROWS  SIZE  PARTITIONS\ndefault.items  5     99 B  1\n"
        );
    }

    #[test]
    fn an_incomplete_backup_is_shown_with_its_reasons_its_user_and_upper_bounds() {
        let found = json!({
            "backupId": "bk-1", "status": "AVAILABLE", "complete": false, "incompleteReasons": ["default.b: broken"],
            "entityCount": 7, "entityCountIs": "AT_MOST", "capturedAs": { "user": "backup", "seesEverything": false },
            "databases": [{ "name": "default", "collections": [
                { "name": "a", "entityCount": 5, "entityCountIs": "EXACT", "sizeBytes": 99, "partitions": 1 },
                { "name": "b", "entityCount": 2, "entityCountIs": "AT_MOST", "sizeBytes": 9, "partitions": 1 }
            ] }]
        });
        assert_eq!(
            show(&from_value(found.clone()).unwrap()),
            "backup       bk-1\nstatus       AVAILABLE\ncomplete     no\nincomplete   default.b: broken\n\
             rows         at most 7\ncaptured as  backup, who may not see everything\n\n\
             COLLECTION  ROWS       SIZE  PARTITIONS\ndefault.a   5          99 B  1\ndefault.b   at most 2  9 B   1\n"
        );
        let listed = list(&from_value(json!({ "items": [found] })).unwrap());
        assert!(listed.contains("AVAILABLE  no\n"), "{listed}");
    }

    #[test]
    fn a_verification_names_each_missing_or_changed_object() {
        let verification = json!({ "status": "COMPLETED", "objectsChecked": 13, "missing": ["a/b"], "changed": [] });
        let found = json!({ "backupId": "bk-1", "name": "before", "status": "DAMAGED", "verification": verification });
        assert_eq!(
            verified(&from_value(found).unwrap()),
            "backup           before\nstatus           DAMAGED\nverification     COMPLETED\nobjects checked  13\n\
             missing          1\nchanged          0\nmissing: a/b\n"
        );
    }
}
