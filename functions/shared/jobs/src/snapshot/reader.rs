//! Reading of snapshots.

use milvault_model::{
    Backup, BackupId, CollectionCapture, InstanceId, Manifest, ObjectEntry, ObjectKey, PageRef, PageSet,
};
use milvault_ports::{Bucket, Objects};

use super::{
    layout::{self, PageKind},
    pages::Folder,
};
use crate::{Error, Jobs};

impl Jobs {
    /// Returns the folder of a backup's documents.
    ///
    /// # Errors
    /// [`Error::NoSnapshotBucket`] if the deployment has no bucket for snapshots in the backup's region.
    pub fn snapshot_of(&self, backup: &Backup) -> Result<Folder<'_>, Error> {
        let bucket = self.settings.snapshots.in_region(&backup.region)?;
        Ok(Folder::new(self.ports.objects.as_ref(), bucket, &backup.instance_id, &backup.id))
    }
}

impl<'a> Folder<'a> {
    /// Returns the folder of a backup's documents in a bucket.
    pub fn new(objects: &'a dyn Objects, bucket: &'a Bucket, instance: &InstanceId, backup: &BackupId) -> Self {
        Self { objects, bucket, prefix: layout::backup(instance, backup) }
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// [`Error::Document`] if the manifest is missing or can't be read.
    pub async fn manifest(&self) -> Result<Manifest, Error> {
        self.manifest_if_exists().await?.ok_or_else(|| self.bad(layout::MANIFEST, "is missing"))
    }

    /// Reads the manifest; `None` if it doesn't exist.
    pub(crate) async fn manifest_if_exists(&self) -> Result<Option<Manifest>, Error> {
        let Some(body) = self.bytes(layout::MANIFEST).await? else { return Ok(None) };
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| self.bad(layout::MANIFEST, format!("cannot be read: {error}")))
    }

    /// Reads one of the manifest's pages of collections.
    ///
    /// # Errors
    /// [`Error::Document`] if the page is missing, or its hash isn't the one in the manifest.
    pub async fn collections(&self, page: &PageRef) -> Result<Vec<CollectionCapture>, Error> {
        self.read_named(page).await
    }
}

/// Reads sorted objects, one page in memory at a time.
pub(crate) struct ObjectReader<'a> {
    folder: Folder<'a>,
    pages: Pages,
    entries: std::iter::Peekable<std::vec::IntoIter<ObjectEntry>>,
}

enum Pages {
    /// The object pages of a manifest.
    Named(std::iter::Peekable<std::vec::IntoIter<PageRef>>),
    /// The pages of a plan: each as it was copied, without missing objects, or else as it was planned.
    Planned(PageSet, std::ops::Range<u32>),
}

impl<'a> ObjectReader<'a> {
    /// Makes a reader of a finished snapshot.
    pub(crate) fn for_manifest(folder: Folder<'a>, manifest: Manifest) -> Self {
        Self::new(folder, Pages::Named(manifest.object_pages.into_iter().peekable()))
    }

    /// Makes a reader of a plan, with the results of its copying.
    pub(crate) fn for_plan(folder: Folder<'a>, plan: PageSet) -> Self {
        let numbers = 0..plan.count;
        Self::new(folder, Pages::Planned(plan, numbers))
    }

    fn new(folder: Folder<'a>, pages: Pages) -> Self {
        Self { folder, pages, entries: Vec::new().into_iter().peekable() }
    }

    /// Returns the entry with this key, if there is one. Entries before it are skipped and can't be read later.
    pub(crate) async fn seek(&mut self, key: &ObjectKey) -> Result<Option<ObjectEntry>, Error> {
        self.skip_to(key.as_str()).await?;
        Ok(self.entries.next_if(|entry| entry.key == *key))
    }

    /// Returns the next entry of this collection, if there is one. Entries of earlier collections are skipped and can't
    /// be read later.
    pub(crate) async fn next_of(&mut self, collection: &str) -> Result<Option<ObjectEntry>, Error> {
        self.skip_to(&format!("{collection}/")).await?;
        Ok(self.entries.next_if(|entry| entry.key.collection() == collection))
    }

    /// Skips the entries before `key`, without reading pages that have no other entries.
    async fn skip_to(&mut self, key: &str) -> Result<(), Error> {
        loop {
            while self.entries.next_if(|entry| entry.key.as_str() < key).is_some() {}
            if self.entries.peek().is_some() {
                return Ok(());
            }
            let entries = match &mut self.pages {
                Pages::Named(pages) => {
                    while pages.next_if(|page| page.last.as_str() < key).is_some() {}
                    let Some(page) = pages.next() else { return Ok(()) };
                    self.folder.read_named(&page).await?
                }
                Pages::Planned(plan, numbers) => {
                    let Some(number) = numbers.next() else { return Ok(()) };
                    match self.folder.read_if_exists(&PageKind::Objects.key(plan, number)).await? {
                        Some(copied) => copied,
                        None => self.folder.read(&PageKind::Plan.key(plan, number)).await?,
                    }
                }
            };
            self.entries = entries.into_iter().peekable();
        }
    }
}
