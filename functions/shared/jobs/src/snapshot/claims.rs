//! To which backups stored objects belong, and which belong to none: a set difference, streamed.

use std::{collections::BTreeSet, pin::pin};

use futures::TryStreamExt;
use milvault_model::{Backup, BackupId, BackupState, InstanceId, Manifest, ObjectEntry, ObjectKey};
use milvault_ports::{Bucket, Versioned, items};

use super::layout;
use crate::{Error, Jobs, snapshot};

/// What the backups of an instance reference in a bucket.
pub(crate) struct Claims<'a> {
    jobs: &'a Jobs,
    bucket: &'a Bucket,
    instance: InstanceId,
    /// The oldest first.
    claims: Vec<Claim>,
}

/// What one backup references.
struct Claim {
    backup: BackupId,
    manifest: Manifest,
    /// Of one that is being deleted: only what comes after this object is still its own.
    after: Option<ObjectKey>,
}

impl<'a> Claims<'a> {
    /// Those of the living backups of the same instance in the same region, and of those that are being deleted as far as
    /// they aren't yet, without `except` itself: what they name must stay, and belongs to the oldest of them. Sound only
    /// under the instance's lease: then no other backup becomes living meanwhile, and no other deletion gets further.
    ///
    /// # Errors
    /// [`Error::Document`] if a living backup's manifest can't be read: then nothing may be removed.
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
            let folder = snapshot::folder(objects, bucket, instance, &backup.id);
            match snapshot::manifest_if_there(&folder).await {
                Ok(Some(manifest)) => claims.push(Claim { backup: backup.id, manifest, after }),
                // Of one that is being deleted, it goes when everything else has gone.
                Ok(None) | Err(Error::Document { .. }) if !backup.is_living() => {}
                Ok(None) => return Err(folder.bad(layout::MANIFEST, "is missing")),
                Err(error) => return Err(error),
            }
        }
        // They come newest first.
        claims.reverse();
        Ok(Self { jobs, bucket, instance: instance.clone(), claims })
    }

    /// Also what this manifest names.
    pub(crate) fn and(mut self, backup: BackupId, manifest: Manifest) -> Self {
        self.claims.push(Claim { backup, manifest, after: None });
        self
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Those of these objects, sorted by key, that nothing claims. Tells `claimed` of each other one by which backup,
    /// the oldest that does.
    pub(crate) async fn unclaimed<'c>(
        &self,
        candidates: &'c [ObjectEntry],
        mut claimed: impl FnMut(&BackupId, &ObjectEntry),
    ) -> Result<BTreeSet<&'c ObjectKey>, Error> {
        let (Some(first), Some(last)) = (candidates.first(), candidates.last()) else { return Ok(BTreeSet::new()) };
        let mut left: BTreeSet<&ObjectKey> = candidates.iter().map(|entry| &entry.key).collect();
        for Claim { backup, manifest, after } in &self.claims {
            let folder = snapshot::folder(self.jobs.ports.objects.as_ref(), self.bucket, &self.instance, backup);
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

    /// Removes those of these objects, sorted by key, that nothing claims.
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
