//! The commands for restores.

use std::collections::BTreeMap;

use milvault_model::RestoreStatus;
use milvault_wire::{
    AsGiven, BackupView, CollectionRestoreView, PageView, RestoreDescription, RestoreRequest, RestoreView,
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
    arguments::{Mode, RestoreCommand, Start},
    form::Form,
    output::{say, warn},
    show::{complete, completeness, facts, known, reasons, rows, table, text, time},
    wait::Job,
};

pub(super) async fn run(api: &Api, form: Form, command: RestoreCommand) -> Result<(), Error> {
    match command {
        RestoreCommand::Start(start) => begin(api, form, start).await,
        RestoreCommand::List { instance } => {
            form.print(&api.get_all(&["instances", &instance, "restores"], &[]).await?, list)
        }
        RestoreCommand::Show { instance, restore } => {
            let found: Answer<RestoreDescription> =
                api.get_all(&["instances", &instance, "restores", &restore], &[]).await?;
            form.print(&found, show)?;
            warn(&found.object.restore.warnings);
            Ok(())
        }
        RestoreCommand::Cancel { instance, restore } => {
            let found: Answer<RestoreDescription> = api.delete(&["instances", &instance, "restores", &restore]).await?;
            form.print(&found, |_| format!("{restore} is being cancelled\n"))
        }
        RestoreCommand::Rollback { instance, restore, confirmation, waiting } => {
            let path = ["instances", instance.as_str(), "restores", restore.as_str()];
            let what = format!("Data written to {instance} since the restore {restore} will be lost.");
            confirm(confirmation, &what)?;
            let accepted = api.post_empty(&[path.as_slice(), &["rollback"]].concat()).await?;
            let found = wait_for(api, Job::rollback(&instance, &restore), waiting, accepted).await?;
            form.print(&found, show)?;
            let restore = &found.object.restore;
            warn(&restore.warnings);
            require_status(&restore.status, restore.failure.as_ref(), waiting, RestoreStatus::RolledBack)
        }
    }
}

async fn begin(api: &Api, form: Form, start: Start) -> Result<(), Error> {
    let mut rename = BTreeMap::new();
    for pair in &start.rename {
        let (old, new) = pair.split_once('=').ok_or_else(|| Error::Usage(format!("'{pair}' is not OLD=NEW")))?;
        rename.insert(old.to_owned(), new.to_owned());
    }
    let source = start.from.as_deref().unwrap_or(&start.instance);
    let backup = find::backup(api, source, &start.backup).await?;
    for reason in reasons(&backup.completeness) {
        say(format!("warning: the backup is incomplete: {reason}"));
    }
    // Replaced collections that are kept can be rolled back to. Only a restore that keeps none is irreversible.
    if start.mode == Mode::Replace && start.keep_previous_hours == 0 {
        confirm(start.confirmation, &replacement(&backup, source, &start))?;
    }
    let Start { instance, waiting, .. } = start;
    let request = RestoreRequest::<AsGiven> {
        backup_id: Some(backup.backup_id),
        backup_name: None,
        source_instance_id: start.from,
        collections: listed(start.collections),
        rename,
        allow_damaged: start.allow_damaged,
        mode: start.mode.into(),
        reload: start.reload.into(),
        on_error: start.on_error.into(),
        keep_previous_hours: start.keep_previous_hours,
    };
    let accepted: Answer<RestoreDescription> = api.post(&["instances", &instance, "restores"], &request).await?;
    if form == Form::Tables {
        accepted.object.restore.unavailability.iter().for_each(say);
    }
    let id = text(&accepted.object.restore.restore_id);
    let found = wait_for(api, Job::restore(&instance, &id), waiting, accepted).await?;
    form.print(&found, show)?;
    let restore = &found.object.restore;
    warn(&restore.warnings);
    require_status(&restore.status, restore.failure.as_ref(), waiting, RestoreStatus::Completed)?;
    require_complete(&restore.completeness, "restore", "completed")
}

