//! Which backups go: the decision, with what it needs of the catalog.

use milvault_model::{
    Backup, KeepAtLeast,
    retention::{self, Decision, Standing},
};
use milvault_ports::PageRequest;

use crate::{Error, Jobs};

/// Decides about one backup, as of now.
///
/// # Errors
/// When the catalog fails.
pub(crate) async fn decide(jobs: &Jobs, backup: &Backup) -> Result<Decision, Error> {
    Ok(retention::decide(backup, standing(jobs, backup).await?, jobs.now()))
}

/// How a backup that may have expired stands among the instance's automatic ones.
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
    let mut after = None;
    while standing.newer < standing.keep_at_least.count() {
        let page = catalog.backups(&backup.instance_id, PageRequest { after, limit: 100 }).await?;
        for newer in page.items.iter().map(|found| &found.value).take_while(|newer| newer.id > backup.id) {
            standing.newer += usize::from(retention::counts(newer));
        }
        let last = page.items.last().map(|found| &found.value.id);
        if !page.more || last.is_none_or(|last| *last <= backup.id) {
            break;
        }
        after = last.map(ToString::to_string);
    }
    Ok(standing)
}
