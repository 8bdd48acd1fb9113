//! Deletion of a backup: first its data, except what other backups need, then its documents; its record stays, DELETED.

use milvault_model::{Backup, BackupId, BackupState, BackupStatus, InstanceId, JobRef, Notice, ObjectEntry, PageRef};
use milvault_ports::{CatalogError, Deadline, Expect, Versioned, Write};

use crate::{
    Error, Jobs,
    engine::{
        lease::Held,
        slice::{self},
    },
    snapshot::{
        layout::{self, PageKind},
        ownership::{self, Share},
        pages::Folder,
        removable_objects::Claims,
    },
};

/// Why a backup is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A caller requested the deletion.
    Request,
    /// The backup has expired. Users get a notice.
    Expiry,
}

/// Deletes a finished backup, or cancels an unfinished one. Repeating the call has no further effect.
///
/// A locked backup stays as it is until the lock ends; then it is deleted.
///
/// A finished backup becomes DELETING, and DELETED if its objects could be removed before the deadline. If a job of the
/// instance or the deadline prevents that, the sweep completes the deletion. For a pending or running backup, the
/// cancellation is recorded, and a worker is started that carries it out.
///
/// # Errors
/// [`Error::RestoreInProgress`] while a restore reads the backup.
pub async fn delete(
    jobs: &Jobs,
    instance: &InstanceId,
    backup: &BackupId,
    deadline: Deadline,
) -> Result<Backup, Error> {
    match delete_because(jobs, instance, backup, Cause::Request, deadline).await {
        // While another backup is damaged, the objects that it needs are unknown. This backup is DELETING already: the
        // sweep continues, and reports the error until it succeeds.
        Err(error @ Error::Document { .. }) => {
            tracing::error!(%error, %backup, "the sweep will continue the deletion");
            Ok(jobs.backup(instance, backup).await?.value)
        }
        outcome => outcome,
    }
}

pub(crate) async fn delete_because(
    jobs: &Jobs,
    instance: &InstanceId,
    backup: &BackupId,
    cause: Cause,
    deadline: Deadline,
) -> Result<Backup, Error> {
    loop {
        let found = jobs.backup(instance, backup).await?;
        let marked = match found.value.state.status() {
            BackupStatus::Pending | BackupStatus::Running => request_cancel(jobs, found).await,
            BackupStatus::Available | BackupStatus::Damaged => mark(jobs, found, cause).await,
            BackupStatus::Deleting => Ok(found.value),
            BackupStatus::Deleted | BackupStatus::Failed | BackupStatus::Cancelled => return Ok(found.value),
        };
        match marked {
            // The record changed after it was read.
            Err(Error::Catalog(CatalogError::Conflict(_))) => {}
            Err(error) => return Err(error),
            Ok(marked) if matches!(marked.state, BackupState::Deleting { .. }) => {
                return finish(jobs, instance, backup, deadline).await;
            }
            Ok(marked) => return Ok(marked),
        }
    }
}

async fn request_cancel(jobs: &Jobs, found: Versioned<Backup>) -> Result<Backup, Error> {
    let mut backup = found.value;
    if backup.cancel_requested_at.is_none() {
        backup.cancel_requested_at = Some(jobs.now());
        let put = Write::Backup(Box::new(backup.clone()), Expect::Version(found.version));
        jobs.ports.catalog.commit(vec![put]).await?;
    }
    // If its worker is alive, this invocation finds the lease taken and ends at once.
    let job = JobRef::Backup { instance_id: backup.instance_id.clone(), backup_id: backup.id.clone() };
    if let Err(error) = jobs.ports.continuation.resume(&job).await {
        tracing::warn!(%error, backup = %backup.id, "the sweep will resume the cancelled job");
    }
    Ok(backup)
}

async fn mark(jobs: &Jobs, found: Versioned<Backup>, cause: Cause) -> Result<Backup, Error> {
    let mut backup = found.value;
    if let Some(restore) = backup.pins.first() {
        return Err(Error::RestoreInProgress(restore.clone()));
    }
    let now = jobs.now();
    if backup.locked_until.is_some_and(|locked_until| locked_until > now) {
        // A deletion would only hide the objects, and S3 would still charge for them. The backup stays until it can be
        // removed.
        if cause == Cause::Request && backup.deletion_requested_at.is_none() {
            backup.deletion_requested_at = Some(now);
            let put = Write::Backup(Box::new(backup.clone()), Expect::Version(found.version));
            jobs.ports.catalog.commit(vec![put]).await?;
        }
        return Ok(backup);
    }
    if let Some(snapshot) = backup.state.snapshot().cloned() {
        backup.state = BackupState::Deleting { snapshot, since: now, after: None };
    }
    let put = Write::Backup(Box::new(backup.clone()), Expect::Version(found.version));
    let release = Write::ReleaseName(backup.instance_id.clone(), backup.name.clone(), backup.id.clone());
    let mut writes = vec![put, release];
    if cause == Cause::Expiry {
        writes.push(Write::Notice(Box::new(Notice::backup_expired(&backup, now))));
    }
    jobs.ports.catalog.commit(writes).await?;
    Ok(backup)
}

