//! The objects of a snapshot: their keys, their entries in the manifest's pages, and the backups that stored them.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The number of prefixes that an instance's data objects are spread over.
///
/// S3 takes 3,500 writes a second per prefix (its user guide, "Optimizing Amazon S3 performance"), and lists the keys
/// of one prefix a thousand at a time, one page after another. With sixteen prefixes, neither limits a busy collection.
pub const SHARDS: usize = 16;

/// The key of a data object in a snapshot: `{collection}/{kind}/{partition}/{segment}/…`. Milvus's own key, below its
/// root path, is `{kind}/{collection}/{partition}/{segment}/…`. In the snapshot's form, the objects of a collection
/// sort next to each other, and one listing per kind and collection returns them in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Makes the key from a key relative to Milvus's root path; `None` if that isn't the key of a collection's data.
    pub fn from_source(relative: &str) -> Option<Self> {
        let (kind, rest) = relative.split_once('/')?;
        let (collection, rest) = rest.split_once('/')?;
        Some(Self(format!("{collection}/{kind}/{rest}")))
    }

    /// The key relative to Milvus's root path.
    pub fn source(&self) -> String {
        let mut parts = self.0.splitn(3, '/');
        let [collection, kind, rest] = std::array::from_fn(|_| parts.next().unwrap_or_default());
        format!("{kind}/{collection}/{rest}")
    }

    /// The key below an instance's data prefix: `{shard}/{key}`.
    pub fn stored(&self) -> String {
        format!("{:x}/{}", self.shard(), self.0)
    }

    /// The shard that the object is in, below [`SHARDS`].
    pub fn shard(&self) -> usize {
        usize::from(Sha256::digest(self.0.as_bytes())[0]) % SHARDS
    }

    /// The collection's id in the source, in decimal. Keys are sorted by it first, as text.
    pub fn collection(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The part of the key below the collection and this kind of log, without the slash; `None` if the log is of
    /// another kind.
    pub fn below(&self, kind: &str) -> Option<&str> {
        self.0.split_once('/')?.1.strip_prefix(kind)?.strip_prefix('/')
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// An object of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectEntry {
    /// The object's key; a snapshot's entries are sorted by it.
    pub key: ObjectKey,
    /// The size in bytes.
    pub size: u64,
    /// The ETag in the source when the object was planned.
    pub source_etag: String,
    /// The ETag of the stored object; `None` in a plan for an object that is yet to be copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The backup that stored the object.
    #[serde(default, skip_serializing_if = "Origin::is_earlier")]
    pub origin: Origin,
}

/// Which backup stored an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// An earlier backup, or none yet.
    #[default]
    Earlier,
    /// A backup that isn't the base of this one: the object was already stored when it was to be copied.
    #[serde(rename = "found")]
    AlreadyStored,
    /// The backup that this snapshot belongs to.
    Own,
}

impl Origin {
    fn is_earlier(&self) -> bool {
        *self == Self::Earlier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_key_gives_its_source_back_and_sorts_by_collection() {
        let key = ObjectKey::from_source("insert_log/1/2/3/100/5").unwrap();
        assert_eq!(key.as_str(), "1/insert_log/2/3/100/5");
        assert_eq!(key.source(), "insert_log/1/2/3/100/5");
        assert_eq!((key.collection(), key.below("insert_log")), ("1", Some("2/3/100/5")));
        assert_eq!(key.below("delta_log"), None);
        assert!(key.stored().ends_with("/1/insert_log/2/3/100/5"));
        let other = ObjectKey::from_source("delta_log/11/-1/4/5").unwrap();
        assert!(key < other && "1" < "11");
        assert_eq!(ObjectKey::from_source("insert_log"), None);
    }

    #[test]
    fn every_shard_is_used() {
        let shards: std::collections::BTreeSet<usize> =
            (0..1000).map(|n| ObjectKey::from_source(&format!("insert_log/1/2/{n}/0/1")).unwrap().shard()).collect();
        assert_eq!(shards, (0..SHARDS).collect());
    }
}
