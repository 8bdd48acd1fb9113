//! What a snapshot consists of: the manifest, its pages, and everything needed to rebuild a collection.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{BackupId, BackupName, CaptureMethod, CollectionName, FailureCode, InstanceId, Region, RootPath, Time};

/// Over how many prefixes an instance's data objects are spread.
///
/// S3 takes 3,500 writes a second per prefix (its user guide, "Optimizing Amazon S3 performance"), and a listing of one
/// prefix gives a thousand keys after the other: with sixteen, one busy collection is limited by neither.
pub const SHARDS: usize = 16;

/// The key of a data object in a snapshot: `{collection}/{kind}/{partition}/{segment}/…`, where Milvus, below its root
/// path, has `{kind}/{collection}/{partition}/{segment}/…`. So the objects of a collection are neighbours, and one
/// listing per kind and collection gives them in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// From a key relative to Milvus's root path; `None` if it isn't one of a collection's data.
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

    /// Which of the [`SHARDS`] it is in.
    pub fn shard(&self) -> usize {
        usize::from(Sha256::digest(self.0.as_bytes())[0]) % SHARDS
    }

    /// The collection's id in the source, in decimal. Keys are sorted by it first, in the order of text.
    pub fn collection(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// What follows the collection and, with a slash, its kind of log; `None` if it is of another kind.
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
    /// Entries of a snapshot are sorted by it.
    pub key: ObjectKey,
    /// In bytes.
    pub size: u64,
    /// The source's ETag when it was planned.
    pub source_etag: String,
    /// The ETag of what is stored; `None` in a plan for what is yet to be copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Who stored it.
    #[serde(default, skip_serializing_if = "Origin::is_earlier")]
    pub origin: Origin,
}

/// Which backup stored an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// An earlier one, or none yet.
    #[default]
    Earlier,
    /// One that isn't the base of this one: it was there already when it was to be copied.
    Found,
    /// The one whose snapshot this is.
    Own,
}

impl Origin {
    fn is_earlier(&self) -> bool {
        *self == Self::Earlier
    }
}

/// A page of a snapshot: which, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageRef {
    /// Relative to the backup's prefix, such as `objects/00000.jsonl.zst`.
    pub key: String,
    /// Of the stored (compressed) bytes, in hexadecimal.
    pub sha256: String,
    /// How many entries.
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
    /// Of which backup.
    pub backup_id: BackupId,
    /// Of which instance.
    pub instance_id: InstanceId,
    /// The backup's name.
    pub name: BackupName,
    /// How it was captured.
    pub method: CaptureMethod,
    /// What the server reported.
    pub engine_version: String,
    /// Where the bytes came from.
    pub source: SourceStorage,
    /// See [`Snapshot::point_in_time`].
    pub point_in_time: Time,
    /// Sums over the snapshot.
    pub totals: Totals,
    /// Its databases.
    pub databases: Vec<DatabaseCapture>,
    /// What was not captured, and why.
    pub left_out: Vec<LeftOut>,
    /// As whom the server was asked; `None` in backups of before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_as: Option<Principal>,
    /// The server's users, roles, privilege groups and grants as Milvus's protocol encodes them (`milvus.RBACMeta`), in
    /// base64, where it tells them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_control: Option<String>,
    /// Pages of [`ObjectEntry`], sorted by key through all of them.
    pub object_pages: Vec<PageRef>,
    /// Pages of [`CollectionCapture`], sorted by id, as [`ObjectKey::collection`] is, through all of them.
    pub collection_pages: Vec<PageRef>,
}

/// Where a snapshot's objects were copied from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStorage {
    /// The bucket's region.
    pub region: Region,
    /// The bucket.
    pub bucket: String,
    /// Milvus's root path in it.
    pub root_path: RootPath,
}

/// Sums over a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Bytes of all its objects.
    pub size_bytes: u64,
    /// Bytes that it stored anew.
    pub added_bytes: u64,
    /// Bytes that were there already, of objects that its base doesn't have.
    #[serde(default)]
    pub found_bytes: u64,
    /// How many objects.
    pub objects: u64,
    /// How many collections.
    pub collections: u64,
    /// Their entities.
    pub entities: u64,
    /// How many of the collections were counted exactly; the counts of the others are upper bounds.
    #[serde(default)]
    pub counted_exactly: u64,
}

impl Totals {
    /// Whether `entities` is exact.
    pub fn is_counted_exactly(&self) -> bool {
        self.counted_exactly == self.collections
    }

