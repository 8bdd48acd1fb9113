//! Reading a finished snapshot.

use milvault_model::{BackupId, CollectionCapture, InstanceId, Manifest, ObjectEntry, PageRef};

use crate::{
    Error, layout,
    pages::Folder,
    ports::{Bucket, Objects},
};

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

/// Reads a manifest's objects in their order, one page in memory at a time.
pub(crate) struct ObjectReader<'a> {
    folder: Folder<'a>,
    pages: std::vec::IntoIter<PageRef>,
    entries: std::iter::Peekable<std::vec::IntoIter<ObjectEntry>>,
}

impl<'a> ObjectReader<'a> {
    pub(crate) fn new(folder: Folder<'a>, pages: Vec<PageRef>) -> Self {
        Self { folder, pages: pages.into_iter(), entries: Vec::new().into_iter().peekable() }
    }

    /// The next entry, without taking it.
    pub(crate) async fn peek(&mut self) -> Result<Option<&ObjectEntry>, Error> {
        while self.entries.peek().is_none() {
            let Some(page) = self.pages.next() else { return Ok(None) };
            self.entries = self.folder.read_named(&page).await?.into_iter().peekable();
        }
        Ok(self.entries.peek())
    }

    /// The entry of this key, if there is one; entries before it are passed over for good.
    pub(crate) async fn seek(&mut self, key: &str) -> Result<Option<ObjectEntry>, Error> {
        loop {
            match self.peek().await? {
                Some(entry) if entry.key.as_str() < key => {
                    self.entries.next();
                }
                Some(entry) if entry.key == key => return Ok(self.entries.next()),
                _ => return Ok(None),
            }
        }
    }
}
