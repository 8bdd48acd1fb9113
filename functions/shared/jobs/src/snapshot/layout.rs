//! Where things are in buckets.
//!
//! ```text
//! {instance}/objects/{shard}/{object key}              data, shared by the instance's backups
//! {instance}/snapshots/{backup}/survey/{fence}-…       working pages: which collections to capture
//! {instance}/snapshots/{backup}/capture/{fence}-…      working pages: collections as flushed
//! {instance}/snapshots/{backup}/plan/{fence}-…         working pages: what to copy
//! {instance}/snapshots/{backup}/collections/{fence}-…  pages of the manifest
//! {instance}/snapshots/{backup}/objects/{fence}-…      pages of the manifest
//! {instance}/snapshots/{backup}/manifest.json          written last
//! ```

use milvault_model::{BackupId, InstanceId, PageSet, RestoreId};

/// Where restores stage their data in an instance's own bucket: outside Milvus's root path or, if that is empty, beside
/// Milvus's own folders in it.
///
/// Milvus removes nothing there: it lists its own folders below the root path (`insert_log`, `stats_log`, `delta_log`,
/// `bm25_stats`, `index_files/`, …), never all of it, and removes what it finds in them or what its metadata names
/// (`recycleUnusedBinlogFiles` and `recycleUnusedIndexFiles` in `internal/datacoord/garbage_collector.go`). No folder's
/// name is the beginning of this one.
pub const STAGING_PREFIX: &str = "milvault-staging/";

/// The key of an object that is written and removed to see whether a bucket can be written.
pub fn probe_key(prefix: &str, id: ulid::Ulid) -> String {
    format!("{prefix}preflight/{id}")
}

/// The prefix of the instance's data objects.
pub(crate) fn data(instance: &InstanceId) -> String {
    format!("{instance}/objects/")
}

/// The prefix of everything else of a backup.
pub(crate) fn backup(instance: &InstanceId, backup: &BackupId) -> String {
    format!("{instance}/snapshots/{backup}/")
}

/// A restore's staging prefix.
pub(crate) fn staging(restore: &RestoreId) -> String {
    format!("{STAGING_PREFIX}{restore}/")
}

/// A backup's manifest, relative to its prefix.
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
    /// The prefix of a kind's pages, relative to the backup's.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Survey => "survey/",
            Self::Capture => "capture/",
            Self::Plan => "plan/",
            Self::Collections => "collections/",
            Self::Objects => "objects/",
        }
    }

    /// The key of a set's page relative to the backup's prefix.
    pub(crate) fn key(self, set: &PageSet, number: u32) -> String {
        self.key_of(set.fence(number), number)
    }

    /// The key of a page that the worker with this fence writes.
    pub(crate) fn key_of(self, fence: u64, number: u32) -> String {
        format!("{}{fence:010}-{number:05}.jsonl.zst", self.prefix())
    }
}
