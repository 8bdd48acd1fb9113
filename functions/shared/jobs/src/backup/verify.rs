//! Comparing what is stored with what must be, by listing: before a backup becomes AVAILABLE, and ever after.

use std::vec::IntoIter;

use milvault_model::{Backup, BackupId, BackupState, CollectionCapture, Failure, FailureCode, InstanceId, ObjectEntry};

use crate::{
    Error, Jobs,
    ports::{CatalogError, Deadline, Expect, ObjectMeta, ObjectsError, Write},
    snapshot,
};

/// The most keys that a verification names.
const NAMED: usize = 100;

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    Missing,
    Changed,
}

/// A listing of an instance's stored objects, walked along with sorted entries.
pub(crate) struct Inspection<'a> {
    jobs: &'a Jobs,
    prefix: String,
    listed: std::iter::Peekable<IntoIter<ObjectMeta>>,
    after: Option<String>,
    more: bool,
}

impl<'a> Inspection<'a> {
    pub(crate) fn new(jobs: &'a Jobs, prefix: String) -> Self {
        Self { jobs, prefix, listed: Vec::new().into_iter().peekable(), after: None, more: true }
    }

    /// What is wrong with this entry, which must sort after the one before it.
    pub(crate) async fn check(&mut self, entry: &ObjectEntry) -> Result<Option<Finding>, Error> {
        let key = format!("{}{}", self.prefix, entry.key);
        loop {
            match self.listed.peek() {
                Some(object) if object.key < key => {
                    self.listed.next();
                }
                Some(object) if object.key == key => {
                    let right = object.size == entry.size && Some(&object.etag) == entry.etag.as_ref();
                    return Ok((!right).then_some(Finding::Changed));
                }
                Some(_) => return Ok(Some(Finding::Missing)),
                None if self.more => {
                    let bucket = &self.jobs.settings.snapshot_bucket;
                    let listing = self.jobs.ports.objects.list(bucket, &self.prefix, self.after.as_deref()).await?;
                    self.after = listing.objects.last().map(|object| object.key.clone()).or(self.after.take());
                    self.more = listing.more;
                    self.listed = listing.objects.into_iter().peekable();
                }
                None => return Ok(Some(Finding::Missing)),
            }
        }
    }
}

/// What a verification found.
#[derive(Debug, Clone)]
pub struct Verification {
    /// The backup as it stands afterwards.
    pub backup: Backup,
    /// How many objects were compared.
    pub objects_checked: u64,
    /// Keys of objects and documents that aren't there; the first hundred.
    pub missing: Vec<String>,
    /// Keys of objects and documents that aren't what was stored; the first hundred.
    pub changed: Vec<String>,
}

/// Compares a backup's objects with a listing, and marks it DAMAGED if one is missing or changed; marks it AVAILABLE
/// again if it was DAMAGED and nothing is wrong any more.
///
/// # Errors
/// [`Error::NotAvailable`] for a backup that isn't finished or is over; [`Error::Objects`] also if the time isn't
/// enough.
pub async fn verify(
    jobs: &Jobs,
    instance: &InstanceId,
    backup: &BackupId,
    deadline: Deadline,
) -> Result<Verification, Error> {
    let found = jobs.ports.catalog.backup(instance, backup).await?;
    let found = found.ok_or_else(|| Error::BackupNotFound(instance.clone(), backup.to_string()))?;
    if !found.value.is_living() {
        return Err(Error::NotAvailable(backup.clone(), found.value.state.status()));
    }
    let mut result = Verification { backup: found.value, objects_checked: 0, missing: Vec::new(), changed: Vec::new() };
    inspect(jobs, &mut result, deadline).await?;

    let wrong = result.missing.first().or(result.changed.first());
    let state = match (&result.backup.state, wrong) {
        (BackupState::Available(snapshot), Some(key)) => Some(BackupState::Damaged {
            snapshot: snapshot.clone(),
            failure: Failure::new(FailureCode::SnapshotDamaged, format!("{key} is missing or changed")),
        }),
        (BackupState::Damaged { snapshot, .. }, None) => Some(BackupState::Available(snapshot.clone())),
        _ => None,
    };
    if let Some(state) = state {
        result.backup.state = state;
        let put = Write::Backup(Box::new(result.backup.clone()), Expect::Version(found.version));
        match jobs.ports.catalog.commit(vec![put]).await {
            Ok(()) => {}
            // It was deleted, pinned or verified meanwhile: what was found still holds, what it is now is told.
            Err(CatalogError::Conflict(_)) => result.backup = super::find(jobs, instance, backup).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(result)
}

async fn inspect(jobs: &Jobs, result: &mut Verification, deadline: Deadline) -> Result<(), Error> {
    let (instance, backup) = (&result.backup.instance_id, &result.backup.id);
    let bucket = &jobs.settings.snapshot_bucket;
    let folder = snapshot::folder(jobs.ports.objects.as_ref(), bucket, instance, backup);
    let manifest = match snapshot::manifest(folder.objects, bucket, instance, backup).await {
        Ok(manifest) => manifest,
        Err(Error::Document { key, .. }) => {
            result.missing.push(key);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let prefix = crate::layout::data(instance);
    let mut inspection = Inspection::new(jobs, prefix.clone());
    for page in &manifest.collection_pages {
        match folder.read_named::<CollectionCapture>(page).await {
            Ok(_) => {}
            Err(Error::Document { key, .. }) => result.changed.push(key),
            Err(error) => return Err(error),
        }
    }
    for page in &manifest.object_pages {
        if deadline.is_over(jobs.ports.clock.now()) {
            return Err(ObjectsError::Unavailable("there was not enough time to list it all".into()).into());
        }
        let entries = match folder.read_named::<ObjectEntry>(page).await {
            Ok(entries) => entries,
            Err(Error::Document { key, .. }) => {
                result.changed.push(key);
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in &entries {
            result.objects_checked += 1;
            let list = match inspection.check(entry).await? {
                None => continue,
                Some(Finding::Missing) => &mut result.missing,
                Some(Finding::Changed) => &mut result.changed,
            };
            if list.len() < NAMED {
                list.push(format!("{prefix}{}", entry.key));
            }
        }
    }
    Ok(())
}
