//! The Milvus operations that backup and restore need.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use milvault_model::{
    CollectionCapture, CollectionName, FieldCapture, Grant, IndexCapture, Instance, Loaded, PartitionCapture,
    PrimaryKey, Principal, SegmentLevel, StorageVersion, Time,
};
use serde::{Deserialize, Serialize};

/// A collection's definition and state, without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionDescription {
    /// The collection's id.
    pub id: i64,
    /// The collection's name, even if it was described under an alias.
    pub name: CollectionName,
    /// The schema as the protocol encodes it.
    pub schema: Vec<u8>,
    /// The primary key's field.
    pub primary_key: String,
    /// The stored fields, including hidden ones, except the row id and the timestamp.
    pub fields: Vec<FieldCapture>,
    /// The number of shards.
    pub shards: i32,
    /// The consistency level, as the protocol numbers it.
    pub consistency_level: i32,
    /// The collection's properties.
    pub properties: Vec<(String, String)>,
    /// The collection's partitions.
    pub partitions: Vec<PartitionCapture>,
    /// Whether rows are spread over the partitions by a key.
    pub has_partition_key: bool,
    /// The collection's indexes.
    pub indexes: Vec<IndexCapture>,
    /// The collection's aliases.
    pub aliases: Vec<String>,
    /// Whether and how it is loaded.
    pub loaded: Loaded,
}

/// A persistent segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The segment's id.
    pub id: i64,
    /// The collection's id.
    pub collection_id: i64,
    /// The partition's id; -1 for deletes in all partitions.
    pub partition_id: i64,
    /// The number of rows, including deleted ones.
    pub rows: u64,
    /// Whether all of it is in object storage.
    pub is_flushed: bool,
    /// Whether a compaction made the segment and sorted its rows; always `false` before 2.5, which doesn't report it.
    pub is_sorted: bool,
    /// What the segment holds.
    pub level: SegmentLevel,
    /// How the segment's logs are laid out.
    pub storage: StorageVersion,
}

/// The logs of a segment, according to the server's metadata. Other files in its folders are left over from retried
/// writes; importing them too would load rows twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFiles {
    /// The segment's id.
    pub segment: i64,
    /// Insert logs: `{root}/insert_log/{collection}/{partition}/{segment}/{folder}/{log}`, where the folder is a field
    /// or, in storage v2, a group of columns.
    pub insert_logs: Vec<InsertLog>,
    /// Delta logs: `{root}/delta_log/{collection}/{partition}/{segment}/{log}`.
    pub delta_logs: Vec<i64>,
}

/// The position of an insert log in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InsertLog {
    /// The field's id, or the id of the group of columns.
    pub folder: i64,
    /// The log's id.
    pub log: i64,
}

/// What to do if the server limits the rate of flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRateLimit {
    /// Wait for up to two minutes until the flush is accepted.
    Wait,
    /// Give up with [`MilvusError::RateLimited`].
    GiveUp,
}

/// The result of asking the server to hold its garbage collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "garbage", rename_all = "camelCase")]
pub enum GarbageHold {
    /// Garbage collection is held until the requested time is over or the hold is passed to
    /// [`Milvus::release_garbage`].
    Held {
        /// The hold's ticket, from servers that issue one (2.6.8). Without it, the hold can't be ended early.
        ticket: Option<String>,
    },
    /// The server offers no hold, or not to this user.
    NotOffered,
}

/// The result of a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushResult {
    /// The flush's hybrid timestamp: every row up to it is in [`Milvus::segments`] once the flush is over.
    pub timestamp: u64,
    /// The segments that this flush sealed. A segment that isn't listed afterwards was empty, or has been compacted
    /// into another.
    pub sealed: Vec<i64>,
    /// The segments that were flushed before. Some servers name segments here that they never list.
    pub flushed: Vec<i64>,
}

impl FlushResult {
    /// Every segment that the flush names.
    pub fn named(&self) -> impl Iterator<Item = i64> {
        self.sealed.iter().chain(&self.flushed).copied()
    }
}

/// An import job to start.
#[derive(Debug, Clone)]
pub struct ImportRequest<'a> {
    /// The collection to import into.
    pub collection: &'a CollectionName,
    /// The partition to import into.
    pub partition: &'a str,
    /// The data to import.
    pub data: ImportData<'a>,
    /// The hybrid timestamp after which rows are cut off.
    pub end_timestamp: u64,
}

/// The import jobs of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportTasks {
    /// The jobs' ids.
    Named(Vec<i64>),
    /// The server doesn't report the ids.
    Unnamed,
}

/// The data of an import, in the instance's own bucket: segments of one partition and one storage version.
#[derive(Debug, Clone, Copy)]
pub struct ImportData<'a> {
    /// The insert logs' prefix, ending in a slash.
    pub insert_prefix: &'a str,
    /// The delta logs' prefix, ending in a slash; it may have no objects. Every delete below it, including those of L0
    /// segments, is applied to the rows, except deletes after the end timestamp.
    pub delta_prefix: &'a str,
    /// How the logs are laid out.
    pub storage: StorageVersion,
}

