//! The list function: lists an instance's backups and restores.
#![forbid(unsafe_code)]

mod filter;

use filter::{BackupFilter, RestoreFilter, Sifted, sift};
use milvault_gateway::{Answer, Call, Event, PageSize, Paging, Route};
use milvault_jobs::{Error, Jobs};
use milvault_model::{Backup, BackupId, Restore, RestoreId};
use milvault_ports::PageRequest;
use milvault_runtime::Invocation;
use milvault_wire::{BackupView, PageView, RestoreView};

#[derive(Debug, Clone, Copy)]
enum Action {
    Backups,
    Restores,
}

const ROUTES: [Route<Action>; 2] = [
    Route { http: Some("GET /instances/{instanceId}/backups"), name: "backups", action: Action::Backups },
    Route { http: Some("GET /instances/{instanceId}/restores"), name: "restores", action: Action::Restores },
];

/// The number of records read at once, because a filter may skip most of them.
const CHUNK: usize = 200;

/// Answers one event.
///
/// # Errors
/// The reason why the event has no answer; [`Invocation::reply`] decides what the caller gets.
pub async fn handle(jobs: &Jobs, event: Event, _: &Invocation) -> Result<Answer, Error> {
    let call = Call::read(event, &ROUTES)?;
    match call.action {
        Action::Backups => backups(jobs, call).await,
        Action::Restores => restores(jobs, call).await,
    }
}

async fn backups(jobs: &Jobs, call: Call<Action>) -> Result<Answer, Error> {
    let instance = call.instance()?;
    let filters = call.filters(&["status", "type", "from", "to", "limit", "cursor", "includeDeleted"])?;
    let paging = filters.paging::<BackupId>(PageSize::LISTING, &jobs.settings.cursor_key)?;
    let filter = BackupFilter::read(&filters)?;
    jobs.instance(&instance).await?;

    let mut sifted = Sifted::begin(&paging);
    while let Some(request) = next_request(&sifted, &paging) {
        let page = jobs.ports.catalog.backups(&instance, request).await?;
        let records = page.items.into_iter().map(|found| found.value);
        sift(&mut sifted, records, page.next, |backup: &Backup| (backup.id.to_string(), filter.judge(backup)));
    }
    let now = jobs.now();
    let items = sifted.items.iter().map(|backup| BackupView::new(backup, now)).collect();
    Ok(Answer::ok(PageView { items, next_cursor: sifted.goes_on_after().map(|last| paging.cursor(last)) }))
}

async fn restores(jobs: &Jobs, call: Call<Action>) -> Result<Answer, Error> {
    let instance = call.instance()?;
    let filters = call.filters(&["status", "from", "to", "limit", "cursor"])?;
    let paging = filters.paging::<RestoreId>(PageSize::LISTING, &jobs.settings.cursor_key)?;
    let filter = RestoreFilter::read(&filters)?;
    jobs.instance(&instance).await?;

    let mut sifted = Sifted::begin(&paging);
    while let Some(request) = next_request(&sifted, &paging) {
        let page = jobs.ports.catalog.restores(&instance, request).await?;
        sift(&mut sifted, page.items, page.next, |restore: &Restore| (restore.id.to_string(), filter.judge(restore)));
    }
    let now = jobs.now();
    let items = sifted.items.iter().map(|restore| RestoreView::new(restore, now)).collect();
    Ok(Answer::ok(PageView { items, next_cursor: sifted.goes_on_after().map(|last| paging.cursor(last)) }))
}

/// The next part of the catalog's listing; `None` if the page is full or the listing has ended.
fn next_request<T>(sifted: &Sifted<T>, paging: &Paging) -> Option<PageRequest> {
    let after = sifted.looks_on_after()?;
    Some(PageRequest { after, limit: paging.limit.clamp(CHUNK, 1000) })
}
