//! The instances function: registers Milvus instances, and checks whether they can be backed up.
#![forbid(unsafe_code)]

mod backups;
mod endpoint;
mod preflight;
mod registration;
mod removal;

use milvault_gateway::{Answer, Call, Event, PageSize, Route, show};
use milvault_jobs::{Error, Jobs, Tag};
use milvault_model::InstanceId;
use milvault_runtime::Invocation;
use milvault_wire::{InstanceView, PageView};

use registration::Check;

#[derive(Debug, Clone, Copy)]
enum Action {
    Get,
    Put,
    List,
    Delete,
    Preflight,
}

const ROUTES: [Route<Action>; 5] = [
    Route { http: Some("GET /instances/{instanceId}"), name: "get", action: Action::Get },
    Route { http: Some("PUT /instances/{instanceId}"), name: "put", action: Action::Put },
    Route { http: Some("GET /instances"), name: "list", action: Action::List },
    Route { http: Some("DELETE /instances/{instanceId}"), name: "delete", action: Action::Delete },
    Route { http: Some("POST /instances/{instanceId}/preflight"), name: "preflight", action: Action::Preflight },
];

/// Answers one event.
///
/// # Errors
/// The reason why the event has no answer; [`Invocation::reply`] decides what the caller gets.
pub async fn handle(jobs: &Jobs, event: Event, _: &Invocation) -> Result<Answer, Error> {
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
            let found = jobs.instance(&named(call)?).await?;
            Ok(Answer::ok(show::instance(jobs, &found.value).await?).with_etag(&Tag::for_instance(&found.value)))
        }
        Action::Delete => removal::remove(jobs, &named(call)?).await,
        Action::Preflight => {
            let key = call.key().for_request(&"preflight")?;
            let instance = named(call)?;
            jobs.instance(&instance).await?;
            if let Some(key) = key {
                key.remember(jobs, format!("preflight#{instance}"), instance.to_string()).await?;
            }
            Ok(Answer::ok(preflight::preflight(jobs, &instance).await?))
        }
    }
}

/// The instance of a call without any other input.
fn named(call: Call<Action>) -> Result<InstanceId, Error> {
    let instance = call.instance()?;
    call.require_no_input()?;
    Ok(instance)
}

async fn list(jobs: &Jobs, call: Call<Action>) -> Result<Answer, Error> {
    let paging =
        call.filters(&["limit", "cursor"])?.paging::<InstanceId>(PageSize::LISTING, &jobs.settings.cursor_key)?;
    let page = jobs.ports.catalog.instances(paging.request()).await?;
    let next_cursor = page.next.map(|next| paging.cursor(&next));
    Ok(Answer::ok(PageView { items: page.items.iter().map(InstanceView::new).collect(), next_cursor }))
}