/// The progress of an operation that the server does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It is complete.
    Done,
    /// It isn't complete yet; the number changes when it makes progress.
    At(u64),
}

/// The state of an import job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportStatus {
    /// The job waits for its turn.
    Waiting,
    /// The job is running.
    Running {
        /// A number that changes whenever the server reports progress.
        progress: u64,
    },
    /// The job is complete.
    Completed {
        /// The number of imported rows, without deleted ones.
        rows: u64,
    },
    /// The job failed, for this reason.
    Failed(String),
}

/// The reason why a call to Milvus failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MilvusError {
    /// No connection, no answer in time, or a server that isn't ready. A retry may succeed. The call may have taken
    /// effect.
    #[error("Milvus doesn't answer: {0}")]
    Unreachable(String),
    /// The server answers, but not about this collection at present. A retry may succeed. The call may have taken
    /// effect.
    #[error("Milvus isn't ready: {0}")]
    NotReady(String),
    /// The server limits the rate of such calls. A retry may succeed after a while. Nothing was done.
    #[error("Milvus limits the rate of such calls: {0}")]
    RateLimited(String),
    /// The collection doesn't exist, and isn't listed.
    #[error("Milvus has no collection {0}")]
    NoCollection(CollectionName),
    /// The credentials are missing or wrong.
    #[error("Milvus refuses the credentials: {0}")]
    Unauthenticated(String),
    /// The user is known, but isn't allowed to make this call.
    #[error("Milvus doesn't allow it: {0}")]
    Forbidden(String),
    /// Any other refusal, in the server's words.
    #[error("Milvus refused: {0}")]
    Refused(String),
}

impl MilvusError {
    /// Whether the server refuses the call, in general or for this user, so that a retry is useless.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Forbidden(_))
    }
}

/// Connects to registered instances.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Returns a connection, which is opened on its first use.
    ///
    /// # Errors
    /// The endpoint is malformed, or the credentials can't be read.
    async fn connect(&self, instance: &Instance) -> Result<Arc<dyn Milvus>, MilvusError>;
}

/// A Milvus server.
#[async_trait]
pub trait Milvus: Send + Sync {
    /// The version that the server reports.
    async fn version(&self) -> Result<String, MilvusError>;

    /// The time of the server's own clock; `None` if the server doesn't report it.
    async fn clock(&self) -> Result<Option<Time>, MilvusError> {
        Ok(None)
    }

    /// The user that the server answers as, and whether that user sees every collection.
    async fn principal(&self) -> Result<Principal, MilvusError>;

    /// The names of the databases.
    async fn databases(&self) -> Result<Vec<String>, MilvusError>;

    /// A database's properties; none before 2.4.3, or if the database doesn't exist. Reading them needs a privilege
    /// that reading the data doesn't need; without it, the error is [`MilvusError::Forbidden`].
    async fn database_properties(&self, database: &str) -> Result<Vec<(String, String)>, MilvusError>;

    /// Creates a database with these properties. An existing database is left as it is.
    async fn ensure_database(&self, database: &str, properties: &[(String, String)]) -> Result<(), MilvusError>;

    /// The server's users, roles, privilege groups and grants, encoded; `None` before 2.4.10.
    async fn access_control(&self) -> Result<Option<String>, MilvusError>;

    /// Restores the entries of [`Milvus::access_control`] that don't exist, and returns their names.
    async fn restore_access_control(&self, captured: &str) -> Result<Vec<String>, MilvusError>;

    /// The grants in the captured result of [`Milvus::access_control`].
    fn captured_grants(&self, captured: &str) -> Result<Vec<Grant>, MilvusError>;

    /// The names of the roles. Reading them and their grants needs a privilege that reading the data doesn't need;
    /// without it, the error is [`MilvusError::Forbidden`].
    async fn roles(&self) -> Result<Vec<String>, MilvusError>;

    /// A role's grants in a database, or, from 2.4 on, in any database (`*`). Grants in all databases are included.
    async fn grants(&self, role: &str, database: &str) -> Result<Vec<Grant>, MilvusError>;

    /// Grants a privilege to a role, whether or not the object exists. An existing grant is left as it is.
    async fn grant(&self, grant: &Grant) -> Result<(), MilvusError>;

    /// The names and ids of a database's collections, by name; none if the database doesn't exist.
    async fn collections(&self, database: &str) -> Result<Vec<(String, i64)>, MilvusError>;

    /// The id of the collection with exactly this name, ignoring aliases; `None` if there is none.
    ///
    /// # Errors
    /// [`MilvusError::NotReady`] while the server lists the name and doesn't find the collection: 2.3.5 answers so after a
    /// start. This holds for each call that takes a name and may answer with [`MilvusError::NoCollection`].
    async fn collection_id(&self, name: &CollectionName) -> Result<Option<i64>, MilvusError>;

