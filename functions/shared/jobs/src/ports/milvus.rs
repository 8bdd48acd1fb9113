//! Milvus, as far as backup and restore need it.

use std::sync::Arc;

use async_trait::async_trait;
use milvault_model::{CollectionCapture, CollectionName, IndexCapture, Instance, Loaded, PartitionCapture};

/// Everything about a collection but its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionDescription {
    /// Its id.
    pub id: i64,
    /// Its name; for an alias, that of the collection it stands for.
    pub name: CollectionName,
    /// The schema as the protocol encodes it.
    pub schema: Vec<u8>,
    /// The primary key's field.
    pub primary_key: String,
    /// Shards.
    pub shards: i32,
    /// As the protocol numbers it.
    pub consistency_level: i32,
    /// The collection's properties.
    pub properties: Vec<(String, String)>,
    /// Its partitions.
    pub partitions: Vec<PartitionCapture>,
    /// Whether rows are spread over the partitions by a key.
    pub has_partition_key: bool,
    /// Its indexes.
    pub indexes: Vec<IndexCapture>,
    /// Its aliases.
    pub aliases: Vec<String>,
    /// Whether and how it is loaded.
    pub loaded: Loaded,
}

/// A persistent segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its id.
    pub id: i64,
    /// Its partition's id.
    pub partition_id: i64,
    /// Rows in it, deleted ones included.
    pub rows: u64,
    /// Whether all of it is in object storage.
    pub is_flushed: bool,
}

/// What a flush did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushResult {
    /// The hybrid timestamp: rows up to it are in `segments`.
    pub timestamp: u64,
    /// The segments that hold the collection's rows up to then. One that isn't in [`Milvus::segments`] afterwards was
    /// empty, or has been compacted into a newer one meanwhile.
    pub segments: Vec<i64>,
}

/// An import job to start.
#[derive(Debug, Clone)]
pub struct ImportRequest<'a> {
    /// Into which collection.
    pub collection: &'a CollectionName,
    /// Into which partition.
    pub partition: &'a str,
    /// The insert logs' prefix in the instance's own bucket, ending in a slash.
    pub insert_prefix: &'a str,
    /// The delta logs' prefix, ending in a slash; there may be none below it.
    pub delta_prefix: &'a str,
    /// The hybrid timestamp after which rows are cut off.
    pub end_timestamp: u64,
}

/// How an import job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportStatus {
    /// Waiting for its turn.
    Waiting,
    /// At work.
    Running {
        /// Changes whenever the server reports that it got further.
        progress: u64,
    },
    /// Done, with this many rows.
    Completed {
        /// Rows, deleted ones not counted.
        rows: u64,
    },
    /// Failed for this reason.
    Failed(String),
}

/// Why Milvus didn't do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MilvusError {
    /// No connection, no answer in time, or a server that isn't ready: worth trying again. The call may have taken
    /// effect.
    #[error("Milvus doesn't answer: {0}")]
    Unreachable(String),
    /// No such collection.
    #[error("Milvus has no collection {0}")]
    NoCollection(CollectionName),
    /// The credentials are missing or wrong.
    #[error("Milvus refuses the credentials: {0}")]
    Unauthenticated(String),
    /// Any other refusal, in the server's words.
    #[error("Milvus refused: {0}")]
    Refused(String),
}

/// Connects to registered instances.
#[async_trait]
pub trait Connector: Send + Sync {
    /// A connection that is made when it is used first.
    ///
    /// # Errors
    /// When the endpoint can't be understood or the credentials not be read.
    async fn connect(&self, instance: &Instance) -> Result<Arc<dyn Milvus>, MilvusError>;
}

/// A Milvus server.
#[async_trait]
pub trait Milvus: Send + Sync {
    /// The version that it reports.
    async fn version(&self) -> Result<String, MilvusError>;

    /// The databases' names.
    async fn databases(&self) -> Result<Vec<String>, MilvusError>;

    /// Makes a database; one that exists is fine.
    async fn ensure_database(&self, database: &str) -> Result<(), MilvusError>;

    /// The names and ids of a database's collections, by name.
    async fn collections(&self, database: &str) -> Result<Vec<(String, i64)>, MilvusError>;

    /// The id of the collection of this very name (not alias); `None` if there is none.
    async fn collection_id(&self, name: &CollectionName) -> Result<Option<i64>, MilvusError>;

    /// Everything about a collection.
    async fn describe(&self, name: &CollectionName) -> Result<CollectionDescription, MilvusError>;

    /// Seals what is growing and waits until it is in object storage.
    async fn flush(&self, name: &CollectionName) -> Result<FlushResult, MilvusError>;

    /// The persistent segments, those of dropped rows excepted.
    async fn segments(&self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError>;

    /// Rows that a strongly consistent query sees now. The collection must be loaded.
    async fn count(&self, name: &CollectionName) -> Result<u64, MilvusError>;

    /// Makes an empty collection of this name after a captured one, with its partitions, but without its indexes.
    async fn create(&self, name: &CollectionName, capture: &CollectionCapture) -> Result<(), MilvusError>;

    /// Makes an index; the same one that exists is fine.
    async fn ensure_index(&self, name: &CollectionName, index: &IndexCapture) -> Result<(), MilvusError>;

    /// Whether every index covers all rows.
    async fn indexes_are_built(&self, name: &CollectionName) -> Result<bool, MilvusError>;

    /// Starts an import job of data captured from Milvus and gives its id.
    async fn import(&self, request: ImportRequest<'_>) -> Result<i64, MilvusError>;

    /// The ids of the import jobs into a collection that the server knows of, finished ones included.
    async fn import_tasks(&self, collection: &CollectionName) -> Result<Vec<i64>, MilvusError>;

    /// How an import job stands.
    async fn import_status(&self, task: i64) -> Result<ImportStatus, MilvusError>;

    /// Begins to load; [`Loaded::No`] does nothing. Loading what is loaded is fine.
    async fn load(&self, name: &CollectionName, how: &Loaded) -> Result<(), MilvusError>;

    /// Whether it is loaded to the last row.
    async fn is_loaded(&self, name: &CollectionName) -> Result<bool, MilvusError>;

    /// Frees what loading took; a collection that isn't loaded is fine.
    async fn release(&self, name: &CollectionName) -> Result<(), MilvusError>;

    /// Gives a collection another name in its database, which must be free.
    async fn rename(&self, from: &CollectionName, to: &str) -> Result<(), MilvusError>;

    /// Drops a collection; one that doesn't exist is fine.
    async fn drop_collection(&self, name: &CollectionName) -> Result<(), MilvusError>;

    /// The collection that an alias stands for, if the alias is in use.
    async fn alias_target(&self, database: &str, alias: &str) -> Result<Option<String>, MilvusError>;

    /// Makes an alias stand for this collection, whatever it stood for.
    async fn point_alias(&self, alias: &str, at: &CollectionName) -> Result<(), MilvusError>;

    /// Removes an alias; one that doesn't exist is fine.
    async fn drop_alias(&self, database: &str, alias: &str) -> Result<(), MilvusError>;
}
