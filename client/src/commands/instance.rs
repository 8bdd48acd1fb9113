//! Milvus servers.

use serde_json::Value;

use super::{Form, confirm, items, registration};
use crate::{
    Error,
    api::Api,
    arguments::InstanceCommand,
    show::{facts, field, table, time},
};

pub(super) async fn run(api: &Api, form: Form, command: InstanceCommand) -> Result<(), Error> {
    match command {
        InstanceCommand::List => form.print(&api.whole(&["instances"], &[]).await?, list),
        InstanceCommand::Show { instance } => form.print(&api.get(&["instances", &instance], &[]).await?, show),
        InstanceCommand::Register(register) => form.print(&registration::put(api, &register).await?, show),
        InstanceCommand::Check { instance } => {
            let found = api.post(&["instances", &instance, "preflight"], None).await?;
            form.print(&found, checks)?;
            match found.get("ok") {
                Some(Value::Bool(true)) => Ok(()),
                _ => Err(Error::Ended("it can't be backed up as it is".to_owned())),
            }
        }
        InstanceCommand::Remove { instance, confirmation } => {
            confirm(confirmation, &format!("Milvault forgets the instance {instance}."))?;
            let answer = match api.delete(&["instances", &instance]).await {
                // An attempt before has done it, and only its answer was lost.
                Err(Error::Refused(refusal))
                    if refusal.code() == Some("INSTANCE_NOT_FOUND") && refusal.may_be_our_own_doing() =>
                {
                    Value::Null
                }
                answer => answer?,
            };
            form.print(&answer, |_| format!("{instance} is removed\n"))
        }
    }
}

fn list(found: &Value) -> String {
    let row = |one: &Value| ["instanceId", "name", "endpoint", "region"].map(|name| field(one, name)).to_vec();
    table(&["instance", "name", "endpoint", "region"], &items(found, "items").map(row).collect::<Vec<_>>())
}

fn checks(found: &Value) -> String {
    let row = |check: &Value| ["name", "status", "detail"].map(|name| field(check, name)).to_vec();
    table(&["check", "status", "detail"], &items(found, "checks").map(row).collect::<Vec<_>>())
}

fn show(found: &Value) -> String {
    let automatic = match found.pointer("/autoBackup/enabled") {
        Some(Value::Bool(true)) => "on",
        Some(Value::Bool(false)) => "off",
        _ => "",
    };
    facts(&[
        ("instance", field(found, "instanceId")),
        ("name", field(found, "name")),
        ("endpoint", field(found, "endpoint")),
        ("region", field(found, "region")),
        ("bucket", field(found, "storage.bucket")),
        ("root path", field(found, "storage.rootPath")),
        ("secret", field(found, "auth.secretArn")),
        ("management", field(found, "managementEndpoint")),
        ("copy workers", field(found, "copyWorkers")),
        ("engine", field(found, "reportedEngineVersion")),
        ("registered", time(found, "createdAt")),
        ("automatic backup", automatic.to_owned()),
        ("next run", time(found, "autoBackup.nextRunAt")),
    ])
}
