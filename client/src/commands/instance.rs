//! The commands for Milvus servers.

use milvault_wire::{AutoBackupView, Code, InstanceDescription, InstanceView, PageView, PreflightView};
use serde_json::Value;

use super::{confirmation::confirm, registration};
use crate::{
    Error,
    api::{Answer, Api},
    arguments::InstanceCommand,
    form::Form,
    show::{facts, known, table, text, time},
};

pub(super) async fn run(api: &Api, form: Form, command: InstanceCommand) -> Result<(), Error> {
    match command {
        InstanceCommand::List => form.print(&api.get_all(&["instances"], &[]).await?, list),
        InstanceCommand::Show { instance } => {
            let found: Answer<InstanceDescription> = api.get(&["instances", &instance], &[]).await?;
            form.print(&found, |found| show(&found.instance, Some(&found.auto_backup)))
        }
        InstanceCommand::Register(register) => {
            form.print(&registration::put(api, &register).await?, |found| show(&found.instance, None))
        }
        InstanceCommand::Check { instance } => {
            let found: Answer<PreflightView> = api.post_empty(&["instances", &instance, "preflight"]).await?;
            form.print(&found, checks)?;
            if found.object.ok { Ok(()) } else { Err(Error::Ended("a check of the instance failed".to_owned())) }
        }
        InstanceCommand::Remove { instance, confirmation } => {
            confirm(confirmation, &format!("The registration of the instance {instance} will be removed."))?;
            let document = match api.delete::<InstanceView>(&["instances", &instance]).await {
                // An earlier attempt removed the instance, and only its answer was lost.
                Err(Error::Refused(refusal)) if refusal.is(Code::InstanceNotFound) && refusal.was_retried() => {
                    Value::Null
                }
                answer => answer?.document,
            };
            form.print_document(&document, || format!("{instance} is removed\n"))
        }
    }
}

fn list(found: &PageView<InstanceView>) -> String {
    let row = |one: &InstanceView| [&one.instance_id, &one.name, &one.endpoint, &one.region].map(text).to_vec();
    table(&["instance", "name", "endpoint", "region"], &found.items.iter().map(row).collect::<Vec<_>>())
}

fn checks(found: &PreflightView) -> String {
    let rows: Vec<_> =
        found.checks.iter().map(|check| vec![text(&check.name), text(&check.status), text(&check.detail)]).collect();
    table(&["check", "status", "detail"], &rows)
}

fn show(found: &InstanceView, auto_backup: Option<&AutoBackupView>) -> String {
    let (storage, auth) = (found.storage.as_ref(), found.auth.as_ref());
    facts(&[
        ("instance", text(&found.instance_id)),
        ("name", text(&found.name)),
        ("endpoint", text(&found.endpoint)),
        ("region", text(&found.region)),
        ("bucket", known(storage.map(|storage| &storage.bucket))),
        ("root path", known(storage.map(|storage| &storage.root_path))),
        ("secret", known(auth.map(|auth| &auth.secret_arn))),
        ("management", known(found.management_endpoint.as_ref())),
        ("copy workers", text(found.copy_workers)),
        ("engine", known(found.reported_engine_version.as_ref())),
        ("registered", time(&found.created_at)),
        ("automatic backup", known(auto_backup.map(|automatic| if automatic.enabled { "on" } else { "off" }))),
        ("next run", time(auto_backup.and_then(|automatic| automatic.next_run_at.as_ref()))),
    ])
}
