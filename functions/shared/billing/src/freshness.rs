//! How old each instance's newest backup is, and whether it is older than automatic backups let it become.

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_jobs::{Error, Jobs, schedule};
use milvault_model::{BackupState, InstanceId, Switch, Time};
use milvault_ports::{Page, PageRequest};

/// Automatic backups are made daily: what is older than two of their intervals should have been followed.
const OVERDUE: TimeDelta = TimeDelta::days(2);

/// Instances looked at in one go, and at once: each waits for the catalog.
const INSTANCES: usize = 1_000;
const IN_FLIGHT: usize = 32;

/// How many of an instance's backups are read at first, which is nearly always enough, and how many at most: behind so
/// many that failed, were deleted or are damaged, one that is available counts as none.
const FIRST: usize = 10;
const MOST: usize = 1_000;

/// How an instance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// Which.
    pub instance_id: InstanceId,
    /// When its newest available backup was asked for.
    pub newest: Option<Time>,
    /// Whether automatic backups have been on for so long that there would be a newer one.
    pub is_overdue: bool,
}

/// How the next instances stand, by id, which is the sort key.
///
/// # Errors
/// When the catalog fails.
pub async fn freshness(jobs: &Jobs, after: Option<String>, now: Time) -> Result<Page<Freshness>, Error> {
    let page = jobs.ports.catalog.instances(PageRequest { after, limit: INSTANCES }).await?;
    let looked_at = page.items.into_iter().map(async |instance| look_at(jobs, instance.id, now).await);
    let items = stream::iter(looked_at).buffered(IN_FLIGHT).try_collect().await?;
    Ok(Page { items, next: page.next })
}

async fn look_at(jobs: &Jobs, instance_id: InstanceId, now: Time) -> Result<Freshness, Error> {
    let newest = newest_available(jobs, &instance_id).await?;
    // Most have a new one, and needn't be asked for more.
    let is_overdue = newest.is_none_or(|made| now - made > OVERDUE)
        && match schedule::find(jobs, &instance_id).await?.switch {
            Switch::On { since } => now - since > OVERDUE,
            Switch::Off => false,
        };
    Ok(Freshness { instance_id, newest, is_overdue })
}

/// From the backups themselves: one that added nothing owns nothing, and so has no account that would tell of it.
async fn newest_available(jobs: &Jobs, instance: &InstanceId) -> Result<Option<Time>, Error> {
    let (mut after, mut limit, mut read) = (None, FIRST, 0);
    while read < MOST {
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
