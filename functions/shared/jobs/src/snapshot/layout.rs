//! The layout of buckets: the keys of objects and documents.
//!
//! ```text
//! {instance}/objects/{shard}/{object key}              data, shared by the instance's backups
//! {instance}/snapshots/{backup}/survey/{fence}-…       working pages: the collections to capture
//! {instance}/snapshots/{backup}/capture/{fence}-…      working pages: collections as flushed
//! {instance}/snapshots/{backup}/plan/{fence}-…         working pages: the objects to copy
//! {instance}/snapshots/{backup}/collections/{fence}-…  pages of the manifest
//! {instance}/snapshots/{backup}/objects/{fence}-…      pages of the manifest
//! {instance}/snapshots/{backup}/manifest.json          written last
//! ```

use milvault_model::{BackupId, InstanceId, PageSet, RestoreId};

/// The prefix below which restores stage their data in an instance's own bucket: outside Milvus's root path or, if that
/// is empty, beside Milvus's own folders in it.
///
/// Milvus removes nothing below this prefix. It lists only its own folders below the root path (`insert_log`,
/// `stats_log`, `delta_log`, `bm25_stats`, `index_files/`, …), and removes only objects in them or objects that its
/// metadata names (`recycleUnusedBinlogFiles` and `recycleUnusedIndexFiles` in
/// `internal/datacoord/garbage_collector.go`). None of these folders' names is a prefix of this one.
pub const STAGING_PREFIX: &str = "milvault-staging/";

/// Returns the key of an object that is written and removed to check that a bucket is writable.
pub fn probe_key(prefix: &str, id: ulid::Ulid) -> String {
    format!("{prefix}preflight/{id}")
}

/// Returns the prefix of the instance's data objects.
pub(crate) fn data(instance: &InstanceId) -> String {
    format!("{instance}/objects/")
}

/// Returns the prefix of a backup's documents.
pub(crate) fn backup(instance: &InstanceId, backup: &BackupId) -> String {
    format!("{instance}/snapshots/{backup}/")
}

/// Returns a restore's staging prefix.
pub(crate) fn staging(restore: &RestoreId) -> String {
    format!("{STAGING_PREFIX}{restore}/")
}

/// The key of a backup's manifest, relative to the backup's prefix.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The kinds of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageKind {
    Survey,
    Capture,
    Plan,
    Collections,
    Objects,
}

impl PageKind {
    /// Returns the prefix of this kind's pages, relative to the backup's prefix.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Survey => "survey/",
            Self::Capture => "capture/",
            Self::Plan => "plan/",
            Self::Collections => "collections/",
            Self::Objects => "objects/",
        }
    }

    /// Returns the key of a page in a set, relative to the backup's prefix.
    pub(crate) fn key(self, set: &PageSet, number: u32) -> String {
        self.key_with_fence(set.fence(number), number)
    }

    /// Returns the key of a page that the worker with this fence writes.
    pub(crate) fn key_with_fence(self, fence: u64, number: u32) -> String {
        format!("{}{fence:010}-{number:05}.jsonl.zst", self.prefix())
    }
}