    /// What kind of count `entities` is.
    pub fn entities_are(&self) -> CountKind {
        if self.is_counted_exactly() { CountKind::Exact } else { CountKind::AtMost }
    }
}

/// What the catalog knows of a finished snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// When work on it began.
    pub started_at: Time,
    /// When it became AVAILABLE.
    pub completed_at: Time,
    /// Everything written before it is in the snapshot: the earliest of its collections' points in time.
    pub point_in_time: Time,
    /// Sums over it.
    pub totals: Totals,
    /// Whether it has everything that was asked for.
    #[serde(default)]
    pub completeness: Completeness,
    /// See [`Manifest::captured_as`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_as: Option<Principal>,
}

impl Snapshot {
    /// Whether nothing is missing; `None` for a snapshot of before it was recorded who captured it, because that user
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
    /// Everything that was there at its point in time.
    #[default]
    Complete,
    /// Something is missing, or may be.
    Incomplete {
        /// Why, for people: the first few reasons.
        reasons: Vec<String>,
    },
}

impl Completeness {
    /// How many reasons are kept in a record; the manifest, or the ledger, has them all.
    const SHOWN: usize = 5;

    /// The completeness of a snapshot that left these out, captured as this principal.
    pub fn of(left_out: &[LeftOut], principal: Option<&Principal>) -> Self {
        let limited = principal.and_then(|principal| match &principal.visibility {
            Visibility::Everything => None,
            Visibility::Unsure { reason } => Some(reason.clone()),
        });
        let missed = left_out.iter().filter(|left_out| left_out.cause == LeftOutCause::Trouble);
        let missed = missed.map(|left_out| format!("{}: {}", left_out.collection, left_out.reason));
        Self::lacking(limited, missed, "backup")
    }

    /// The completeness of a restore that gave these collections up, each with its reason.
    pub fn of_restore(given_up: impl Iterator<Item = String>) -> Self {
        Self::lacking(None, given_up, "restore")
    }

    /// Without the collections of these reasons, which describing the `whole` names.
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

/// As whom a server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// The user's name; `None` where the server asks for no credentials, or they are a token without a name.
    pub user: Option<String>,
    /// Whether that user sees every collection.
    pub visibility: Visibility,
}

/// What a principal sees: with authorization on, Milvus lists only what a user has privileges for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sees", rename_all = "camelCase")]
pub enum Visibility {
    /// Every database and collection.
    Everything,
    /// Perhaps not everything.
    Unsure {
        /// Why, for people.
        reason: String,
    },
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseCapture {
    /// Its name.
    pub name: String,
    /// Its properties, where the server has such.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<(String, String)>,
}

/// Something that was there and isn't in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// What.
    pub collection: CollectionName,
    /// Its id. Snapshots made before this was recorded don't have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Why, for people.
    pub reason: String,
    /// Why, for us.
    #[serde(default)]
    pub cause: LeftOutCause,
    /// Of trouble: what a backup that asked for it by name would have failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FailureCode>,
}

/// Why a collection isn't in a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeftOutCause {
    /// A restore made it, or keeps it for a rollback: it isn't the user's.
    #[default]
    Restores,
    /// It was dropped before its point in time: nothing of it is missing.
    Dropped,
    /// It was there and couldn't be captured: the snapshot is incomplete.
    Trouble,
}

/// The property of a collection whose rows are hidden from queries after so many seconds.
pub const TIME_TO_LIVE: &str = "collection.ttl.seconds";

/// A collection at its point in time: everything needed to rebuild it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionCapture {
    /// Its name.
    pub name: CollectionName,
    /// Its id in the source, which its objects' keys carry.
    pub id: i64,
    /// The schema as Milvus's protocol encodes it (`schema.CollectionSchema`), in base64, so that nothing of it that we
    /// have no word for is lost.
    pub schema: String,
    /// Of the schema: the primary key's field.
    pub primary_key: String,
    /// Of the schema: the fields that are stored, hidden ones included. Empty in backups of before they were recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldCapture>,
    /// Shards.
    pub shards: i32,
    /// As Milvus's protocol numbers it.
    pub consistency_level: i32,
    /// The collection's properties, such as its time to live.
    pub properties: Vec<(String, String)>,
    /// Its partitions, with the ids that its objects' keys carry.
    pub partitions: Vec<PartitionCapture>,
    /// Whether Milvus spreads the rows over the partitions by a key: then the partitions are made by their number.
    pub has_partition_key: bool,
    /// Its indexes.
    pub indexes: Vec<IndexCapture>,
    /// Its aliases.
    pub aliases: Vec<String>,
    /// Whether and how it was loaded.
    pub loaded: Loaded,
    /// The hybrid timestamp of its flush: rows up to it are in the snapshot, later ones aren't.
    pub flush_timestamp: u64,
    /// The same as a time.
    pub point_in_time: Time,
    /// How many rows it has.
    pub rows: RowCount,
    /// Some of its primary keys, where they could be asked for at the point in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sample: Vec<PrimaryKey>,
    /// Bytes of its objects.
    pub size_bytes: u64,
    /// How many of its objects are delta logs, which hold deletes; `None` in backups of before they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta_logs: Option<u64>,
    /// The segments that hold its rows.
    pub segments: Vec<SegmentCapture>,
}

