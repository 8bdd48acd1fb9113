//! A captured collection: its schema, partitions, indexes and load state.

use serde::{Deserialize, Serialize};

use crate::{CollectionName, RowCount, SegmentCapture, Time};

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
    #[serde(default, skip_serializing_if = "super::skip::is_default")]
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
