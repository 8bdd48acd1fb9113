//! The contents of a snapshot: the manifest, its pages, and everything needed to rebuild a collection.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{BackupId, BackupName, CaptureMethod, CollectionName, FailureCode, InstanceId, Region, RootPath, Time};

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
    Found,
    /// The backup that this snapshot belongs to.
    Own,
}

impl Origin {
    fn is_earlier(&self) -> bool {
        *self == Self::Earlier
    }
}

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
    /// See [`Snapshot::point_in_time`].
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
    /// Pages of [`ObjectEntry`], sorted by key across all pages.
    pub object_pages: Vec<PageRef>,
    /// Pages of [`CollectionCapture`], sorted by id in the order of [`ObjectKey::collection`] across all pages.
    pub collection_pages: Vec<PageRef>,
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

/// Sums over a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Bytes of all objects.
    pub size_bytes: u64,
    /// Bytes of the objects that this backup stored.
    pub added_bytes: u64,
    /// Bytes of the objects that were already stored and that the base doesn't have.
    #[serde(default)]
    pub found_bytes: u64,
    /// The number of objects.
    pub objects: u64,
    /// The number of collections.
    pub collections: u64,
    /// The entities in these collections.
    pub entities: u64,
    /// The number of collections whose entities were counted exactly; the counts of the others are upper bounds.
    #[serde(default)]
    pub counted_exactly: u64,
}

impl Totals {
    /// Whether `entities` is exact.
    pub fn is_counted_exactly(&self) -> bool {
        self.counted_exactly == self.collections
    }

    /// The kind of count that `entities` is.
    pub fn entities_are(&self) -> CountKind {
        if self.is_counted_exactly() { CountKind::Exact } else { CountKind::AtMost }
    }
}

/// The catalog's record of a finished snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// When work on the backup began.
    pub started_at: Time,
    /// When the backup became AVAILABLE.
    pub completed_at: Time,
    /// The earliest of the collections' points in time: everything written before it is in the snapshot.
    pub point_in_time: Time,
    /// Sums over the snapshot.
    pub totals: Totals,
    /// Whether the snapshot has everything that was asked for.
    #[serde(default)]
    pub completeness: Completeness,
    /// See [`Manifest::captured_as`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_as: Option<Principal>,
}

impl Snapshot {
    /// Whether nothing is missing. `None` for a snapshot made before the capturing user was recorded, because that user
    /// may not have seen every collection.
    pub fn is_complete(&self) -> Option<bool> {
        match (&self.completeness, &self.captured_as) {
            (Completeness::Incomplete { .. }, _) => Some(false),
            (Completeness::Complete, Some(_)) => Some(true),
            (Completeness::Complete, None) => None,
        }
    }
}

/// Whether a backup has everything that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum Completeness {
    /// The snapshot has everything that existed at its point in time.
    #[default]
    Complete,
    /// Something is missing, or may be missing.
    Incomplete {
        /// The first few reasons, for people.
        reasons: Vec<String>,
    },
}

impl Completeness {
    /// The number of reasons that a record keeps; the manifest, or the ledger, has all of them.
    const SHOWN: usize = 5;

    /// The completeness of a snapshot captured as this principal, with these collections left out.
    pub fn of(left_out: &[LeftOut], principal: Option<&Principal>) -> Self {
        let limited = principal.and_then(|principal| match &principal.visibility {
            Visibility::Everything => None,
            Visibility::Unsure { reason } => Some(reason.clone()),
        });
        let missed = left_out.iter().filter(|left_out| left_out.cause == LeftOutCause::Trouble);
        let missed = missed.map(|left_out| format!("{}: {}", left_out.collection, left_out.reason));
        Self::lacking(limited, missed, "backup")
    }

    /// The completeness of a restore that gave up collections for these reasons, one per collection.
    pub fn of_restore(given_up: impl Iterator<Item = String>) -> Self {
        Self::lacking(None, given_up, "restore")
    }