/// A field of a schema that has logs of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldCapture {
    /// Its id, which its logs' keys carry in storage version 1.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Whether segments may have no logs of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub presence: FieldPresence,
}

/// Whether every segment has logs of a field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FieldPresence {
    /// Every segment has.
    #[default]
    Always,
    /// Segments that were flushed before the field was added have none.
    SinceAdded,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionCapture {
    /// Its name.
    pub name: String,
    /// Its id in the source.
    pub id: i64,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexCapture {
    /// Its name.
    pub name: String,
    /// The field it is on.
    pub field: String,
    /// Type, metric and parameters.
    pub params: Vec<(String, String)>,
}

/// A row's primary key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PrimaryKey {
    /// Of a field of type Int64.
    Int(i64),
    /// Of a field of type VarChar.
    Text(String),
}

/// Whether a collection was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Loaded {
    /// Not at all.
    No,
    /// With this many replicas of everything.
    Whole {
        /// At least 1.
        replicas: i32,
    },
    /// Only these partitions.
    Partitions {
        /// At least 1.
        replicas: i32,
        /// By name.
        names: Vec<String>,
    },
}

/// A segment: rows of one partition, or deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentCapture {
    /// Its id in the source.
    pub id: i64,
    /// Its partition's id in the source; -1 for deletes in all partitions.
    pub partition_id: i64,
    /// Rows in it, deleted ones included; 0 for deletes.
    pub rows: u64,
    /// What it holds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub level: SegmentLevel,
    /// How its logs are laid out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage: StorageVersion,
    /// When its rows were written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub written: Written,
    /// The delta logs that it had when it was captured, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delta_logs: Vec<i64>,
}

/// When a segment's rows were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Written {
    /// Some of them, or all, before the point in time.
    #[default]
    Before,
    /// That isn't known: it may be one that was made later.
    Unknown,
}

/// What a segment holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SegmentLevel {
    /// Rows, in insert logs, and deletes of them, in delta logs.
    #[default]
    Data,
    /// Deletes only, in delta logs, of rows in other segments.
    L0,
}

/// How the logs of a segment are laid out, as Milvus numbers it. Segments of several versions can be in one
/// collection, after an upgrade.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub enum StorageVersion {
    /// One folder of insert logs for each field.
    #[default]
    V1,
    /// One folder for each group of columns.
    V2,
    /// Another one; from 3 on, the logs alone can't be imported.
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

/// How many rows a collection has, and how well that is known.
///
/// Milvus counts exactly only what is loaded, and only at the present: with writes going on, or for a collection that
/// isn't loaded, the rows in its segments are an upper bound, because deletes are in logs of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "known", rename_all = "camelCase")]
pub enum RowCount {
    /// Exactly so many.
    Exactly {
        /// Rows.
        rows: u64,
    },
    /// So many or fewer.
    AtMost {
        /// Rows.
        rows: u64,
    },
}

/// What kind of count a number of rows is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CountKind {
    /// The number itself.
    Exact,
    /// An upper bound.
    #[default]
    AtMost,
}

impl RowCount {
    /// The number to show.
    pub fn rows(self) -> u64 {
        match self {
            Self::Exactly { rows } | Self::AtMost { rows } => rows,
        }
    }

    /// What kind of count it is.
    pub fn kind(self) -> CountKind {
        match self {
            Self::Exactly { .. } => CountKind::Exact,
            Self::AtMost { .. } => CountKind::AtMost,
        }
    }

    /// Whether a rebuilt collection with `found` rows can be the one counted.
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
