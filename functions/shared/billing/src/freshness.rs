//! The age of each instance's newest backup, and whether automatic backups should have made a newer one.

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_jobs::{Error, Jobs, schedule};
use milvault_model::{BackupState, InstanceId, Switch, Time};
use milvault_ports::{Page, PageRequest};

/// The age from which a backup is overdue: automatic backups are made daily, so this is two of their intervals.
const OVERDUE: TimeDelta = TimeDelta::days(2);

/// The number of instances on a page, and of those that are read concurrently, because each waits for the catalog.
const INSTANCES: usize = 1_000;
const IN_FLIGHT: usize = 32;

/// The number of an instance's backups that are read first, which nearly always suffices, and in total. An available
/// backup behind that many failed, deleted or damaged ones is ignored.
const FIRST_PAGE: usize = 10;
const MAX_READ: usize = 1_000;

/// The age of an instance's backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// The instance's id.
    pub instance_id: InstanceId,
    /// When the newest available backup was requested.
    pub newest: Option<Time>,
    /// Whether automatic backups have been on for long enough that there should be a newer one.
    pub is_overdue: bool,
}

/// Lists the freshness of a page of instances, by id, which is the sort key.
///
/// # Errors
/// The catalog fails.
pub async fn freshness(jobs: &Jobs, after: Option<String>, now: Time) -> Result<Page<Freshness>, Error> {
    let page = jobs.ports.catalog.instances(PageRequest { after, limit: INSTANCES }).await?;
    let reads = page.items.into_iter().map(async |instance| read(jobs, instance.id, now).await);
    let items = stream::iter(reads).buffered(IN_FLIGHT).try_collect().await?;
    Ok(Page { items, next: page.next })
}

/// Reads the freshness of one instance.
async fn read(jobs: &Jobs, instance_id: InstanceId, now: Time) -> Result<Freshness, Error> {
    let newest = newest_available(jobs, &instance_id).await?;
    // Most instances have a recent backup, so that their settings needn't be read.
    let is_overdue = newest.is_none_or(|created| now - created > OVERDUE)
        && match schedule::find(jobs, &instance_id).await?.switch {
            Switch::On { since } => now - since > OVERDUE,
            Switch::Off => false,
        };
    Ok(Freshness { instance_id, newest, is_overdue })
}

/// Finds when the newest available backup was requested. It reads the backups, because a backup that added nothing owns
/// nothing, and has no account.
async fn newest_available(jobs: &Jobs, instance: &InstanceId) -> Result<Option<Time>, Error> {
    let (mut after, mut limit, mut read) = (None, FIRST_PAGE, 0);
    while read < MAX_READ {
        let page = jobs.ports.catalog.backups(instance, PageRequest { after, limit }).await?;
        read += page.items.len();
        let mut backups = page.items.into_iter().map(|found| found.value);
        if let Some(newest) = backups.find(|backup| matches!(backup.state, BackupState::Available(_))) {
            return Ok(Some(newest.created_at));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
        limit = 100;
    }
    Ok(None)
}
