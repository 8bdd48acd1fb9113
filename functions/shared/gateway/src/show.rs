//! Objects that take more than one record to show, a page of their collections at a time.

use milvault_jobs::{Error, Jobs, schedule, snapshot};
use milvault_model::{AutoBackup, AutoRun, AutoRunState, Backup, CollectionCapture, Instance, Manifest, Restore};
use milvault_wire::{
    AutoBackupView, BackupDescription, BackupView, CollectionRestoreView, InstanceDescription, InstanceView,
    LeftOutView, RestoreDescription, RestoreView, VerificationView, databases,
};

use crate::{PageSize, Paging};

/// A backup without its databases and collections, for one whose manifest can't be read.
pub fn backup_alone(jobs: &Jobs, backup: &Backup) -> BackupDescription {
    BackupDescription {
        backup: BackupView::of(backup, jobs.now()),
        verification: VerificationView::of(backup),
        databases: Vec::new(),
        left_out: Vec::new(),
        next_cursor: None,
    }
}

/// A backup with its databases and collections. One that isn't finished, or is being deleted, has none to show.
///
/// # Errors
/// When the catalog or the snapshot can't be read.
pub async fn backup(jobs: &Jobs, backup: &Backup, paging: &Paging) -> Result<BackupDescription, Error> {
    let mut shown = backup_alone(jobs, backup);
    if !backup.is_living() {
        return Ok(shown);
    }
    let (objects, bucket) = (jobs.ports.objects.as_ref(), jobs.settings.snapshots.in_region(&backup.region)?);
    let manifest = snapshot::manifest(objects, bucket, &backup.instance_id, &backup.id).await?;
    // A manifest never changes, so a collection's place in it is a sort key.
    let skip = paging.after.as_ref().and_then(|after| after.parse().ok()).unwrap_or(0);
    let mut captures = captures(jobs, backup, &manifest, skip, paging.limit).await?;
    // What belongs to no collection is shown once, with the first of them.
    let mut names = Vec::new();
    if skip == 0 {
        names.extend(manifest.databases.iter().map(|database| database.name.clone()));
        shown.left_out = manifest.left_out.iter().map(LeftOutView::of).collect();
    }
    let end = skip.saturating_add(captures.len());
    captures.sort_by(|a, b| a.name.cmp(&b.name));
    shown.databases = databases(names, &captures);
    let all: usize = manifest.collection_pages.iter().map(|page| page.entries as usize).sum();
    shown.next_cursor = (end < all && !captures.is_empty()).then(|| paging.cursor(&end.to_string()));
    Ok(shown)
}

/// So many of a manifest's collections, after the first `skip`.
async fn captures(
    jobs: &Jobs,
    backup: &Backup,
    manifest: &Manifest,
    mut skip: usize,
    limit: usize,
) -> Result<Vec<CollectionCapture>, Error> {
    let (objects, bucket) = (jobs.ports.objects.as_ref(), jobs.settings.snapshots.in_region(&backup.region)?);
    let mut captures: Vec<CollectionCapture> = Vec::new();
    for page in &manifest.collection_pages {
        if captures.len() == limit {
            break;
        }
        let entries = page.entries as usize;
        if skip >= entries {
            skip -= entries;
            continue;
        }
        let page = snapshot::collections(objects, bucket, &backup.instance_id, &backup.id, page).await?;
        let room = limit - captures.len();
        captures.extend(page.into_iter().skip(skip).take(room));
        skip = 0;
    }
    Ok(captures)
}

/// Where a restore is described: what other operations answer of one goes on there.
pub const RESTORE: &str = "GET /instances/{instanceId}/restores/{restoreId}";

/// A restore with the first of its collections.
///
/// # Errors
/// When the catalog can't be read.
pub async fn restore_begun(jobs: &Jobs, found: &Restore) -> Result<RestoreDescription, Error> {
    let path = [("instanceId", found.instance_id.as_str()), ("restoreId", found.id.as_str())];
    restore(jobs, found, &Paging::first(RESTORE, &path, PageSize::COLLECTIONS, &jobs.settings.cursor_key)).await
}

/// A restore with its collections.
///
/// # Errors
/// When the catalog can't be read.
pub async fn restore(jobs: &Jobs, restore: &Restore, paging: &Paging) -> Result<RestoreDescription, Error> {
    let page = jobs.ports.catalog.ledger(&restore.id, paging.request()).await?;
    Ok(RestoreDescription {
        restore: RestoreView::of(restore, jobs.now()),
        collections: page.items.iter().map(|line| CollectionRestoreView::of(line, restore)).collect(),
        next_cursor: page.next.map(|next| paging.cursor(&next)),
    })
}

/// An instance, with its automatic backups.
///
/// # Errors
/// When the catalog fails.
pub async fn instance(jobs: &Jobs, instance: &Instance) -> Result<InstanceDescription, Error> {
    let record = schedule::find(jobs, &instance.id).await?;
    let auto_backup = self::auto_backup(jobs, &record, Vec::new()).await?;
    Ok(InstanceDescription { instance: InstanceView::of(instance), auto_backup })
}

/// An instance's automatic backups, with what became of the last run.
///
/// # Errors
/// When the catalog fails.
pub async fn auto_backup(jobs: &Jobs, record: &AutoBackup, warnings: Vec<String>) -> Result<AutoBackupView, Error> {
    let made = match &record.last_run {
        Some(AutoRun { state: AutoRunState::Started { backup_id, .. }, .. }) => {
            jobs.ports.catalog.backup(&record.instance_id, backup_id).await?
        }
        _ => None,
    };
    let made = made.map(|made| made.value);
    Ok(AutoBackupView::of(record, made.as_ref(), jobs.now(), warnings))
}