    /// Describes the collection that has this name now. The whole description is of one collection.
    async fn describe(&self, name: &CollectionName) -> Result<CollectionDescription, MilvusError>;

    /// Seals the growing segments. The flush is over once [`Milvus::is_flushed`] says so.
    async fn flush(&self, name: &CollectionName, on_limit: OnRateLimit) -> Result<FlushResult, MilvusError>;

    /// Whether a flush is over: all rows and deletes up to its timestamp are in object storage.
    async fn is_flushed(&self, name: &CollectionName, flush: &FlushResult) -> Result<bool, MilvusError>;

    /// The persistent segments, including L0 segments, except dropped ones.
    async fn segments(&self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError>;

    /// The logs of these segments of the collection with this id, according to the metadata; `None` if the server can't
    /// return them, or not to this user (before 2.5.8, or without its REST API).
    ///
    /// A segment that the server no longer knows, because it was compacted since, isn't in the result. Its logs stay in
    /// object storage until garbage is collected, and only a listing finds them.
    async fn segment_files(
        &self,
        database: &str,
        collection_id: i64,
        segments: &[i64],
    ) -> Result<Option<Vec<SegmentFiles>>, MilvusError>;

    /// Asks the server to keep the files of dropped segments for this long (whole seconds). To extend a hold, make
    /// another one and then release the earlier one: where holds have tickets, the longest of them counts, and a server
    /// accepts 64 of them.
    async fn hold_garbage(&self, duration: Duration) -> Result<GarbageHold, MilvusError>;

    /// Ends a hold before its time. Where holds have no tickets, this ends all holds, including those of others.
    async fn release_garbage(&self, hold: &GarbageHold) -> Result<(), MilvusError>;

    /// The number of rows that a strongly consistent query finds now. The collection must be loaded.
    async fn count(&self, name: &CollectionName) -> Result<u64, MilvusError>;

    /// At most `limit` primary keys that a strongly consistent query finds now. The collection must be loaded.
    async fn some_keys(&self, name: &CollectionName, limit: usize) -> Result<Vec<PrimaryKey>, MilvusError>;

    /// Those of these primary keys that a strongly consistent query finds now. The collection must be loaded.
    async fn find_keys(&self, name: &CollectionName, keys: &[PrimaryKey]) -> Result<Vec<PrimaryKey>, MilvusError>;

    /// Creates an empty collection with the captured collection's definition and partitions, but without its indexes.
    async fn create(&self, name: &CollectionName, capture: &CollectionCapture) -> Result<(), MilvusError>;

    /// Creates an index. An existing identical index is left as it is.
    async fn ensure_index(&self, name: &CollectionName, index: &IndexCapture) -> Result<(), MilvusError>;

    /// Replaces some of a collection's properties.
    async fn set_properties(&self, name: &CollectionName, properties: &[(String, String)]) -> Result<(), MilvusError>;

    /// The progress of the indexes, which is complete when each covers all rows.
    async fn indexing(&self, name: &CollectionName) -> Result<Pace, MilvusError>;

    /// Starts an import job of data captured from Milvus and returns its id.
    async fn import(&self, request: ImportRequest<'_>) -> Result<i64, MilvusError>;

    /// The import jobs of a collection that the server knows, including finished ones.
    async fn import_tasks(&self, collection: &CollectionName) -> Result<ImportTasks, MilvusError>;

    /// The state of an import job.
    async fn import_status(&self, task: i64) -> Result<ImportStatus, MilvusError>;

    /// Begins to load a collection; [`Loaded::No`] does nothing. A collection that is loaded already is left as it is.
    async fn load(&self, name: &CollectionName, how: &Loaded) -> Result<(), MilvusError>;

    /// The progress of loading, which is complete when the last row is loaded.
    async fn loading(&self, name: &CollectionName) -> Result<Pace, MilvusError>;

    /// Releases a collection from memory. Does nothing if it isn't loaded.
    async fn release(&self, name: &CollectionName) -> Result<(), MilvusError>;

    /// Renames a collection within its database. The new name must be free.
    async fn rename(&self, from: &CollectionName, to: &str) -> Result<(), MilvusError>;

    /// Drops a collection. Does nothing if it doesn't exist.
    async fn drop_collection(&self, name: &CollectionName) -> Result<(), MilvusError>;

    /// The collection that an alias refers to; `None` if the alias doesn't exist.
    async fn alias_target(&self, database: &str, alias: &str) -> Result<Option<String>, MilvusError>;

    /// Makes an alias refer to this collection, whatever it referred to before.
    async fn point_alias(&self, alias: &str, at: &CollectionName) -> Result<(), MilvusError>;

    /// Removes an alias. Does nothing if it doesn't exist.
    async fn drop_alias(&self, database: &str, alias: &str) -> Result<(), MilvusError>;
}