/// Describes a restore that doesn't keep the replaced collections.
fn replacement(backup: &BackupView, source: &str, start: &Start) -> String {
    let [name, id] = [&backup.name, &backup.backup_id].map(text);
    let of = time(backup.point_in_time.as_ref().unwrap_or(&backup.created_at));
    let only = match start.collections.join(", ") {
        all if all.is_empty() => String::new(),
        some => format!(" of {some}"),
    };
    let instance = &start.instance;
    format!(
        "The backup '{name}' ({id}) of {source}, as it was at {of}, replaces the live data{only} in {instance}, which is \
         not kept."
    )
}

fn list(found: &PageView<RestoreView>) -> String {
    let row = |restore: &RestoreView| {
        let [created, completed, kept] =
            [Some(&restore.created_at), restore.completed_at.as_ref(), restore.previous_kept_until.as_ref()].map(time);
        let [id, backup] = [&restore.restore_id, &restore.backup_name].map(text);
        vec![id, backup, text(&restore.status), complete(&restore.completeness), created, completed, kept]
    };
    let headings = ["restore", "backup", "status", "complete", "created", "completed", "previous kept until"];
    table(&headings, &found.items.iter().map(row).collect::<Vec<_>>())
}

fn show(found: &RestoreDescription) -> String {
    let restore = &found.restore;
    let mut lines = vec![
        ("restore", text(&restore.restore_id)),
        ("backup", text(&restore.backup_name)),
        ("status", text(&restore.status)),
    ];
    lines.extend(completeness(&restore.completeness));
    lines.extend([
        ("phase", known(restore.phase.as_ref())),
        ("percent", known(restore.progress.map(|progress| progress.percent))),
        ("created", time(&restore.created_at)),
        ("completed", time(restore.completed_at.as_ref())),
        ("previous kept until", time(restore.previous_kept_until.as_ref())),
        ("failure", known(restore.failure.as_ref().map(|failure| &failure.message))),
    ]);
    let mut shown = facts(&lines);
    if !found.collections.is_empty() {
        let headings =
            ["collection", "state", "rows expected", "found", "gone for ms", "to load", "previous", "waits for"];
        shown.push('\n');
        shown.push_str(&table(&headings, &found.collections.iter().map(row).collect::<Vec<_>>()));
    }
    for failure in found.collections.iter().filter_map(|collection| collection.failure.as_ref()) {
        shown.push_str(&format!("failed: {}\n", text(&failure.message)));
    }
    shown
}

fn row(collection: &CollectionRestoreView) -> Vec<String> {
    vec![
        text(&collection.name),
        text(&collection.state),
        rows(Some(collection.rows_expected), Some(&collection.rows_expected_is)),
        known(collection.rows_found),
        known(collection.unavailable_ms),
        if collection.load_required { "yes" } else { "" }.to_owned(),
        known(collection.previous_collection.as_ref()),
        known(collection.waits_for.as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{from_value, json};

    use super::*;
    use crate::arguments::{Arguments, Command};

    #[test]
    fn the_confirmation_of_a_restore_names_instance_backup_and_time() {
        let backup: BackupView = from_value(json!({
            "backupId": "bk-1", "name": "before", "status": "AVAILABLE", "pointInTime": "2026-11-23T05:39:01.079Z"
        }))
        .unwrap();
        let started = |more: &[&str]| {
            let said = ["milvault", "restore", "start", "copy", "before", "--from", "orders"];
            match Arguments::try_parse_from(said.iter().chain(more)).unwrap().command {
                Command::Restore(RestoreCommand::Start(start)) => replacement(&backup, "orders", &start),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            started(&[]),
            "The backup 'before' (bk-1) of orders, as it was at 2026-11-23 05:39:01Z, replaces the live data in copy, which is \
             not kept."
        );
        assert!(started(&["--collection", "default.*"]).contains("the live data of default.* in copy"));
    }
}