    /// The completeness without the collections of these reasons. `whole` is the resource whose description names all
    /// of them.
    fn lacking(in_general: Option<String>, mut collections: impl Iterator<Item = String>, whole: &str) -> Self {
        let named = collections.by_ref().take(Self::SHOWN);
        let mut reasons: Vec<String> = in_general.into_iter().chain(named).collect();
        match collections.count() {
            0 => {}
            more => reasons.push(format!("and {more} more collections, which describing the {whole} names")),
        }
        if reasons.is_empty() { Self::Complete } else { Self::Incomplete { reasons } }
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        *self == Self::Complete
    }

    /// Why something is missing, for people; `None` if nothing is.
    pub fn reasons(&self) -> Option<&[String]> {
        match self {
            Self::Complete => None,
            Self::Incomplete { reasons } => Some(reasons),
        }
    }
}

/// The user that a Milvus server answers requests as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// The user's name; `None` if the server asks for no credentials, or if the credentials are a token without a name.
    pub user: Option<String>,
    /// Whether that user sees every collection.
    pub visibility: Visibility,
}

/// What a principal can see: with authorization on, Milvus lists only the objects that a user has privileges for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sees", rename_all = "camelCase")]
pub enum Visibility {
    /// Every database and collection.
    Everything,
    /// Possibly not everything.
    Unsure {
        /// The reason, for people.
        reason: String,
    },
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseCapture {
    /// The database's name.
    pub name: String,
    /// The database's properties, if the server has database properties.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<(String, String)>,
}

/// A collection that existed in the source and isn't in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// The collection's name.
    pub collection: CollectionName,
    /// The collection's id; `None` in snapshots made before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// The reason, for people.
    pub reason: String,
    /// The reason, for this service.
    #[serde(default)]
    pub cause: LeftOutCause,
    /// For [`LeftOutCause::Trouble`]: the code that a backup that selected the collection by name would have failed
    /// with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FailureCode>,
}

/// Why a collection isn't in a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeftOutCause {
    /// A restore made it, or keeps it for a rollback: it isn't a user's collection.
    #[default]
    Restores,
    /// It was dropped before its point in time, so nothing of it is missing.
    Dropped,
    /// It existed and couldn't be captured, so the snapshot is incomplete.
    Trouble,
}

/// The collection property that hides rows from queries after this number of seconds.
pub const TIME_TO_LIVE: &str = "collection.ttl.seconds";

/// A collection at its point in time, with everything needed to rebuild it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionCapture {
    /// The collection's name.
    pub name: CollectionName,
    /// The collection's id in the source, which its objects' keys contain.
    pub id: i64,
    /// The schema as Milvus's protocol encodes it (`schema.CollectionSchema`), in base64, so that parts of it that this
    /// service doesn't know are kept.
    pub schema: String,
    /// The primary key's field, from the schema.
    pub primary_key: String,
    /// The stored fields of the schema, including hidden ones. Empty in backups made before they were recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldCapture>,
    /// The number of shards.
    pub shards: i32,
    /// The consistency level, as Milvus's protocol numbers it.
    pub consistency_level: i32,
    /// The collection's properties, such as its time to live.
    pub properties: Vec<(String, String)>,
    /// The partitions, with the ids that their objects' keys contain.
    pub partitions: Vec<PartitionCapture>,
    /// Whether Milvus spreads the rows over the partitions by a key. If so, a rebuild creates the partitions by their
    /// number.
    pub has_partition_key: bool,
    /// The collection's indexes.
    pub indexes: Vec<IndexCapture>,
    /// The collection's aliases.
    pub aliases: Vec<String>,
    /// Whether and how it was loaded.
    pub loaded: Loaded,
    /// The hybrid timestamp of the flush: rows up to and including it are in the snapshot, later ones aren't.
    pub flush_timestamp: u64,
    /// The flush's timestamp as a time.
    pub point_in_time: Time,
    /// The number of rows.
    pub rows: RowCount,
    /// Some of the primary keys, if they could be queried at the point in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sample: Vec<PrimaryKey>,
    /// Bytes of the collection's objects.
    pub size_bytes: u64,
    /// The number of delta logs, which hold deletes, among the objects; `None` in backups made before they were
    /// counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta_logs: Option<u64>,
    /// The segments that hold the collection's rows.
    pub segments: Vec<SegmentCapture>,
}

