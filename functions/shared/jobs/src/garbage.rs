//! Which stored objects no living backup needs: a set difference, streamed.

use std::collections::BTreeSet;

use milvault_model::{BackupId, InstanceId, Manifest, ObjectEntry, ObjectKey};

use crate::{Error, Jobs, layout, ports::PageRequest, snapshot};

/// The manifests of an instance's living backups, without `except`: what they name must stay.
pub(crate) struct Protection {
    manifests: Vec<(BackupId, Manifest)>,
}

impl Protection {
    /// Reads them. Sound only under the instance's lease: then no other backup becomes living meanwhile.
    ///
    /// # Errors
    /// [`Error::Document`] if a living backup's manifest can't be read: then nothing may be removed.
    pub(crate) async fn read(jobs: &Jobs, instance: &InstanceId, except: &BackupId) -> Result<Self, Error> {
        let mut manifests = Vec::new();
        let mut after = None;
        loop {
            let page = jobs.ports.catalog.backups(instance, PageRequest { after, limit: 100 }).await?;
            for backup in page.items.iter().map(|b| &b.value).filter(|b| b.is_living() && b.id != *except) {
                let bucket = &jobs.settings.snapshot_bucket;
                let manifest = snapshot::manifest(jobs.ports.objects.as_ref(), bucket, instance, &backup.id).await?;
                manifests.push((backup.id.clone(), manifest));
            }
            after = page.items.last().map(|b| b.value.id.to_string());
            if !page.more {
                return Ok(Self { manifests });
            }
        }
    }

    /// Also protects what this manifest names.
    pub(crate) fn and(mut self, backup: BackupId, manifest: Manifest) -> Self {
        self.manifests.push((backup, manifest));
        self
    }

    /// Removes those of these objects, sorted by key, that nothing protects.
    pub(crate) async fn remove_unprotected(
        &self,
        jobs: &Jobs,
        instance: &InstanceId,
        candidates: &[ObjectEntry],
    ) -> Result<(), Error> {
        let (Some(first), Some(last)) = (candidates.first(), candidates.last()) else { return Ok(()) };
        let mut garbage: BTreeSet<&ObjectKey> = candidates.iter().map(|entry| &entry.key).collect();
        let bucket = &jobs.settings.snapshot_bucket;
        for (backup, manifest) in &self.manifests {
            let folder = snapshot::folder(jobs.ports.objects.as_ref(), bucket, instance, backup);
            let overlapping = manifest
                .object_pages
                .iter()
                .filter(|page| *page.first <= *last.key.as_str() && *page.last >= *first.key.as_str());
            for page in overlapping {
                if garbage.is_empty() {
                    return Ok(());
                }
                for entry in folder.read_named::<ObjectEntry>(page).await? {
                    garbage.remove(&entry.key);
                }
            }
        }
        let data = layout::data(instance);
        let keys: Vec<String> = garbage.into_iter().map(|key| format!("{data}{}", key.stored())).collect();
        for batch in keys.chunks(1000) {
            jobs.ports.objects.delete(bucket, batch).await?;
        }
        Ok(())
    }
}