/// Removes the objects of a DELETING backup, if the instance's lease is free and the time suffices.
pub(crate) async fn finish(
    jobs: &Jobs,
    instance: &InstanceId,
    backup: &BackupId,
    deadline: Deadline,
) -> Result<Backup, Error> {
    match slice::run_without_job(jobs, instance, async |held| remove(held, backup, deadline).await).await {
        Ok(_) | Err(Error::LeaseLost) => {}
        Err(error) => return Err(error),
    }
    Ok(jobs.backup(instance, backup).await?.value)
}

async fn remove(held: &Held, backup: &BackupId, deadline: Deadline) -> Result<(), Error> {
    let Held { jobs, lease, .. } = held;
    let instance = &lease.instance_id;
    let Some(mut record) = jobs.ports.catalog.backup(instance, backup).await? else { return Ok(()) };
    let BackupState::Deleting { snapshot, .. } = record.value.state.clone() else { return Ok(()) };
    let folder = jobs.snapshot_of(&record.value)?;
    let manifest = match folder.manifest_if_exists().await {
        // Objects of a damaged backup that no document names can't be removed. The others are.
        Err(Error::Document { key, reason }) => {
            tracing::error!(key, reason, %backup, "objects stay behind");
            None
        }
        found => found?,
    };
    // If the manifest is missing, an earlier attempt has already removed it.
    if let Some(manifest) = manifest {
        let claims = Claims::read(jobs, &record.value).await?;
        let removal = PageRemoval { held, claims, folder: &folder, deadline };
        for page in &manifest.object_pages {
            if !removal.remove(&mut record, page).await? {
                return Ok(());
            }
        }
        for kind in [PageKind::Objects, PageKind::Collections] {
            folder.remove_all(kind.prefix()).await?;
        }
        jobs.ports.objects.delete(folder.bucket, &[folder.path(layout::MANIFEST)]).await?;
    }
    // Working pages may be left.
    folder.remove_all("").await?;
    let state = BackupState::Deleted { snapshot, deleted_at: jobs.now() };
    ownership::commit(held, &mut record, state, &Share::remainder()).await
}

/// The removal of a backup's objects, page by page of the manifest.
struct PageRemoval<'a> {
    held: &'a Held,
    claims: Claims<'a>,
    folder: &'a Folder<'a>,
    deadline: Deadline,
}

impl PageRemoval<'_> {
    /// Removes a page's objects, or passes them on to other backups; skips those that are done. Returns `false` if it
    /// can't continue now. Every attempt makes progress, however short its time is.
    async fn remove(&self, record: &mut Versioned<Backup>, page: &PageRef) -> Result<bool, Error> {
        let Self { held, claims, folder, deadline } = self;
        let Held { jobs, lease, .. } = held;
        let instance = &lease.instance_id;
        let removed_up_to = |record: &Versioned<Backup>| match &record.value.state {
            BackupState::Deleting { after, .. } => after.clone(),
            _ => None,
        };
        if removed_up_to(record).is_some_and(|after| *page.last <= *after.as_str()) {
            return Ok(true);
        }
        let waiting = jobs.ports.catalog.job(instance).await?.is_some();
        if waiting || deadline.is_over(jobs.now()) {
            return Ok(false);
        }
        let mut entries = match folder.read_named_if_exists::<ObjectEntry>(page).await {
            Ok(Some(entries)) => entries,
            // A damaged page doesn't stop the removal of the others, as with the manifest.
            Ok(None) => {
                tracing::error!(key = page.key, backup = %record.value.id, "objects stay behind: the page is missing");
                return Ok(true);
            }
            Err(Error::Document { key, reason }) => {
                tracing::error!(key, reason, backup = %record.value.id, "objects stay behind");
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        if let Some(after) = removed_up_to(record) {
            entries.retain(|entry| entry.key > after);
        }
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let (share, count) = ownership::share(&record.value, claims, rest).await?;
            claims.remove(&share.garbage).await?;
            let mut state = record.value.state.clone();
            if let BackupState::Deleting { after, .. } = &mut state {
                *after = rest[..count].last().map(|entry| entry.key.clone());
            }
            ownership::commit(held, record, state, &share).await?;
            rest = &rest[count..];
        }
        Ok(true)
    }
}
