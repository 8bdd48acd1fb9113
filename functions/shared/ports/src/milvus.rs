//! Milvus, as far as backup and restore need it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use milvault_model::{
    CollectionCapture, CollectionName, FieldCapture, Grant, IndexCapture, Instance, Loaded, PartitionCapture,
    PrimaryKey, Principal, SegmentLevel, StorageVersion, Time,
};
use serde::{Deserialize, Serialize};

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
    /// The fields that are stored, hidden ones included, but for the row id and the timestamp.
    pub fields: Vec<FieldCapture>,
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
    /// Its collection's id.
    pub collection_id: i64,
    /// Its partition's id; -1 for deletes in all partitions.
    pub partition_id: i64,
    /// Rows in it, deleted ones included.
    pub rows: u64,
    /// Whether all of it is in object storage.
    pub is_flushed: bool,
    /// Whether a compaction made it and sorted its rows; not told before 2.5.
    pub is_sorted: bool,
    /// What it holds.
    pub level: SegmentLevel,
    /// How its logs are laid out.
    pub storage: StorageVersion,
}

/// The logs of a segment, as the server's metadata has them. Anything else in its folders is left from writes that
/// were tried again: importing it too would load rows twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFiles {
    /// Of which segment.
    pub segment: i64,
    /// Insert logs: `{root}/insert_log/{collection}/{partition}/{segment}/{folder}/{log}`, where the folder is a field
    /// or, in storage v2, a group of columns.
    pub insert_logs: Vec<InsertLog>,
    /// Delta logs: `{root}/delta_log/{collection}/{partition}/{segment}/{log}`.
    pub delta_logs: Vec<i64>,
}

/// An insert log's place in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InsertLog {
    /// The field or group of columns.
    pub folder: i64,
    /// The log.
    pub log: i64,
}

/// What to do about a server that takes flushes only now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRateLimit {
    /// Wait for it, for up to two minutes.
    Wait,
    /// Do without the flush: [`MilvusError::RateLimited`].
    GiveUp,
}

/// How the server's garbage collection stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "garbage", rename_all = "camelCase")]
pub enum GarbageHold {
    /// It is held, until the time asked for is over or [`Milvus::release_garbage`] is given this.
    Held {
        /// The hold's own ticket, from servers that give one (2.6.8): without it, it can't be ended early.
        ticket: Option<String>,
    },
    /// The server can't be asked to hold it, or not by us.
    NotOffered,
}

/// What a flush did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushResult {
    /// The hybrid timestamp: every row up to it is in [`Milvus::segments`] once the flush is over.
    pub timestamp: u64,
    /// The segments that weren't flushed before it. One that isn't listed afterwards was empty, or has been compacted into
    /// another one.
    pub sealed: Vec<i64>,
    /// Segments that were flushed before; some servers name ones that they never list.
    pub flushed: Vec<i64>,
}

impl FlushResult {
    /// Every segment that it names.
    pub fn named(&self) -> impl Iterator<Item = i64> {
        self.sealed.iter().chain(&self.flushed).copied()
    }
}

/// An import job to start.
#[derive(Debug, Clone)]
pub struct ImportRequest<'a> {
    /// Into which collection.
    pub collection: &'a CollectionName,
    /// Into which partition.
    pub partition: &'a str,
    /// What of.
    pub data: ImportData<'a>,
    /// The hybrid timestamp after which rows are cut off.
    pub end_timestamp: u64,
}

/// A collection's import jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportTasks {
    /// Their ids.
    Named(Vec<i64>),
    /// The server doesn't tell them.
    Unnamed,
}

/// What an import reads, from the instance's own bucket: segments of one partition and one storage version.
#[derive(Debug, Clone, Copy)]
pub struct ImportData<'a> {
    /// The insert logs' prefix, ending in a slash.
    pub insert_prefix: &'a str,
    /// The delta logs' prefix, ending in a slash; there may be none below it. Every delete below it, of L0 segments
    /// too, is applied to the rows, but for those after the end.
    pub delta_prefix: &'a str,
    /// How the logs are laid out.
    pub storage: StorageVersion,
}

/// How far the server is with something that it does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// All of it is done.
    Done,
    /// Not yet; the number changes when it gets further.
    At(u64),
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
    /// The server answers, but not about this collection, for now: worth trying again. The call may have taken effect.
    #[error("Milvus isn't ready: {0}")]
    NotReady(String),
    /// The server takes such calls only now and then: worth trying again, after a while. Nothing was done.
    #[error("Milvus limits the rate of such calls: {0}")]
    RateLimited(String),
    /// No such collection.
    #[error("Milvus has no collection {0}")]
    NoCollection(CollectionName),
    /// The credentials are missing or wrong.
    #[error("Milvus refuses the credentials: {0}")]
    Unauthenticated(String),
    /// The user is known, and may not do this.
    #[error("Milvus doesn't allow it: {0}")]
    Forbidden(String),
    /// Any other refusal, in the server's words.
    #[error("Milvus refused: {0}")]
    Refused(String),
}