/// A field of a schema that has logs of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldCapture {
    /// The field's id, which its logs' keys contain in storage version 1.
    pub id: i64,
    /// The field's name.
    pub name: String,
    /// Whether some segments may have no logs of the field.
    #[serde(default, skip_serializing_if = "is_default")]
    pub presence: FieldPresence,
}

/// Whether every segment has logs of a field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FieldPresence {
    /// Every segment has logs of the field.
    #[default]
    Always,
    /// Segments that were flushed before the field was added have no logs of it.
    SinceAdded,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionCapture {
    /// The partition's name.
    pub name: String,
    /// The partition's id in the source.
    pub id: i64,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexCapture {
    /// The index's name.
    pub name: String,
    /// The indexed field.
    pub field: String,
    /// The index's type, metric and parameters.
    pub params: Vec<(String, String)>,
}

/// A row's primary key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PrimaryKey {
    /// A key of type Int64.
    Int(i64),
    /// A key of type VarChar.
    Text(String),
}

/// Whether a collection was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Loaded {
    /// It wasn't loaded.
    No,
    /// The whole collection was loaded.
    Whole {
        /// The number of replicas, at least 1.
        replicas: i32,
    },
    /// Only some partitions were loaded.
    Partitions {
        /// The number of replicas, at least 1.
        replicas: i32,
        /// The names of the loaded partitions.
        names: Vec<String>,
    },
}

/// A segment: rows of one partition, or deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentCapture {
    /// The segment's id in the source.
    pub id: i64,
    /// The partition's id in the source; -1 for deletes in all partitions.
    pub partition_id: i64,
    /// The number of rows, including deleted ones; 0 for deletes.
    pub rows: u64,
    /// What the segment holds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub level: SegmentLevel,
    /// How the segment's logs are laid out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage: StorageVersion,
    /// When the segment's rows were written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub written: Written,
    /// The ids of the delta logs that the segment had when it was captured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delta_logs: Vec<i64>,
}

/// When a segment's rows were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Written {
    /// At least some of them before the point in time.
    #[default]
    Before,
    /// Unknown: the segment may have been made after the point in time.
    Unknown,
}

/// What a segment holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SegmentLevel {
    /// Rows in insert logs, and deletes of these rows in delta logs.
    #[default]
    Data,
    /// Only deletes, in delta logs, of rows in other segments.
    L0,
}

/// How the logs of a segment are laid out, as Milvus numbers the layouts. After an upgrade, a collection can have
/// segments of several versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub enum StorageVersion {
    /// One folder of insert logs for each field.
    #[default]
    V1,
    /// One folder of insert logs for each group of columns.
    V2,
    /// Another version. From 3 on, the logs alone can't be imported.
    Other(i64),
}

impl From<i64> for StorageVersion {
    fn from(number: i64) -> Self {
        match number {
            0 | 1 => Self::V1,
            2 => Self::V2,
            other => Self::Other(other),
        }
    }
}

