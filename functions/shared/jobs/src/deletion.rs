//! Deleting a backup: its data first, then its documents, then its record; nothing that another backup needs.

use std::collections::BTreeSet;

use milvault_model::{Backup, BackupId, BackupState, BackupStatus, InstanceId, JobRef, Notice, ObjectEntry};

use crate::{
    Error, Jobs,
    garbage::Protection,
    layout::{self, PageKind},
    pages::Folder,
    ports::{CatalogError, Deadline, Expect, Versioned, Write},
    slice::{self, Held},
    snapshot::{self, manifest_if_there},
};

/// Why a backup is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Someone asked.
    Request,
    /// It is past its expiry: its users are told.
    Expiry,
}

/// Deletes a finished backup, or stops one that isn't.
///
/// A finished backup is DELETING from here on, and DELETED if its objects could be removed before the deadline; a job
/// of the instance or the deadline leave that to the sweep. A pending or running one is asked to stop, and a worker
/// started that sees to it. Deleting twice is deleting once.
///
/// # Errors
/// [`Error::RestoreInProgress`] while a restore reads the backup.
pub async fn delete(
    jobs: &Jobs,
    instance: &InstanceId,
    backup: &BackupId,
    deadline: Deadline,
) -> Result<Backup, Error> {
    delete_because(jobs, instance, backup, Cause::Request, deadline).await
}

pub(crate) async fn delete_because(
    jobs: &Jobs,
    instance: &InstanceId,
    backup: &BackupId,
    cause: Cause,
    deadline: Deadline,
) -> Result<Backup, Error> {
    loop {
        let found = jobs.ports.catalog.backup(instance, backup).await?;
        let found = found.ok_or_else(|| Error::BackupNotFound(instance.clone(), backup.to_string()))?;
        let marked = match found.value.state.status() {
            BackupStatus::Pending | BackupStatus::Running => request_cancel(jobs, found).await,
            BackupStatus::Available | BackupStatus::Damaged => mark(jobs, found, cause).await,
            BackupStatus::Deleting => Ok(found.value),
            BackupStatus::Deleted | BackupStatus::Failed | BackupStatus::Cancelled => return Ok(found.value),
        };
        match marked {
            // It changed since it was read: look again.
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
        backup.cancel_requested_at = Some(jobs.ports.clock.now());
        let put = Write::Backup(Box::new(backup.clone()), Expect::Version(found.version));
        jobs.ports.catalog.commit(vec![put]).await?;
    }
    // If its worker is alive, this invocation finds the lease taken and ends at once.
    let job = JobRef::Backup { instance_id: backup.instance_id.clone(), backup_id: backup.id.clone() };
    if let Err(error) = jobs.ports.continuation.resume(&job).await {
        tracing::warn!(%error, backup = %backup.id, "the sweep will drive the cancelled job on");
    }
    Ok(backup)
}

async fn mark(jobs: &Jobs, found: Versioned<Backup>, cause: Cause) -> Result<Backup, Error> {
    let mut backup = found.value;
    if let Some(restore) = backup.pins.first() {
        return Err(Error::RestoreInProgress(restore.clone()));
    }
    let now = jobs.ports.clock.now();
    if let Some(snapshot) = backup.state.snapshot().cloned() {
        backup.state = BackupState::Deleting { snapshot, since: now };
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

/// Removes the objects of a DELETING backup, if the instance's lease can be had and the time is enough.
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
    crate::backup::find(jobs, instance, backup).await
}

async fn remove(held: &Held, backup: &BackupId, deadline: Deadline) -> Result<(), Error> {
    let Held { jobs, lease, .. } = held;
    let instance = &lease.instance_id;
    let found = jobs.ports.catalog.backup(instance, backup).await?;
    let Some(Versioned { value: mut record, version }) = found else { return Ok(()) };
    let BackupState::Deleting { snapshot, .. } = &record.state else { return Ok(()) };
    let bucket = &jobs.settings.snapshot_bucket;
    let folder = snapshot::folder(jobs.ports.objects.as_ref(), bucket, instance, backup);

    // Without a manifest, an earlier try has come as far as removing it.
    if let Some(manifest) = manifest_if_there(&folder).await? {
        let protection = Protection::read(jobs, instance, backup).await?;
        // Pages go with their objects: so a deletion gets further with every try, however short that is.
        let left = pages_left(&folder).await?;
        for page in manifest.object_pages.iter().filter(|page| left.contains(&page.key)) {
            let waiting = jobs.ports.catalog.job(instance).await?.is_some();
            if waiting || deadline.is_over(jobs.ports.clock.now()) {
                return Ok(());
            }
            match folder.read_checked::<ObjectEntry>(page).await {
                Ok(Some(entries)) => {
                    protection.remove_unprotected(jobs, instance, &entries).await?;
                    folder.remove(&page.key).await?;
                }
                // A delete that came late has removed it.
                Ok(None) => {}
                // Of a damaged backup, what isn't known can't be removed, and must not keep the rest from going.
                Err(Error::Document { key, reason }) => tracing::error!(key, reason, %backup, "objects stay behind"),
                Err(error) => return Err(error),
            }
        }
        for kind in [PageKind::Objects, PageKind::Collections] {
            folder.remove_all(kind.prefix()).await?;
        }
        jobs.ports.objects.delete(bucket, &[folder.path(layout::MANIFEST)]).await?;
    }
    // And whatever else of its documents there may be.
    folder.remove_all("").await?;
    record.state = BackupState::Deleted { snapshot: snapshot.clone(), deleted_at: jobs.ports.clock.now() };
    let put = Write::Backup(Box::new(record), Expect::Version(version));
    match jobs.ports.catalog.commit(vec![Write::HoldLease(lease.clone()), put]).await {
        Ok(()) => Ok(()),
        Err(CatalogError::Conflict(_)) => Err(Error::LeaseLost),
        Err(error) => Err(error.into()),
    }
}

/// The keys of the pages of objects that are still there, relative to the folder.
async fn pages_left(folder: &Folder<'_>) -> Result<BTreeSet<String>, Error> {
    let mut left = BTreeSet::new();
    loop {
        let (keys, more) = folder.keys(PageKind::Objects.prefix(), left.last().map(String::as_str)).await?;
        left.extend(keys);
        if !more {
            return Ok(left);
        }
    }
}
