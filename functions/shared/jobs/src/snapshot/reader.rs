//! Reading a finished snapshot.

use milvault_model::{BackupId, CollectionCapture, InstanceId, Manifest, ObjectEntry, ObjectKey, PageRef, PageSet};
use milvault_ports::{Bucket, Objects};

use super::{
    layout::{self, PageKind},
    pages::Folder,
};
use crate::Error;

pub(crate) fn folder<'a>(
    objects: &'a dyn Objects,
    bucket: &'a Bucket,
    instance: &InstanceId,
    backup: &BackupId,
) -> Folder<'a> {
    Folder { objects, bucket, prefix: layout::backup(instance, backup) }
}

/// A backup's manifest.
///
/// # Errors
/// [`Error::Document`] if it is missing or can't be read.
pub async fn manifest(
    objects: &dyn Objects,
    bucket: &Bucket,
    instance: &InstanceId,
    backup: &BackupId,
) -> Result<Manifest, Error> {
    let folder = folder(objects, bucket, instance, backup);
    manifest_if_there(&folder).await?.ok_or_else(|| folder.bad(layout::MANIFEST, "is missing"))
}

pub(crate) async fn manifest_if_there(folder: &Folder<'_>) -> Result<Option<Manifest>, Error> {
    let Some(body) = folder.bytes(layout::MANIFEST).await? else { return Ok(None) };
    serde_json::from_slice(&body)
        .map(Some)
        .map_err(|error| folder.bad(layout::MANIFEST, format!("can't be read: {error}")))
}

/// One of the manifest's pages of collections.
///
/// # Errors
/// [`Error::Document`] if it is missing or isn't the page that the manifest names.
pub async fn collections(
    objects: &dyn Objects,
    bucket: &Bucket,
    instance: &InstanceId,
    backup: &BackupId,
    page: &PageRef,
) -> Result<Vec<CollectionCapture>, Error> {
    folder(objects, bucket, instance, backup).read_named(page).await
}

/// Reads sorted objects, one page in memory at a time.
pub(crate) struct ObjectReader<'a> {
    folder: Folder<'a>,
    pages: Pages,
    entries: std::iter::Peekable<std::vec::IntoIter<ObjectEntry>>,
}

enum Pages {
    /// Of a manifest.
    Named(std::iter::Peekable<std::vec::IntoIter<PageRef>>),
    /// Of a plan that was copied, except for what was gone.
    Planned(PageSet, std::ops::Range<u32>),
}

impl<'a> ObjectReader<'a> {
    /// Of a finished snapshot.
    pub(crate) fn of_manifest(folder: Folder<'a>, manifest: Manifest) -> Self {
        Self::new(folder, Pages::Named(manifest.object_pages.into_iter().peekable()))
    }

    /// Of a plan, as far as it was copied.
    pub(crate) fn of_plan(folder: Folder<'a>, plan: PageSet) -> Self {
        let numbers = 0..plan.count;
        Self::new(folder, Pages::Planned(plan, numbers))
    }

    fn new(folder: Folder<'a>, pages: Pages) -> Self {
        Self { folder, pages, entries: Vec::new().into_iter().peekable() }
    }

    /// The entry of this key, if there is one; entries before it are passed over for good.
    pub(crate) async fn seek(&mut self, key: &ObjectKey) -> Result<Option<ObjectEntry>, Error> {
        self.pass_over(key.as_str()).await?;
        Ok(self.entries.next_if(|entry| entry.key == *key))
    }

    /// The next entry of this collection, if there is one; entries of collections before it are passed over for good.
    pub(crate) async fn next_of(&mut self, collection: &str) -> Result<Option<ObjectEntry>, Error> {
        self.pass_over(&format!("{collection}/")).await?;
        Ok(self.entries.next_if(|entry| entry.key.collection() == collection))
    }

    /// Passes over what sorts before `key`, without reading pages that hold nothing else.
    async fn pass_over(&mut self, key: &str) -> Result<(), Error> {
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
                    match self.folder.read_if_there(&PageKind::Objects.key(plan, number)).await? {
                        Some(copied) => copied,
                        None => self.folder.read(&PageKind::Plan.key(plan, number)).await?,
                    }
                }
            };
            self.entries = entries.into_iter().peekable();
        }
    }
}
