//! Verification of finished backups against the stored objects, on request and once a week.

use milvault_model::{
    Backup, BackupId, BackupState, Failure, FailureCode, InstanceId, Manifest, Notice, ObjectEntry, Time, Verification,
};
use milvault_ports::{CatalogError, Deadline, Expect, Versioned, Write};

use crate::{
    Error, Jobs,
    backup::{
        inspection::{Finding, Inspection},
        object_lock::ObjectLock,
    },
    conflict::retry_on_conflict,
    events, expiry,
    snapshot::layout,
};

/// The maximum number of keys that a verification lists.
const LISTED: usize = 100;

/// Compares a backup's objects and documents with the stored ones, by listing them, or continues a verification that is
/// in progress. Marks the backup DAMAGED if anything is missing or changed, and AVAILABLE again if nothing is any
/// longer.
///
/// Returns the backup after that. If the time didn't suffice, its verification isn't completed, and another invocation
/// continues it.
///
/// # Errors
/// [`Error::NotAvailable`] if the backup isn't finished, or is being deleted.
pub async fn verify(
    jobs: &Jobs,
    instance: &InstanceId,
    backup: &BackupId,
    deadline: Deadline,
) -> Result<Backup, Error> {
    let Scrub { found, mut verification, renewing } = begin(jobs, instance, backup).await?;
    let lock = renewing.as_ref().map(|renewing| &renewing.lock);
    compare(jobs, &found.value, &mut verification, lock, deadline).await?;
    let is_whole =
        verification.completed_at.is_some() && verification.missing.is_empty() && verification.changed.is_empty();
    let renewed = renewing.filter(|renewing| is_whole && renewing.since_the_first);
    let all_locked_until = renewed.map(|renewing| renewing.lock.end(None));
    let backup = save(jobs, found, verification, all_locked_until).await?;
    if backup.is_living() && backup.verification.as_ref().is_some_and(|last| last.completed_at.is_none()) {
        // If the invocation is lost, the sweep resumes the verification later.
        if let Err(error) = jobs.ports.continuation.verify(instance, &backup.id).await {
            tracing::warn!(%error, backup = %backup.id, "the sweep will continue the verification");
        }
    }
    Ok(backup)
}

async fn living(jobs: &Jobs, instance: &InstanceId, backup: &BackupId) -> Result<Versioned<Backup>, Error> {
    let found = jobs.backup(instance, backup).await?;
    match found.value.is_living() {
        true => Ok(found),
        false => Err(Error::NotAvailable(backup.clone(), found.value.state.status())),
    }
}

/// A verification that begins or is continued.
struct Scrub {
    found: Versioned<Backup>,
    verification: Verification,
    /// The locks to renew, if they would end too soon.
    renewing: Option<Renewing>,
}

struct Renewing {
    lock: ObjectLock,
    /// Whether all invocations of the verification renew them, from the first one on.
    since_the_first: bool,
}

async fn begin(jobs: &Jobs, instance: &InstanceId, backup: &BackupId) -> Result<Scrub, Error> {
    retry_on_conflict(async || {
        let mut found = living(jobs, instance, backup).await?;
        let now = jobs.now();
        let in_progress = found.value.verification.clone().filter(|last| last.completed_at.is_none());
        let verification = in_progress.unwrap_or_else(|| Verification {
            started_at: now,
            advanced_at: now,
            completed_at: None,
            next: 0,
            objects_checked: 0,
            missing: Vec::new(),
            changed: Vec::new(),
        });
        let bucket = jobs.settings.snapshots.in_region(&found.value.region)?;
        let lock = ObjectLock::for_backup(jobs, bucket, &found.value, verification.started_at).await?;
        // Only locks that would end too soon are renewed, and none of a backup that is to be deleted.
        let lock = lock.filter(|lock| lock.needs_renewal(found.value.all_locked_until));
        let lock = match lock {
            Some(lock) if !expiry::decide(jobs, &found.value).await?.is_going() => lock,
            _ => return Ok(Scrub { found, verification, renewing: None }),
        };
        let until = lock.locked_until(verification.started_at);
        let is_known = found.value.locked_until >= Some(until);
        if !is_known {
            // Stored before any lock is extended, so that a deletion that begins from here on waits for the lock's end.
            found.value.locked_until = Some(until);
            let put = Write::Backup(Box::new(found.value.clone()), Expect::Version(found.version));
            jobs.ports.catalog.commit(vec![put]).await?;
            found.version += 1;
        }
        let renewing = Renewing { lock, since_the_first: verification.next == 0 || is_known };
        Ok(Scrub { found, verification, renewing: Some(renewing) })
    })
    .await
}

