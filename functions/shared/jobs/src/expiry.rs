//! The decision whether a backup has expired, with the records that it depends on.

use std::pin::pin;

use futures::TryStreamExt;
use milvault_model::{
    Backup, KeepAtLeast,
    retention::{self, Decision, Standing},
};
use milvault_ports::{Versioned, items};

use crate::{Error, Jobs};

/// Decides whether a backup is deleted or kept, as of now.
///
/// # Errors
/// The catalog fails.
pub(crate) async fn decide(jobs: &Jobs, backup: &Backup) -> Result<Decision, Error> {
    Ok(retention::decide(backup, standing(jobs, backup).await?, jobs.now()))
}

/// Returns a backup's standing among the instance's automatic backups; it matters only if the backup has expired.
async fn standing(jobs: &Jobs, backup: &Backup) -> Result<Standing, Error> {
    let mut standing = Standing { keep_at_least: KeepAtLeast::NONE, newer: 0 };
    let is_expired = backup.expires_at.is_some_and(|at| at <= jobs.now());
    if !is_expired || !retention::counts(backup) {
        return Ok(standing);
    }
    let catalog = jobs.ports.catalog.as_ref();
    if let Some(found) = catalog.auto_backup(&backup.instance_id).await? {
        standing.keep_at_least = found.value.plan.keep_at_least;
    }
    let mut backups = pin!(items(100, |page| catalog.backups(&backup.instance_id, page)));
    while standing.newer < standing.keep_at_least.count()
        && let Some(Versioned { value: newer, .. }) = backups.try_next().await?
        && newer.id > backup.id
    {
        standing.newer += usize::from(retention::counts(&newer));
    }
    Ok(standing)
}
