//! The manifest: a snapshot's table of contents.

use serde::{Deserialize, Serialize};

use crate::{BackupId, BackupName, DatabaseCapture, InstanceId, LeftOut, Principal, Region, RootPath, Time, Totals};

/// A reference to a page of a snapshot, with what the page must contain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageRef {
    /// The key relative to the backup's prefix, such as `objects/00000.jsonl.zst`.
    pub key: String,
    /// The SHA-256 of the stored (compressed) bytes, in hexadecimal.
    pub sha256: String,
    /// The number of entries.
    pub entries: u32,
    /// The first entry's sort key.
    pub first: String,
    /// The last entry's sort key.
    pub last: String,
}

/// A snapshot's table of contents, written last and only once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// The backup that the snapshot belongs to.
    pub backup_id: BackupId,
    /// The instance that was backed up.
    pub instance_id: InstanceId,
    /// The backup's name.
    pub name: BackupName,
    /// How the data was captured.
    pub method: CaptureMethod,
    /// The version that the server reported.
    pub engine_version: String,
    /// Where the objects were copied from.
    pub source: SourceStorage,
    /// See [`Snapshot::point_in_time`](crate::Snapshot::point_in_time).
    pub point_in_time: Time,
    /// Sums over the snapshot.
    pub totals: Totals,
    /// The captured databases.
    pub databases: Vec<DatabaseCapture>,
    /// The collections that weren't captured, and why.
    pub left_out: Vec<LeftOut>,
    /// The user that Milvus was queried as; `None` in backups made before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_as: Option<Principal>,
    /// The server's users, roles, privilege groups and grants as Milvus's protocol encodes them (`milvus.RBACMeta`), in
    /// base64; `None` if the server doesn't return them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_control: Option<String>,
    /// Pages of [`ObjectEntry`](crate::ObjectEntry), sorted by key across all pages.
    pub object_pages: Vec<PageRef>,
    /// Pages of [`CollectionCapture`](crate::CollectionCapture), sorted by id in the order of
    /// [`ObjectKey::collection`](crate::ObjectKey::collection) across all pages.
    pub collection_pages: Vec<PageRef>,
}

/// How the data was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureMethod {
    /// Copies of Milvus's own insert and delete logs.
    Binlog,
}

/// Where a snapshot's objects were copied from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStorage {
    /// The bucket's region.
    pub region: Region,
    /// The bucket's name.
    pub bucket: String,
    /// Milvus's root path in the bucket.
    pub root_path: RootPath,
}
