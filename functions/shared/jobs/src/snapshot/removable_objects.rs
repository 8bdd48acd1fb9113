//! Claims of backups on stored objects, and the objects that no backup claims: a streamed set difference.

use std::{collections::BTreeSet, pin::pin};

use futures::TryStreamExt;
use milvault_model::{Backup, BackupId, BackupState, InstanceId, Manifest, ObjectEntry, ObjectKey};
use milvault_ports::{Bucket, Versioned, items};

use super::{layout, pages::Folder};
use crate::{Error, Jobs};

/// The references of an instance's backups to objects in a bucket.
pub(crate) struct Claims<'a> {
    jobs: &'a Jobs,
    bucket: &'a Bucket,
    instance: InstanceId,
    /// Oldest backup first.
    claims: Vec<Claim>,
}

/// The references of one backup.
struct Claim {
    backup: BackupId,
    manifest: Manifest,
    /// For a backup that is being deleted: it still claims only the objects after this one.
    after: Option<ObjectKey>,
}

impl<'a> Claims<'a> {
    /// Reads the claims of the other backups of the same instance in the same region as `except`: of living ones, and
    /// of those being deleted, as far as the deletion hasn't come. An object that they name must stay, and belongs to
    /// the oldest of them. The result holds only under the instance's lease, under which no other backup becomes living
    /// and no other deletion progresses.
    ///
    /// # Errors
    /// [`Error::Document`] if a living backup's manifest can't be read. Nothing may be removed then.
    pub(crate) async fn read(jobs: &'a Jobs, except: &Backup) -> Result<Self, Error> {
        let (objects, instance) = (jobs.ports.objects.as_ref(), &except.instance_id);
        let bucket = jobs.settings.snapshots.in_region(&except.region)?;
        let is_beside = |backup: &Backup| backup.id != except.id && backup.region == except.region;
        let mut claims = Vec::new();
        let mut backups = pin!(items(100, |page| jobs.ports.catalog.backups(instance, page)));
        while let Some(Versioned { value: backup, .. }) = backups.try_next().await? {
            let after = match &backup.state {
                _ if !is_beside(&backup) => continue,
                BackupState::Available(_) | BackupState::Damaged { .. } => None,
                BackupState::Deleting { after, .. } => after.clone(),
                _ => continue,
            };
            let folder = Folder::new(objects, bucket, instance, &backup.id);
            match folder.manifest_if_exists().await {
                Ok(Some(manifest)) => claims.push(Claim { backup: backup.id, manifest, after }),
                // A deletion removes the manifest after everything that it names.
                Ok(None) | Err(Error::Document { .. }) if !backup.is_living() => {}
                Ok(None) => return Err(folder.bad(layout::MANIFEST, "is missing")),
                Err(error) => return Err(error),
            }
        }
        // The catalog lists the newest first.
        claims.reverse();
        Ok(Self { jobs, bucket, instance: instance.clone(), claims })
    }

    /// Adds the claims of this manifest.
    pub(crate) fn with(mut self, backup: BackupId, manifest: Manifest) -> Self {
        self.claims.push(Claim { backup, manifest, after: None });
        self
    }

    /// Whether there are no claims.
    pub(crate) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Returns those of these objects, sorted by key, that no backup claims. Calls `claimed` for each of the others,
    /// with the oldest backup that claims it.
    pub(crate) async fn unclaimed<'c>(
        &self,
        candidates: &'c [ObjectEntry],
        mut claimed: impl FnMut(&BackupId, &ObjectEntry),
    ) -> Result<BTreeSet<&'c ObjectKey>, Error> {
        let (Some(first), Some(last)) = (candidates.first(), candidates.last()) else { return Ok(BTreeSet::new()) };
        let mut left: BTreeSet<&ObjectKey> = candidates.iter().map(|entry| &entry.key).collect();
        for Claim { backup, manifest, after } in &self.claims {
            let folder = Folder::new(self.jobs.ports.objects.as_ref(), self.bucket, &self.instance, backup);
            let overlapping = manifest
                .object_pages
                .iter()
                .filter(|page| *page.first <= *last.key.as_str() && *page.last >= *first.key.as_str())
                .filter(|page| after.as_ref().is_none_or(|after| *page.last > *after.as_str()));
            for page in overlapping {
                if left.is_empty() {
                    return Ok(left);
                }
                for entry in folder.read_named::<ObjectEntry>(page).await? {
                    if after.as_ref().is_none_or(|after| entry.key > *after) && left.remove(&entry.key) {
                        claimed(backup, &entry);
                    }
                }
            }
        }
        Ok(left)
    }

    /// Removes those of these objects, sorted by key, that no backup claims.
    pub(crate) async fn remove_unclaimed(&self, candidates: &[ObjectEntry]) -> Result<(), Error> {
        let garbage = self.unclaimed(candidates, |_, _| {}).await?;
        self.remove(&garbage).await
    }

    /// Removes stored objects.
    pub(crate) async fn remove(&self, garbage: &BTreeSet<&ObjectKey>) -> Result<(), Error> {
        let data = layout::data(&self.instance);
        let keys: Vec<String> = garbage.iter().map(|key| format!("{data}{}", key.stored())).collect();
        for batch in keys.chunks(1000) {
            self.jobs.ports.objects.delete(self.bucket, batch).await?;
        }
        Ok(())
    }
}