/// Stores the progress of the verification, in spite of concurrent changes of the record.
async fn save(
    jobs: &Jobs,
    mut found: Versioned<Backup>,
    mut verification: Verification,
    all_locked_until: Option<Time>,
) -> Result<Backup, Error> {
    verification.advanced_at = jobs.now();
    loop {
        let mut backup = found.value;
        let before = backup.state.status();
        if verification.completed_at.is_some() {
            backup.state = state_after(backup.state, &verification);
        }
        backup.verification = Some(verification.clone());
        backup.all_locked_until = backup.all_locked_until.max(all_locked_until);
        let mut writes = vec![Write::Backup(Box::new(backup.clone()), Expect::Version(found.version))];
        let is_news = matches!(backup.state, BackupState::Damaged { .. }) && backup.state.status() != before;
        if is_news {
            let notice = Notice::backup_ended(&backup, verification.advanced_at);
            writes.extend(notice.map(|notice| Write::Notice(Box::new(notice))));
        }
        match jobs.ports.catalog.commit(writes).await {
            Ok(()) => {
                if is_news {
                    events::publish_or_leave_to_sweep(jobs, &backup.instance_id).await;
                }
                return Ok(backup);
            }
            // The record changed: the backup was deleted, pinned or verified.
            Err(CatalogError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
        found = living(jobs, &backup.instance_id, &backup.id).await?;
    }
}

/// Returns a backup's state after a completed verification with this result.
fn state_after(state: BackupState, found: &Verification) -> BackupState {
    match (state, found.missing.first().or(found.changed.first())) {
        (BackupState::Available(snapshot) | BackupState::Damaged { snapshot, .. }, Some(key)) => BackupState::Damaged {
            snapshot,
            failure: Failure::new(FailureCode::SnapshotDamaged, format!("{key} is missing or changed")),
        },
        (BackupState::Damaged { snapshot, .. }, None) => BackupState::Available(snapshot),
        (state, _) => state,
    }
}

async fn compare(
    jobs: &Jobs,
    backup: &Backup,
    verification: &mut Verification,
    renew: Option<&ObjectLock>,
    deadline: Deadline,
) -> Result<(), Error> {
    let folder = jobs.snapshot_of(backup)?;
    let (instance, bucket) = (&backup.instance_id, folder.bucket);
    let manifest: Manifest = match folder.manifest().await {
        Ok(manifest) => manifest,
        Err(Error::Document { key, .. }) => {
            list_key(&mut verification.missing, key);
            verification.completed_at = Some(jobs.now());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if verification.next == 0 {
        for page in &manifest.collection_pages {
            match folder.collections(page).await {
                Ok(_) => {}
                Err(Error::Document { key, .. }) => list_key(&mut verification.changed, key),
                Err(error) => return Err(error),
            }
        }
    }
    let data = layout::data(instance);
    let mut inspection = Inspection::new(jobs, bucket, data.clone());
    for page in manifest.object_pages.iter().skip(verification.next as usize) {
        if deadline.is_over(jobs.now()) {
            return Ok(());
        }
        match folder.read_named::<ObjectEntry>(page).await {
            Ok(entries) => {
                let mut intact = Vec::new();
                for entry in &entries {
                    let list = match inspection.check(entry).await? {
                        None => {
                            intact.push(entry);
                            continue;
                        }
                        Some(Finding::Missing) => &mut verification.missing,
                        Some(Finding::Changed) => &mut verification.changed,
                    };
                    list_key(list, format!("{data}{}", entry.key.stored()));
                }
                if let Some(lock) = renew {
                    let keys = intact.into_iter().map(|entry| format!("{data}{}", entry.key.stored()));
                    lock.renew(jobs, bucket, keys).await?;
                }
                verification.objects_checked += entries.len() as u64;
            }
            Err(Error::Document { key, .. }) => list_key(&mut verification.changed, key),
            Err(error) => return Err(error),
        }
        verification.next += 1;
    }
    if let Some(lock) = renew {
        lock.renew_all(jobs, bucket, &folder.path("")).await?;
    }
    verification.completed_at = Some(jobs.now());
    Ok(())
}

/// Adds a key to a list, if there is room.
fn list_key(list: &mut Vec<String>, key: String) {
    if list.len() < LISTED {
        list.push(key);
    }
}
