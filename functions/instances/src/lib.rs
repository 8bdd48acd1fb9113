//! Registers Milvus instances, and checks whether they can be backed up.
#![forbid(unsafe_code)]

mod endpoint;
mod preflight;
mod registration;
mod removal;

use milvault_gateway::{Answer, Call, Caller, Direct, Event, PageSize, Route, find, show};
use milvault_jobs::{Error, Jobs, Tag};
use milvault_model::{BackupState, InstanceId};
use milvault_ports::PageRequest;
use milvault_runtime::{Invocation, RuntimeError};
use milvault_wire::{InstanceView, PageView};
use serde_json::Value;

#[derive(Debug, Clone, Copy)]
enum Action {
    Get,
    Put,
    List,
    Delete,
    Preflight,
}

const ROUTES: [Route<Action>; 5] = [
    Route { http: "GET /instances/{instanceId}", direct: Direct::Tagged("action", "get"), action: Action::Get },
    Route { http: "PUT /instances/{instanceId}", direct: Direct::Tagged("action", "put"), action: Action::Put },
    Route { http: "GET /instances", direct: Direct::Tagged("action", "list"), action: Action::List },
    Route {
        http: "DELETE /instances/{instanceId}",
        direct: Direct::Tagged("action", "delete"),
        action: Action::Delete,
    },
    Route {
        http: "POST /instances/{instanceId}/preflight",
        direct: Direct::Tagged("action", "preflight"),
        action: Action::Preflight,
    },
];

/// Answers one event.
///
/// # Errors
/// Infrastructure faults, to a caller who isn't behind HTTP.
pub async fn handle(jobs: &Jobs, event: Event, invocation: &Invocation) -> Result<Value, RuntimeError> {
    let caller = Caller::of(&event);
    invocation.reply(caller, serve(jobs, event).await)
}

async fn serve(jobs: &Jobs, event: Event) -> Result<Answer, Error> {
    let call = Call::read(event, &ROUTES)?;
    match call.action {
        Action::List => list(jobs, call).await,
        Action::Put => {
            let instance = call.instance()?;
            let precondition = call.precondition()?;
            let (registration, filters) = call.body_and_filters(&["check"])?;
            let check = if filters.switch("check").map_err(|found| Error::Invalid(vec![found]))? {
                Check::Preflight
            } else {
                Check::Nothing
            };
            registration::put(jobs, instance, registration, &precondition, check).await
        }
        Action::Get => {
            let found = find::instance(jobs, &named(call)?).await?;
            Ok(Answer::ok(show::instance(jobs, &found.value).await?).tagged(&Tag::of_instance(&found.value)))
        }
        Action::Delete => removal::remove(jobs, &named(call)?).await,
        Action::Preflight => {
            let key = call.key().of(&"preflight")?;
            let instance = named(call)?;
            find::instance(jobs, &instance).await?;
            if let Some(key) = key {
                key.remember(jobs, format!("preflight#{instance}"), instance.to_string()).await?;
            }
            Ok(Answer::ok(preflight::preflight(jobs, &instance).await?))
        }
    }
}

/// What is checked of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// That it can be one.
    Nothing,
    /// Also that it can be backed up, as it then is.
    Preflight,
}

/// The instance of a call that says nothing else.
fn named(call: Call<Action>) -> Result<InstanceId, Error> {
    let instance = call.instance()?;
    call.nothing_more()?;
    Ok(instance)
}

async fn list(jobs: &Jobs, call: Call<Action>) -> Result<Answer, Error> {
    let paging =
        call.filters(&["limit", "cursor"])?.paging::<InstanceId>(PageSize::LISTING, &jobs.settings.cursor_key)?;
    let page = jobs.ports.catalog.instances(paging.request()).await?;
    let last = page.items.last().filter(|_| page.more);
    let next_cursor = last.map(|last| paging.cursor(last.id.as_str()));
    Ok(Answer::ok(PageView { items: page.items.iter().map(InstanceView::of).collect(), next_cursor }))
}

/// Refuses while a job of the instance is under way.
///
/// A job that begins after this look writes the instance's record too, so that a change decided on it isn't committed.
async fn refuse_while_occupied(jobs: &Jobs, instance: &InstanceId) -> Result<(), Error> {
    match jobs.ports.catalog.job(instance).await? {
        Some(job) => Err(Error::occupied(job)),
        None => Ok(()),
    }
}

/// Refuses while the instance has a backup with anything stored.
async fn refuse_with_backups(jobs: &Jobs, instance: &InstanceId) -> Result<(), Error> {
    let mut after = None;
    loop {
        let page = jobs.ports.catalog.backups(instance, PageRequest { after, limit: 200 }).await?;
        let is_over = |state: &BackupState| {
            matches!(state, BackupState::Failed { .. } | BackupState::Cancelled { .. } | BackupState::Deleted { .. })
        };
        if page.items.iter().any(|backup| !is_over(&backup.value.state)) {
            return Err(Error::HasBackups(instance.clone()));
        }
        after = page.items.last().map(|backup| backup.value.id.to_string());
        if !page.more || after.is_none() {
            return Ok(());
        }
    }
}
