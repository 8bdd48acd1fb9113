//! Descriptions of objects that consist of several records, with their collections in pages.

use milvault_jobs::{Error, Folder, Jobs, schedule};
use milvault_model::{AutoBackup, AutoRun, AutoRunState, Backup, CollectionCapture, Instance, Manifest, Restore};
use milvault_wire::{
    AutoBackupView, BackupDescription, BackupView, CollectionRestoreView, InstanceDescription, InstanceView,
    LeftOutView, RestoreDescription, RestoreView, VerificationView, databases,
};

use crate::{PageSize, Paging};

/// Describes a backup without its databases and collections, because its manifest can't be read.
pub fn backup_without_collections(jobs: &Jobs, backup: &Backup) -> BackupDescription {
    BackupDescription {
        backup: BackupView::new(backup, jobs.now()),
        verification: VerificationView::last(backup),
        databases: Vec::new(),
        left_out: Vec::new(),
        next_cursor: None,
    }
}

/// Describes a backup with its databases and collections. An unfinished or deleted backup has none.
///
/// # Errors
/// The catalog or the snapshot can't be read.
pub async fn backup(jobs: &Jobs, backup: &Backup, paging: &Paging) -> Result<BackupDescription, Error> {
    let mut shown = backup_without_collections(jobs, backup);
    if !backup.is_living() {
        return Ok(shown);
    }
    let folder = jobs.snapshot_of(backup)?;
    let manifest = folder.manifest().await?;
    // A manifest never changes, so a collection's position in it is a sort key.
    let skip = paging.after.as_ref().and_then(|after| after.parse().ok()).unwrap_or(0);
    let mut captures = captures(&folder, &manifest, skip, paging.limit).await?;
    // The names of all databases and the left-out collections are on the first page only.
    let mut names = Vec::new();
    if skip == 0 {
        names.extend(manifest.databases.iter().map(|database| database.name.clone()));
        shown.left_out = manifest.left_out.iter().map(LeftOutView::new).collect();
    }
    let end = skip.saturating_add(captures.len());
    captures.sort_by(|a, b| a.name.cmp(&b.name));
    shown.databases = databases(names, &captures);
    let all: usize = manifest.collection_pages.iter().map(|page| page.entries as usize).sum();
    shown.next_cursor = (end < all && !captures.is_empty()).then(|| paging.cursor(&end.to_string()));
    Ok(shown)
}

/// Reads at most `limit` of a manifest's collections, after the first `skip`.
async fn captures(
    folder: &Folder<'_>,
    manifest: &Manifest,
    mut skip: usize,
    limit: usize,
) -> Result<Vec<CollectionCapture>, Error> {
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
        let page = folder.collections(page).await?;
        let room = limit - captures.len();
        captures.extend(page.into_iter().skip(skip).take(room));
        skip = 0;
    }
    Ok(captures)
}

/// The route that describes a restore. The cursors in other operations' answers are for this route.
pub const RESTORE: &str = "GET /instances/{instanceId}/restores/{restoreId}";

/// Describes a restore with the first page of its collections.
///
/// # Errors
/// The catalog can't be read.
pub async fn restore_first_page(jobs: &Jobs, found: &Restore) -> Result<RestoreDescription, Error> {
    let path = [("instanceId", found.instance_id.as_str()), ("restoreId", found.id.as_str())];
    restore(jobs, found, &Paging::first(RESTORE, &path, PageSize::COLLECTIONS, &jobs.settings.cursor_key)).await
}

/// Describes a restore with a page of its collections.
///
/// # Errors
/// The catalog can't be read.
pub async fn restore(jobs: &Jobs, restore: &Restore, paging: &Paging) -> Result<RestoreDescription, Error> {
    let page = jobs.ports.catalog.ledger(&restore.id, paging.request()).await?;
    Ok(RestoreDescription {
        restore: RestoreView::new(restore, jobs.now()),
        collections: page.items.iter().map(|line| CollectionRestoreView::new(line, restore)).collect(),
        next_cursor: page.next.map(|next| paging.cursor(&next)),
    })
}

/// Describes an instance with its automatic backups.
///
/// # Errors
/// The catalog fails.
pub async fn instance(jobs: &Jobs, instance: &Instance) -> Result<InstanceDescription, Error> {
    let record = schedule::find(jobs, &instance.id).await?;
    let auto_backup = self::auto_backup(jobs, &record, Vec::new()).await?;
    Ok(InstanceDescription { instance: InstanceView::new(instance), auto_backup })
}

/// Describes an instance's automatic backups with the result of the last run.
///
/// # Errors
/// The catalog fails.
pub async fn auto_backup(jobs: &Jobs, record: &AutoBackup, warnings: Vec<String>) -> Result<AutoBackupView, Error> {
    let backup = match &record.last_run {
        Some(AutoRun { state: AutoRunState::Started { backup_id, .. }, .. }) => {
            jobs.ports.catalog.backup(&record.instance_id, backup_id).await?
        }
        _ => None,
    };
    let backup = backup.map(|backup| backup.value);
    Ok(AutoBackupView::new(record, backup.as_ref(), jobs.now(), warnings))
}