impl MilvusError {
    /// Whether the server won't do it, or not for this user: trying again is of no use.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Forbidden(_))
    }
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

    /// What time it is by the server's own clock; `None` if it doesn't tell.
    async fn clock(&self) -> Result<Option<Time>, MilvusError> {
        Ok(None)
    }

    /// As whom the server answers, and whether that user sees every collection.
    async fn principal(&self) -> Result<Principal, MilvusError>;

    /// The databases' names.
    async fn databases(&self) -> Result<Vec<String>, MilvusError>;

    /// A database's properties; none before 2.4.3, or if there is no such database. To ask for them takes a privilege
    /// that reading the data doesn't: [`MilvusError::Forbidden`] without it.
    async fn database_properties(&self, database: &str) -> Result<Vec<(String, String)>, MilvusError>;

    /// Makes a database with these properties; one that exists is left as it is.
    async fn ensure_database(&self, database: &str, properties: &[(String, String)]) -> Result<(), MilvusError>;

    /// The server's users, roles, privilege groups and grants, encoded; `None` before 2.4.10.
    async fn access_control(&self) -> Result<Option<String>, MilvusError>;

    /// Brings back those of [`Milvus::access_control`] that don't exist, and names them.
    async fn restore_access_control(&self, captured: &str) -> Result<Vec<String>, MilvusError>;

    /// The grants among what [`Milvus::access_control`] gave.
    fn captured_grants(&self, captured: &str) -> Result<Vec<Grant>, MilvusError>;

    /// The roles' names. To ask for them, and for their grants, takes a privilege that reading the data doesn't:
    /// [`MilvusError::Forbidden`] without it.
    async fn roles(&self) -> Result<Vec<String>, MilvusError>;

    /// What a role may do in a database, or, from 2.4 on, in any (`*`). What it may do in all databases is among it.
    async fn grants(&self, role: &str, database: &str) -> Result<Vec<Grant>, MilvusError>;

    /// Lets a role do this, be there such an object or not; what it may do already is fine.
    async fn grant(&self, grant: &Grant) -> Result<(), MilvusError>;

    /// The names and ids of a database's collections, by name; none of a database that isn't there.
    async fn collections(&self, database: &str) -> Result<Vec<(String, i64)>, MilvusError>;

    /// The id of the collection of this very name (not alias); `None` if there is none.
    async fn collection_id(&self, name: &CollectionName) -> Result<Option<i64>, MilvusError>;

    /// Everything about the collection that has this name now; all of it is of one collection.
    async fn describe(&self, name: &CollectionName) -> Result<CollectionDescription, MilvusError>;

    /// Seals what is growing. It is over once [`Milvus::is_flushed`].
    async fn flush(&self, name: &CollectionName, on_limit: OnRateLimit) -> Result<FlushResult, MilvusError>;

    /// Whether a flush is over: all rows and deletes up to its timestamp are in object storage.
    async fn is_flushed(&self, name: &CollectionName, flush: &FlushResult) -> Result<bool, MilvusError>;

    /// The persistent segments, L0 segments included, those of dropped rows excepted.
    async fn segments(&self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError>;

    /// The logs of these segments of the collection with this id, as the metadata has them; `None` if the server can't
    /// say, or not to us (before 2.5.8, or without its REST API).
    ///
    /// A segment that the server no longer knows, because it was compacted since, isn't in the answer: its logs are in
    /// object storage until garbage is collected, and only a listing tells them.
    async fn segment_files(
        &self,
        database: &str,
        collection_id: i64,
        segments: &[i64],
    ) -> Result<Option<Vec<SegmentFiles>>, MilvusError>;

    /// Has the server keep the files of dropped segments for so long (whole seconds). To hold it for longer, hold it
    /// again and then release the former hold: where holds have tickets, the longest of them counts, and a server takes
    /// 64 of them.
    async fn hold_garbage(&self, duration: Duration) -> Result<GarbageHold, MilvusError>;

    /// Ends a hold before its time. Where holds have no tickets, it ends everybody's.
    async fn release_garbage(&self, hold: &GarbageHold) -> Result<(), MilvusError>;

    /// Rows that a strongly consistent query sees now. The collection must be loaded.
    async fn count(&self, name: &CollectionName) -> Result<u64, MilvusError>;

    /// Some primary keys that a strongly consistent query finds now, at most so many. The collection must be loaded.
    async fn some_keys(&self, name: &CollectionName, limit: usize) -> Result<Vec<PrimaryKey>, MilvusError>;

    /// Which of these primary keys a strongly consistent query finds now. The collection must be loaded.
    async fn find_keys(&self, name: &CollectionName, keys: &[PrimaryKey]) -> Result<Vec<PrimaryKey>, MilvusError>;

    /// Makes an empty collection of this name after a captured one, with its partitions, but without its indexes.
    async fn create(&self, name: &CollectionName, capture: &CollectionCapture) -> Result<(), MilvusError>;

    /// Makes an index; the same one that exists is fine.
    async fn ensure_index(&self, name: &CollectionName, index: &IndexCapture) -> Result<(), MilvusError>;

    /// Replaces some of a collection's properties.
    async fn set_properties(&self, name: &CollectionName, properties: &[(String, String)]) -> Result<(), MilvusError>;

    /// How far the indexes are: done when each covers all rows.
    async fn indexing(&self, name: &CollectionName) -> Result<Pace, MilvusError>;

    /// Starts an import job of data captured from Milvus and gives its id.
    async fn import(&self, request: ImportRequest<'_>) -> Result<i64, MilvusError>;

    /// The import jobs into a collection that the server knows of, finished ones included.
    async fn import_tasks(&self, collection: &CollectionName) -> Result<ImportTasks, MilvusError>;

    /// How an import job stands.
    async fn import_status(&self, task: i64) -> Result<ImportStatus, MilvusError>;

    /// Begins to load; [`Loaded::No`] does nothing. Loading what is loaded is fine.
    async fn load(&self, name: &CollectionName, how: &Loaded) -> Result<(), MilvusError>;

    /// How far loading is: done when it is loaded to the last row.
    async fn loading(&self, name: &CollectionName) -> Result<Pace, MilvusError>;

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
