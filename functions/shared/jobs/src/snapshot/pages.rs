//! Pages: sorted entries as compressed JSON lines, so that snapshots of any size can be read and written in pieces.

use std::{collections::BTreeSet, pin::pin};

use futures::{Stream, TryStreamExt};
use milvault_model::{CollectionCapture, ObjectEntry, PageRef};
use milvault_ports::{Bucket, Objects, ObjectsError, PutMode, pages};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::Error;

/// The maximum number of objects in a page: some megabytes in memory, some hundred kilobytes stored.
pub const OBJECTS_PER_PAGE: usize = 10_000;
/// The maximum number of collections in a page. They are larger than objects, with a schema and indexes.
pub(crate) const COLLECTIONS_PER_PAGE: usize = 500;
/// A page of collections ends with the collection that brings it to this number of segments.
pub(crate) const SEGMENTS_PER_PAGE: usize = 50_000;

/// An entry of a page, which is sorted by the entries' sort keys.
pub(crate) trait Entry: Serialize + DeserializeOwned {
    fn sort_key(&self) -> String;
}

impl Entry for ObjectEntry {
    fn sort_key(&self) -> String {
        self.key.to_string()
    }
}

impl Entry for CollectionCapture {
    fn sort_key(&self) -> String {
        self.id.to_string()
    }
}

/// The folder of a backup's documents.
#[derive(Clone)]
pub struct Folder<'a> {
    pub(crate) objects: &'a dyn Objects,
    pub(crate) bucket: &'a Bucket,
    pub(crate) prefix: String,
}

impl Folder<'_> {
    /// Writes a page, and replaces an existing one. The same entries make the same bytes.
    pub(crate) async fn write<T: Serialize>(&self, key: &str, entries: &[T]) -> Result<(), Error> {
        let body = encode(entries).map_err(|reason| self.bad(key, reason))?;
        self.objects.put(self.bucket, &self.path(key), body, PutMode::Replace).await?;
        Ok(())
    }

    /// Writes a page and returns its reference for a manifest.
    pub(crate) async fn write_with_ref<T: Entry>(&self, key: String, entries: &[T]) -> Result<PageRef, Error> {
        let body = encode(entries).map_err(|reason| self.bad(&key, reason))?;
        let page = page_ref(key, &body, entries);
        self.objects.put(self.bucket, &self.path(&page.key), body, PutMode::Replace).await?;
        Ok(page)
    }

    /// Reads a page by its key.
    pub(crate) async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Vec<T>, Error> {
        self.read_if_exists(key).await?.ok_or_else(|| self.bad(key, "is missing"))
    }

    /// Reads a page by its key; `None` if it doesn't exist.
    pub(crate) async fn read_if_exists<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Vec<T>>, Error> {
        let Some(body) = self.bytes(key).await? else { return Ok(None) };
        decode(&body).map(Some).map_err(|reason| self.bad(key, reason))
    }

    /// Reads a page and returns it with its reference for a manifest.
    pub(crate) async fn read_with_ref<T: Entry>(&self, key: &str) -> Result<(Vec<T>, PageRef), Error> {
        let body = self.bytes(key).await?.ok_or_else(|| self.bad(key, "is missing"))?;
        let entries = decode(&body).map_err(|reason| self.bad(key, reason))?;
        let page = page_ref(key.to_owned(), &body, &entries);
        Ok((entries, page))
    }

    /// Reads a page that a manifest names; `None` if it doesn't exist.
    ///
    /// # Errors
    /// [`Error::Document`] if its hash isn't the one in the manifest.
    pub(crate) async fn read_named_if_exists<T: Entry>(&self, page: &PageRef) -> Result<Option<Vec<T>>, Error> {
        let Some(body) = self.bytes(&page.key).await? else { return Ok(None) };
        if hex::encode(Sha256::digest(&body)) != page.sha256 {
            return Err(self.bad(&page.key, "its SHA-256 is not the one that the manifest names"));
        }
        decode(&body).map(Some).map_err(|reason| self.bad(&page.key, reason))
    }

    /// Reads a page that a manifest names and that must exist.
    pub(crate) async fn read_named<T: Entry>(&self, page: &PageRef) -> Result<Vec<T>, Error> {
        self.read_named_if_exists(page).await?.ok_or_else(|| self.bad(&page.key, "is missing"))
    }

    /// Reads a document's bytes; `None` if it doesn't exist.
    pub(crate) async fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.objects.get(self.bucket, &self.path(key)).await?)
    }

    /// Lists the keys below a prefix, relative to the folder, a thousand at a time.
    pub(crate) fn keys(&self, below: &str) -> impl Stream<Item = Result<Vec<String>, ObjectsError>> {
        let (prefix, own) = (self.path(below), self.prefix.len());
        let (objects, bucket) = (self.objects, self.bucket);
        let pages = pages(1_000, move |page| {
            let prefix = prefix.clone();
            async move { objects.list(bucket, &prefix, page.after.as_deref()).await }
        });
        pages.map_ok(move |page| page.iter().map(|object| object.key[own..].to_owned()).collect())
    }

    /// Removes one document.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), Error> {
        Ok(self.objects.delete(self.bucket, &[self.path(key)]).await?)
    }

    /// Removes all documents below a prefix.
    pub(crate) async fn remove_all(&self, below: &str) -> Result<(), Error> {
        self.remove_all_except(below, &BTreeSet::new()).await
    }

    /// Removes all documents below a prefix, except these.
    pub(crate) async fn remove_all_except(&self, below: &str, keep: &BTreeSet<&str>) -> Result<(), Error> {
        let mut pages = pin!(self.keys(below));
        while let Some(keys) = pages.try_next().await? {
            let removed = keys.iter().filter(|key| !keep.contains(key.as_str())).map(|key| self.path(key));
            let removed: Vec<String> = removed.collect();
            if !removed.is_empty() {
                self.objects.delete(self.bucket, &removed).await?;
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn bad(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::Document { key: self.path(key), reason: reason.into() }
    }
}

fn page_ref<T: Entry>(key: String, body: &[u8], entries: &[T]) -> PageRef {
    PageRef {
        key,
        sha256: hex::encode(Sha256::digest(body)),
        entries: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        first: entries.first().map(Entry::sort_key).unwrap_or_default(),
        last: entries.last().map(Entry::sort_key).unwrap_or_default(),
    }
}

fn encode<T: Serialize>(entries: &[T]) -> Result<Vec<u8>, String> {
    let mut lines = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut lines, entry).map_err(|error| error.to_string())?;
        lines.push(b'\n');
    }
    zstd::encode_all(lines.as_slice(), 3).map_err(|error| error.to_string())
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, String> {
    let lines = zstd::decode_all(body).map_err(|error| format!("cannot be decompressed: {error}"))?;
    serde_json::Deserializer::from_slice(&lines)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use milvault_model::{ObjectKey, Origin};

    use super::*;

    #[test]
    fn a_page_reads_back_what_was_written_and_the_same_entries_make_the_same_bytes() {
        let key = |n| ObjectKey::from_source(&format!("insert_log/1/2/{n}/0/1")).unwrap();
        let entry = |n| ObjectEntry { key: key(n), size: n, source_etag: "e".into(), etag: None, origin: Origin::Own };
        let entries: Vec<ObjectEntry> = (0..100).map(entry).collect();
        let body = encode(&entries).unwrap();
        assert_eq!(decode::<ObjectEntry>(&body).unwrap(), entries);
        assert_eq!(encode(&entries).unwrap(), body);
        assert!(decode::<ObjectEntry>(&body[..body.len() - 1]).is_err());
    }
}
