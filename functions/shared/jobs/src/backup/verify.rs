//! Comparing a finished backup with what is stored, as often as anyone asks and once a week without.

use milvault_model::{
    Backup, BackupId, BackupState, CollectionCapture, Failure, FailureCode, InstanceId, Manifest, Notice, ObjectEntry,
    Time, Verification,
};

use super::{
    inspection::{Finding, Inspection},
    object_lock::ObjectLock,
};
use crate::{
    Error, Jobs, expiry, layout, notices,
    ports::{CatalogError, Deadline, Expect, Versioned, Write},
    snapshot,
};

/// The most keys that a verification names.
const NAMED: usize = 100;

/// Compares a backup's objects and documents with what is stored, by listing; goes on with a verification that is under
/// way. Marks the backup DAMAGED if something is missing or changed, and AVAILABLE again if nothing is any more.
///
/// The answer is the backup as it stands then; its verification isn't completed if the time wasn't enough, and then
/// another invocation goes on with it.
///
/// # Errors
/// [`Error::NotAvailable`] for a backup that isn't finished or is over.
pub async fn verify(
    jobs: &Jobs,
    instance: &InstanceId,
    backup: &BackupId,
    deadline: Deadline,
) -> Result<Backup, Error> {
    let mut found = living(jobs, instance, backup).await?;
    let now = jobs.ports.clock.now();
    let under_way = found.value.verification.take().filter(|last| last.completed_at.is_none());
    let mut verification = under_way.unwrap_or_else(|| Verification {
        started_at: now,
        advanced_at: now,
        completed_at: None,
        next: 0,
        objects_checked: 0,
        missing: Vec::new(),
        changed: Vec::new(),
    });
    let bucket = jobs.settings.snapshots.in_region(&found.value.region)?;
    let lock = ObjectLock::of(jobs, bucket, &found.value, verification.started_at).await?;
    // Only what would run out is renewed, and nothing of what is to go.
    let lock = lock.filter(|lock| lock.is_short(found.value.locked_until));
    let lock = match lock {
        Some(_) if expiry::decide(jobs, &found.value).await?.is_going() => None,
        lock => lock,
    };
    compare(jobs, &found.value, &mut verification, lock.as_ref(), deadline).await?;
    let is_whole =
        verification.completed_at.is_some() && verification.missing.is_empty() && verification.changed.is_empty();
    let renewed = lock.map(|lock| Renewed {
        all_until: is_whole.then(|| lock.renewed(None)),
        free_from: lock.free_from(verification.started_at),
    });
    let backup = save(jobs, found, verification, renewed).await?;
    if backup.is_living() && backup.verification.as_ref().is_some_and(|last| last.completed_at.is_none()) {
        // A lost invocation only costs time: the sweep goes on with what stands still.
        if let Err(error) = jobs.ports.continuation.verify(instance, &backup.id).await {
            tracing::warn!(%error, backup = %backup.id, "the sweep will go on with the verification");
        }
    }
    Ok(backup)
}

async fn living(jobs: &Jobs, instance: &InstanceId, backup: &BackupId) -> Result<Versioned<Backup>, Error> {
    let found = jobs.ports.catalog.backup(instance, backup).await?;
    let found = found.ok_or_else(|| Error::BackupNotFound(instance.clone(), backup.to_string()))?;
    match found.value.is_living() {
        true => Ok(found),
        false => Err(Error::NotAvailable(backup.clone(), found.value.state.status())),
    }
}

/// The locks that a verification has renewed.
struct Renewed {
    /// Until when everything is locked, once all of them are.
    all_until: Option<Time>,
    /// From when on nothing is.
    free_from: Time,
}

/// Writes down how far the verification is, whatever else happens to the record meanwhile.
async fn save(
    jobs: &Jobs,
    mut found: Versioned<Backup>,
    mut verification: Verification,
    renewed: Option<Renewed>,
) -> Result<Backup, Error> {
    verification.advanced_at = jobs.ports.clock.now();
    loop {
        let mut backup = found.value;
        let before = backup.state.status();
        if verification.completed_at.is_some() {
            backup.state = judged(backup.state, &verification);
        }
        backup.verification = Some(verification.clone());
        if let Some(renewed) = &renewed {
            backup.locked_until = backup.locked_until.max(renewed.all_until);
            backup.free_from = backup.free_from.max(Some(renewed.free_from));
        }
        let mut writes = vec![Write::Backup(Box::new(backup.clone()), Expect::Version(found.version))];
        let is_news = matches!(backup.state, BackupState::Damaged { .. }) && backup.state.status() != before;
        if is_news {
            let notice = Notice::backup_ended(&backup, verification.advanced_at);
            writes.extend(notice.map(|notice| Write::Notice(Box::new(notice))));
        }
        match jobs.ports.catalog.commit(writes).await {
            Ok(()) => {
                if is_news {
                    notices::publish_or_leave_to_sweep(jobs, &backup.instance_id).await;
                }
                return Ok(backup);
            }
            // It was deleted, pinned or verified meanwhile.
            Err(CatalogError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
        found = living(jobs, &backup.instance_id, &backup.id).await?;
    }
}

/// The state of a backup of which this was found.
fn judged(state: BackupState, found: &Verification) -> BackupState {
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
    of: &Backup,
    verification: &mut Verification,
    renew: Option<&ObjectLock>,
    deadline: Deadline,
) -> Result<(), Error> {
    let (instance, backup, bucket) = (&of.instance_id, &of.id, jobs.settings.snapshots.in_region(&of.region)?);
    let folder = snapshot::folder(jobs.ports.objects.as_ref(), bucket, instance, backup);
    let manifest: Manifest = match snapshot::manifest(folder.objects, bucket, instance, backup).await {
        Ok(manifest) => manifest,
        Err(Error::Document { key, .. }) => {
            name(&mut verification.missing, key);
            verification.completed_at = Some(jobs.ports.clock.now());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if verification.next == 0 {
        for page in &manifest.collection_pages {
            match folder.read_named::<CollectionCapture>(page).await {
                Ok(_) => {}
                Err(Error::Document { key, .. }) => name(&mut verification.changed, key),
                Err(error) => return Err(error),
            }
        }
    }
    let data = layout::data(instance);
    let mut inspection = Inspection::new(jobs, bucket, data.clone());
    for page in manifest.object_pages.iter().skip(verification.next as usize) {
        if deadline.is_over(jobs.ports.clock.now()) {
            return Ok(());
        }
        match folder.read_named::<ObjectEntry>(page).await {
            Ok(entries) => {
                let mut sound = Vec::new();
                for entry in &entries {
                    let list = match inspection.check(entry).await? {
                        None => {
                            sound.push(entry);
                            continue;
                        }
                        Some(Finding::Missing) => &mut verification.missing,
                        Some(Finding::Changed) => &mut verification.changed,
                    };
                    name(list, format!("{data}{}", entry.key.stored()));
                }
                if let Some(lock) = renew {
                    let keys = sound.into_iter().map(|entry| format!("{data}{}", entry.key.stored()));
                    lock.renew(jobs, bucket, keys).await?;
                }
                verification.objects_checked += entries.len() as u64;
            }
            Err(Error::Document { key, .. }) => name(&mut verification.changed, key),
            Err(error) => return Err(error),
        }
        verification.next += 1;
    }
    if let Some(lock) = renew {
        lock.renew_all(jobs, bucket, &folder.path("")).await?;
    }
    verification.completed_at = Some(jobs.ports.clock.now());
    Ok(())
}

fn name(list: &mut Vec<String>, key: String) {
    if list.len() < NAMED {
        list.push(key);
    }
}
