//! The state of the fake server.

mod changes;
mod collection;
mod event;
pub(crate) mod job;
mod log;
mod segment;
mod segments;
mod timers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use milvault_ports::{Bucket, Objects};
use milvus::proto::common::KeyValuePair;

use crate::{Faults, Line, users::Users};

pub(crate) use collection::{Collection, FIRST_FIELD, Index};
pub(crate) use event::{Event, is_deleted, latest};
use job::Import;
pub(crate) use log::Log;
pub(crate) use segment::{Place, Segment};

/// Where the fake keeps its logs.
#[derive(Clone)]
pub struct DataBucket {
    /// The object storage.
    pub objects: Arc<dyn Objects>,
    /// The bucket in it.
    pub bucket: Bucket,
    /// The root path, as it is configured.
    pub root: String,
}

impl DataBucket {
    /// The whole key of one below the root path: slashes in front are taken away (`NewRemoteChunkManager` in
    /// `internal/storage/remote_chunk_manager.go`), then the two are joined as Go's `path.Join` does.
    fn key(&self, below: &str) -> String {
        let parts = self.root.split('/').chain(below.split('/')).filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join("/")
    }
}

pub(crate) struct State {
    pub(crate) line: Line,
    pub(crate) data: DataBucket,
    pub(crate) faults: Faults,
    pub(crate) databases: BTreeMap<String, BTreeMap<String, Collection>>,
    pub(crate) database_properties: BTreeMap<String, Vec<KeyValuePair>>,
    pub(crate) users: Users,
    /// Aliases of dropped collections, by database.
    pub(crate) dangling: BTreeSet<(String, String)>,
    pub(crate) imports: BTreeMap<i64, Import>,
    /// The imports that were refused because the server had as many as it takes.
    pub(crate) imports_refused: u32,
    /// The tickets of the holds; "" for a hold without a ticket.
    pub(crate) holds: BTreeSet<String>,
    pub(crate) flushes: u32,
    last_id: i64,
    last_timestamp: u64,
}

impl State {
    pub(crate) fn new(line: Line, data: DataBucket) -> Self {
        let databases = BTreeMap::from([("default".to_owned(), BTreeMap::new())]);
        Self {
            line,
            data,
            faults: Faults::default(),
            databases,
            database_properties: BTreeMap::new(),
            users: Users::default(),
            dangling: BTreeSet::new(),
            imports: BTreeMap::new(),
            imports_refused: 0,
            holds: BTreeSet::new(),
            flushes: 0,
            last_id: 449_000_000_000,
            last_timestamp: 0,
        }
    }

    pub(crate) fn id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    /// A hybrid timestamp: milliseconds above 18 bits of a logical clock, each later than the one before. In 2.3 each is of
    /// a later millisecond, because that line tells no finer times apart in an import.
    pub(crate) fn timestamp(&mut self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_millis()).unwrap_or_default() << 18;
        let next = match self.line {
            Line::V2_3 => ((self.last_timestamp >> 18) + 1) << 18,
            _ => self.last_timestamp + 1,
        };
        self.last_timestamp = now.max(next);
        self.last_timestamp
    }

    /// The collection name that this name or alias stands for.
    pub(crate) fn resolve(&self, database: &str, name: &str) -> Option<String> {
        if self.dangling.contains(&(database.to_owned(), name.to_owned())) {
            return None;
        }
        let collections = self.databases.get(database)?;
        if collections.contains_key(name) {
            return Some(name.to_owned());
        }
        collections.iter().find(|(_, collection)| collection.aliases.contains(name)).map(|(name, _)| name.clone())
    }

    pub(crate) fn collection(&mut self, database: &str, name: &str) -> Option<&mut Collection> {
        let name = self.resolve(database, name)?;
        self.databases.get_mut(database)?.get_mut(&name)
    }
}