impl From<StorageVersion> for i64 {
    fn from(version: StorageVersion) -> i64 {
        match version {
            StorageVersion::V1 => 0,
            StorageVersion::V2 => 2,
            StorageVersion::Other(other) => other,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The number of rows in a collection, and whether it is exact.
///
/// Milvus counts exactly only the rows of a loaded collection, and only at present. While writes go on, or for a
/// collection that isn't loaded, the number of rows in the segments is an upper bound, because deletes are in separate
/// logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "known", rename_all = "camelCase")]
pub enum RowCount {
    /// Exactly this number.
    Exactly {
        /// The number of rows.
        rows: u64,
    },
    /// At most this number.
    AtMost {
        /// The number of rows.
        rows: u64,
    },
}

/// Whether a number of rows is exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CountKind {
    /// The exact number.
    Exact,
    /// An upper bound.
    #[default]
    AtMost,
}

impl RowCount {
    /// The number of rows, exact or not.
    pub fn rows(self) -> u64 {
        match self {
            Self::Exactly { rows } | Self::AtMost { rows } => rows,
        }
    }

    /// The kind of count.
    pub fn kind(self) -> CountKind {
        match self {
            Self::Exactly { .. } => CountKind::Exact,
            Self::AtMost { .. } => CountKind::AtMost,
        }
    }

    /// Whether a rebuilt collection with `found` rows is consistent with this count.
    pub fn admits(self, found: u64) -> bool {
        match self {
            Self::Exactly { rows } => found == rows,
            Self::AtMost { rows } => found <= rows,
        }
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

    #[test]
    fn a_segment_is_written_as_before_unless_it_is_of_another_kind() {
        let read = |json: &str| serde_json::from_str::<SegmentCapture>(json).unwrap();
        let plain = r#"{"id":1,"partitionId":2,"rows":3}"#;
        assert_eq!(serde_json::to_string(&read(plain)).unwrap(), plain);
        let l0 = r#"{"id":1,"partitionId":-1,"rows":0,"level":"l0","storage":2}"#;
        assert_eq!((read(l0).level, read(l0).storage), (SegmentLevel::L0, StorageVersion::V2));
        assert_eq!(serde_json::to_string(&read(l0)).unwrap(), l0);
    }

    #[test]
    fn an_upper_bound_admits_fewer_rows_and_an_exact_count_only_itself() {
        assert!(RowCount::AtMost { rows: 5 }.admits(3));
        assert!(!RowCount::AtMost { rows: 5 }.admits(6));
        assert!(RowCount::Exactly { rows: 5 }.admits(5));
        assert!(!RowCount::Exactly { rows: 5 }.admits(4));
    }

    #[test]
    fn a_sum_is_exact_only_if_every_collection_was_counted_exactly() {
        let totals = |counted_exactly| Totals { collections: 2, counted_exactly, ..Totals::default() };
        assert_eq!(
            [2, 1, 0].map(|n| totals(n).entities_are()),
            [CountKind::Exact, CountKind::AtMost, CountKind::AtMost]
        );
        assert_eq!(Totals::default().entities_are(), CountKind::Exact);
    }

    #[test]
    fn a_snapshot_of_before_it_was_recorded_is_not_said_to_be_complete() {
        let old = r#"{"startedAt":"2026-11-23T03:00:00Z","completedAt":"2026-11-23T03:00:09Z",
            "pointInTime":"2026-11-23T03:00:05Z","totals":{"sizeBytes":9,"addedBytes":9,"objects":1,"collections":1,"entities":5}}"#;
        let mut snapshot: Snapshot = serde_json::from_str(old).unwrap();
        assert_eq!((snapshot.is_complete(), snapshot.totals.entities_are()), (None, CountKind::AtMost));
        snapshot.captured_as = Some(Principal { user: None, visibility: Visibility::Everything });
        assert_eq!((snapshot.is_complete(), snapshot.completeness.reasons()), (Some(true), None));
        let reasons = vec!["some".to_owned()];
        snapshot.completeness = Completeness::Incomplete { reasons: reasons.clone() };
        assert_eq!((snapshot.is_complete(), snapshot.completeness.reasons()), (Some(false), Some(&*reasons)));
    }

    fn left_out(cause: LeftOutCause, number: usize) -> LeftOut {
        LeftOut {
            collection: format!("default.c{number}").parse().unwrap(),
            id: None,
            reason: "it is broken".into(),
            cause,
            code: None,
        }
    }

    #[test]
    fn only_trouble_and_a_user_who_may_not_see_all_make_a_backup_incomplete() {
        let everything = Principal { user: None, visibility: Visibility::Everything };
        let harmless = [left_out(LeftOutCause::Restores, 0), left_out(LeftOutCause::Dropped, 1)];
        assert!(Completeness::of(&harmless, Some(&everything)).is_complete());
        let reason = "the user 'backup' may not see all".to_owned();
        let limited = Principal { user: None, visibility: Visibility::Unsure { reason: reason.clone() } };
        let of_limited = Completeness::of(&harmless, Some(&limited));
        assert_eq!(of_limited.reasons(), Some([reason].as_slice()));
        let troubled: Vec<LeftOut> = (0..7).map(|number| left_out(LeftOutCause::Trouble, number)).collect();
        let of_troubled = Completeness::of(&troubled, Some(&everything));
        let reasons = of_troubled.reasons().unwrap();
        assert_eq!((reasons.len(), reasons[0].as_str()), (6, "default.c0: it is broken"));
        assert!(reasons[5].contains("2 more"), "{reasons:?}");
    }
}
