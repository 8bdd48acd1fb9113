//! What the fake server knows and stores.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Instant, SystemTime},
};

use milvault_memory::binlog::{self, Column, Nullability, Of};
use milvault_ports::{Bucket, Objects, PutMode};
use milvus::proto::{
    common::{KeyValuePair, SegmentLevel, SegmentState},
    schema::{CollectionSchema, DataType, FieldSchema},
};
use serde::{Deserialize, Serialize};

use crate::{Change, Faults, Line, Loading, import::Import, pace::Timers, service, users::Users};

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
    /// Imports that were refused because there were as many as the server takes.
    pub(crate) imports_refused: u32,
    /// The tickets of the holds; one is "" where there are none.
    pub(crate) holds: BTreeSet<String>,
    pub(crate) flushes: u32,
    last_id: i64,
    last_timestamp: u64,
}

pub(crate) struct Collection {
    pub(crate) id: i64,
    pub(crate) schema: CollectionSchema,
    /// The id of the dynamic field, which the schema doesn't show.
    pub(crate) dynamic: Option<i64>,
    pub(crate) partitions: Vec<(String, i64)>,
    pub(crate) aliases: BTreeSet<String>,
    /// Those that a description has from its cache, since there is one.
    pub(crate) cached_aliases: Option<BTreeSet<String>>,
    pub(crate) indexes: Vec<Index>,
    pub(crate) is_loaded: bool,
    pub(crate) properties: Vec<KeyValuePair>,
    pub(crate) consistency_level: i32,
    pub(crate) shards: i32,
    pub(crate) segments: Vec<Segment>,
    /// Rows that aren't in a segment in storage yet, by partition.
    growing: BTreeMap<i64, Vec<Event>>,
    /// Deletes that aren't in storage yet, by partition or -1.
    buffered: BTreeMap<i64, Vec<Event>>,
    /// All deletes there ever were.
    deletes: Vec<Event>,
    /// All rows that were ever inserted, by partition.
    inserts: Vec<(i64, Event)>,
    pub(crate) timers: Timers,
    pub(crate) flushed_at: Option<Instant>,
    /// What a query found at the last flush, by partition.
    pub(crate) rows_at_flush: BTreeMap<String, BTreeSet<i64>>,
    /// Whether a flush has been over since the last listing.
    pub(crate) flushed_since_listing: bool,
    /// Segments that the last flush sealed and that aren't flushed yet.
    pub(crate) in_flush: bool,
}

pub(crate) struct Index {
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) params: Vec<KeyValuePair>,
}

/// A row or a delete: a primary key and when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) key: i64,
    pub(crate) timestamp: u64,
}

#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) id: i64,
    pub(crate) partition: i64,
    pub(crate) rows: Vec<Event>,
    pub(crate) level: SegmentLevel,
    pub(crate) state: SegmentState,
    /// Folder and log.
    pub(crate) insert: Vec<(i64, i64)>,
    pub(crate) delta: Vec<i64>,
    /// The deletes in its delta logs.
    pub(crate) deltas: Vec<Event>,
    /// Whether a compaction made it and sorted its rows.
    pub(crate) is_sorted: bool,
    /// When it was sealed.
    pub(crate) sealed: u64,
    /// When it will be stored, and listed; `None` once it is.
    pub(crate) stored_at: Option<Instant>,
    /// When it will be replaced by a sorted one.
    pub(crate) sort_at: Option<Instant>,
}

impl Segment {
    pub(crate) fn is_data(&self) -> bool {
        self.level != SegmentLevel::L0
    }
}

impl Collection {
    pub(crate) fn new(id: i64, schema: CollectionSchema, partitions: Vec<(String, i64)>) -> Self {
        Self {
            id,
            schema,
            dynamic: None,
            partitions,
            aliases: BTreeSet::new(),
            cached_aliases: None,
            indexes: Vec::new(),
            is_loaded: false,
            properties: Vec::new(),
            consistency_level: 0,
            shards: 1,
            segments: Vec::new(),
            growing: BTreeMap::new(),
            buffered: BTreeMap::new(),
            deletes: Vec::new(),
            inserts: Vec::new(),
            timers: Timers::default(),
            flushed_at: None,
            rows_at_flush: BTreeMap::new(),
            flushed_since_listing: false,
            in_flush: false,
        }
    }

    /// The ids of the fields that have logs beside the row ids and timestamps.
    pub(crate) fn fields(&self) -> Vec<i64> {
        self.schema.fields.iter().map(|field| field.field_id).chain(self.dynamic).collect()
    }

    /// Adds a field, with an id after all others (`internal/rootcoord/add_field_task.go`, 2.6).
    pub(crate) fn add_field(&mut self, field: FieldSchema) {
        let field_id = self.fields().into_iter().max().unwrap_or(FIRST_FIELD) + 1;
        self.schema.fields.push(FieldSchema { field_id, ..field });
    }

    pub(crate) fn partition(&self, name: &str) -> i64 {
        self.partitions.iter().find(|(partition, _)| partition == name).map_or(-1, |(_, id)| *id)
    }

    pub(crate) fn grow(&mut self, partition: i64, rows: Vec<Event>) {
        self.inserts.extend(rows.iter().map(|row| (partition, *row)));
        self.growing.entry(partition).or_default().extend(rows);
    }

    /// When the oldest row was written that is in no segment yet.
    pub(crate) fn oldest_growing(&self) -> Option<u64> {
        self.growing.values().flatten().map(|row| row.timestamp).min()
    }

    /// The rows that a query at this moment found, by partition, from what was ever written.
    pub(crate) fn rows_at(&self, moment: u64) -> BTreeMap<String, BTreeSet<i64>> {
        let deleted = latest(self.deletes.iter().filter(|delete| delete.timestamp <= moment));
        let is_there = |row: &Event| row.timestamp <= moment && !is_in(&deleted, row);
        let name = |id: i64| self.partitions.iter().find(|(_, of)| *of == id).map(|(name, _)| name.clone());
        let mut found: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for (partition, row) in self.inserts.iter().filter(|(_, row)| is_there(row)) {
            found.entry(name(*partition).unwrap_or_default()).or_default().insert(row.key);
        }
        found
    }

    /// The first rows of a partition, or of all of them.
    pub(crate) fn first_keys(&self, partition: i64, rows: usize) -> Vec<i64> {
        let keys: Vec<i64> = self.keys_in(partition).into_iter().take(rows).collect();
        assert_eq!(keys.len(), rows, "there are so many rows");
        keys
    }

    /// Deletes rows of a partition, or of all of them.
    pub(crate) fn delete(&mut self, partition: i64, keys: &[i64], timestamp: u64) {
        let deletes: Vec<Event> = keys.iter().map(|key| Event { key: *key, timestamp }).collect();
        self.deletes.extend(&deletes);
        self.buffered.entry(partition).or_default().extend(deletes);
    }

    /// The primary keys that a query of a partition finds, or, of -1, of all of them.
    pub(crate) fn keys_in(&self, partition: i64) -> BTreeSet<i64> {
        let is_asked = |of: i64| partition < 0 || of == partition;
        let stored = self.segments.iter().filter(|segment| is_asked(segment.partition)).flat_map(|s| &s.rows);
        let growing = self.growing.iter().filter(|(of, _)| is_asked(**of)).flat_map(|(_, rows)| rows);
        let deleted = latest(&self.deletes);
        stored.chain(growing).filter(|row| !is_in(&deleted, row)).map(|row| row.key).collect()
    }

    /// The primary keys that a query finds, by partition.
    pub(crate) fn found(&self) -> BTreeMap<String, BTreeSet<i64>> {
        self.partitions.iter().map(|(name, id)| (name.clone(), self.keys_in(*id))).collect()
    }

    /// How many rows a query finds: one that is there twice counts twice.
    pub(crate) fn count(&self) -> usize {
        let rows = self.segments.iter().flat_map(|s| &s.rows).chain(self.growing.values().flatten());
        let deleted = latest(&self.deletes);
        rows.filter(|row| !is_in(&deleted, row)).count()
    }

    /// The keys of its logs, as the metadata has them, below the root path.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.segments.iter().flat_map(|segment| keys_of(self.id, segment)).collect()
    }
}

/// When each key was deleted last.
pub(crate) fn latest<'a>(deletes: impl IntoIterator<Item = &'a Event>) -> HashMap<i64, u64> {
    let mut latest: HashMap<i64, u64> = HashMap::new();
    for delete in deletes {
        let at = latest.entry(delete.key).or_default();
        *at = delete.timestamp.max(*at);
    }
    latest
}

fn is_in(deleted: &HashMap<i64, u64>, row: &Event) -> bool {
    deleted.get(&row.key).is_some_and(|at| *at >= row.timestamp)
}

/// Whether one of these deletes is of this row.
pub(crate) fn is_deleted(row: &Event, deletes: &[Event]) -> bool {
    deletes.iter().any(|delete| delete.key == row.key && delete.timestamp >= row.timestamp)
}

/// What is in a log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Log {
    pub(crate) storage_version: i64,
    /// Rows or deletes.
    pub(crate) events: Vec<Event>,
}

impl Log {
    /// A log as the server writes it, with a note for the tests: its key comes first, so that a copy can be told.
    fn write(&self, key: &str, nullability: Nullability) -> Vec<u8> {
        let ids: Vec<i64> = key.split('/').filter_map(|part| part.parse().ok()).collect();
        let id = |at: usize| ids.get(at).copied().unwrap_or_default();
        let of = Of { collection: id(0), partition: id(1), segment: id(2), field: id(3) };
        let times: Vec<u64> = self.events.iter().map(|event| event.timestamp).collect();
        let events: Vec<(i64, u64)> = self.events.iter().map(|event| (event.key, event.timestamp)).collect();
        let columns = match (key.starts_with("delta_log/"), self.storage_version, of.field) {
            (true, ..) => vec![(None, Column::of_deletes(&events))],
            (false, 2, 0) => [0, 1, FIRST_FIELD].map(|id| (Some(id), Column::of_field(id, &events))).to_vec(),
            (false, ..) => vec![(None, Column::of_field(of.field, &events))],
        };
        let log = serde_json::to_string(self).expect("numbers can be written");
        binlog::encode(of, nullability, &times, &columns, format!("the content of {key}\n{log}").as_bytes())
    }

    pub(crate) fn read(body: &[u8]) -> Self {
        let note = binlog::note(body).expect("logs have a note");
        let text = std::str::from_utf8(note).expect("logs are text");
        let (_, log) = text.split_once('\n').expect("a log has two lines");
        serde_json::from_str(log).expect("the second has its rows or deletes")
    }
}

fn keys_of(collection: i64, segment: &Segment) -> Vec<String> {
    let place = format!("{collection}/{}/{}", segment.partition, segment.id);
    let insert = segment.insert.iter().map(|(folder, log)| format!("insert_log/{place}/{folder}/{log}"));
    insert.chain(segment.delta.iter().map(|log| format!("delta_log/{place}/{log}"))).collect()
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

    /// The name for the metadata that this name or alias stands for.
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

    async fn store(&self, key: &str, events: &[Event]) {
        let DataBucket { objects, bucket, .. } = &self.data;
        let log = Log { storage_version: self.storage_version(), events: events.to_vec() };
        let body = log.write(key, self.line.nullability());
        let put = objects.put(bucket, &self.data.key(key), body, PutMode::Replace).await;
        put.expect("the fake's own bucket is writable");
    }

    async fn remove(&self, keys: impl IntoIterator<Item = String>) {
        let DataBucket { objects, bucket, .. } = &self.data;
        let keys: Vec<String> = keys.into_iter().map(|key| self.data.key(&key)).collect();
        objects.delete(bucket, &keys).await.expect("the fake's own bucket is writable");
    }

    /// A new segment with its logs in storage: of a level with rows, an insert log per field or group of columns.
    pub(crate) async fn write(
        &mut self,
        collection: i64,
        fields: &[i64],
        partition: i64,
        level: SegmentLevel,
        events: &[Event],
    ) -> Segment {
        let rows = if level == SegmentLevel::L0 { Vec::new() } else { events.to_vec() };
        let mut segment = Segment {
            id: self.id(),
            partition,
            rows,
            level,
            state: SegmentState::Flushed,
            insert: Vec::new(),
            delta: Vec::new(),
            deltas: Vec::new(),
            sealed: 0,
            is_sorted: false,
            stored_at: None,
            sort_at: None,
        };
        if segment.is_data() {
            for folder in self.folders(fields) {
                let log = self.id();
                segment.insert.push((folder, log));
            }
            let statistics = format!("stats_log/{collection}/{partition}/{}/100/{}", segment.id, self.id());
            self.store(&statistics, &[]).await;
        } else {
            segment.delta.push(self.id());
            segment.deltas = events.to_vec();
        }
        for key in keys_of(collection, &segment) {
            self.store(&key, events).await;
        }
        segment
    }

    /// Of what is written from now on.
    pub(crate) fn storage_version(&self) -> i64 {
        self.faults.storage_version.unwrap_or_else(|| self.line.storage_version())
    }

    /// Deletes rows of a partition, or of all of them, now.
    pub(crate) fn delete(&mut self, database: &str, name: &str, partition: i64, keys: &[i64]) {
        let timestamp = self.timestamp();
        if let Some(collection) = self.collection(database, name) {
            collection.delete(partition, keys, timestamp);
        }
    }

    /// Row ids and timestamps are fields 0 and 1. Storage v2 has a group for wide fields each, named as the field, and
    /// one for all others; that this one is 0 couldn't be verified.
    fn folders(&self, fields: &[i64]) -> Vec<i64> {
        match self.line.storage_version() {
            2 => [0].into_iter().chain(fields.last().copied()).collect(),
            _ => [0, 1].into_iter().chain(fields.iter().copied()).collect(),
        }
    }

    /// Writes what is growing or buffered into storage; gives the ids of the new segments with rows.
    pub(crate) async fn seal(&mut self, database: &str, name: &str) -> Vec<i64> {
        let has_l0 = self.line.has_l0();
        let Some(collection) = self.collection(database, name) else { return Vec::new() };
        let (id, fields) = (collection.id, collection.fields());
        let (growing, buffered) = (std::mem::take(&mut collection.growing), std::mem::take(&mut collection.buffered));
        let mut sealed = Vec::new();
        for (partition, rows) in growing.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            let segment = self.write(id, &fields, partition, SegmentLevel::L1, &rows).await;
            sealed.push(segment.id);
            let segment = self.sealed(Segment { state: SegmentState::Flushing, ..segment });
            self.add(database, name, segment);
        }
        for (partition, deletes) in buffered {
            if has_l0 {
                let segment = self.write(id, &fields, partition, SegmentLevel::L0, &deletes).await;
                let segment = self.sealed(segment);
                self.add(database, name, segment);
            } else {
                self.add_deltas(database, name, &deletes).await;
            }
        }
        sealed
    }

    /// Half of what is growing, in segments that no flush names.
    pub(crate) async fn seal_by_policy(&mut self, database: &str, name: &str) -> Vec<i64> {
        let Some(collection) = self.collection(database, name) else { return Vec::new() };
        let mut later: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        for (partition, rows) in &mut collection.growing {
            later.insert(*partition, rows.split_off(rows.len() / 2));
        }
        let buffered = std::mem::take(&mut collection.buffered);
        let sealed = self.seal(database, name).await;
        if let Some(collection) = self.collection(database, name) {
            (collection.growing, collection.buffered) = (later, buffered);
        }
        sealed
    }

    /// A segment that was sealed now: it is stored, and listed, in a while.
    fn sealed(&mut self, segment: Segment) -> Segment {
        let Some(pace) = self.faults.pace else { return segment };
        let (sealed, stored_at) = (self.timestamp(), Some(Instant::now() + pace.store));
        Segment { state: SegmentState::Growing, sealed, stored_at, ..segment }
    }

    /// Makes a collection with a primary key `id` and a vector, an index, and these partitions.
    pub(crate) fn make(&mut self, database: &str, name: &str, partitions: &[&str], loading: Loading) {
        let field = |field_id, name: &str, data_type: DataType| FieldSchema {
            field_id,
            name: name.to_owned(),
            data_type: data_type as i32,
            is_primary_key: name == "id",
            ..Default::default()
        };
        let fields = vec![field(100, "id", DataType::Int64), field(101, "vector", DataType::FloatVector)];
        let schema = CollectionSchema { name: name.to_owned(), fields, ..Default::default() };
        let id = self.id();
        let partitions = partitions.iter().map(|name| ((*name).to_owned(), self.id())).collect();
        let mut collection = Collection::new(id, schema, partitions);
        collection.is_loaded = loading == Loading::Loaded;
        let params = service::pairs(&[("index_type", "HNSW"), ("metric_type", "L2")]);
        collection.indexes.push(Index { field: "vector".to_owned(), name: "vector".to_owned(), params });
        self.databases.entry(database.to_owned()).or_default().insert(name.to_owned(), collection);
    }

    /// Drops a collection, whatever aliases it has.
    pub(crate) fn drop_collection(&mut self, database: &str, name: &str) {
        let dropped = self.databases.get_mut(database).and_then(|collections| collections.remove(name));
        if self.line.moves_grants() && dropped.is_some() {
            self.users.move_grants(database, name, None);
        }
        let aliases = dropped.into_iter().flat_map(|collection| collection.aliases);
        if self.line.leaves_aliases() {
            self.dangling.extend(aliases.map(|alias| (database.to_owned(), alias)));
        }
    }

    /// Gives a collection another name. Whether there is one.
    pub(crate) fn rename(&mut self, database: &str, from: &str, to: &str) -> bool {
        let collections = self.databases.entry(database.to_owned()).or_default();
        let Some(mut collection) = collections.remove(from) else { return false };
        to.clone_into(&mut collection.schema.name);
        collection.cached_aliases = None;
        collections.insert(to.to_owned(), collection);
        if self.line.moves_grants() {
            self.users.move_grants(database, from, Some(to));
        }
        true
    }

    /// Does what somebody else does.
    pub(crate) fn change(&mut self, database: &str, change: &Change) {
        match change {
            Change::Drop(name) => self.drop_collection(database, name),
            Change::Recreate(name, rows) => {
                self.drop_collection(database, name);
                self.make(database, name, &["_default"], Loading::Released);
                self.insert(database, name, "_default", *rows);
            }
            Change::Rename(from, to) => {
                assert!(self.rename(database, from, to), "the collection exists");
            }
            Change::Alias(alias, name) => self.point_alias(database, alias, name),
            Change::Grant(role, grant) => assert!(self.users.grant(role, grant.clone()), "the role exists"),
            Change::DropDatabase(name) => drop(self.databases.remove(name)),
            Change::Swap(one, other) => {
                for (from, to) in [(one.as_str(), "between"), (other, one), ("between", other)] {
                    assert!(self.rename(database, from, to), "the collection exists");
                }
            }
        }
    }

    /// Gives an alias to a collection, whichever had it.
    pub(crate) fn point_alias(&mut self, database: &str, alias: &str, name: &str) {
        for collection in self.databases.get_mut(database).into_iter().flat_map(BTreeMap::values_mut) {
            collection.aliases.remove(alias);
        }
        let collection = self.collection(database, name).expect("the collection exists");
        collection.aliases.insert(alias.to_owned());
    }

    /// Inserts rows: one message, of one moment. Answers their primary keys.
    pub(crate) fn insert(&mut self, database: &str, name: &str, partition: &str, rows: u64) -> Vec<i64> {
        let timestamp = self.timestamp();
        let rows: Vec<Event> = (0..rows).map(|_| Event { key: self.id(), timestamp }).collect();
        let keys = rows.iter().map(|row| row.key).collect();
        let collection = self.collection(database, name).expect("the collection exists");
        collection.grow(collection.partition(partition), rows);
        keys
    }

    pub(crate) fn add(&mut self, database: &str, name: &str, mut segment: Segment) {
        // A server without levels has the default of the protocol.
        if !self.line.has_l0() {
            segment.level = SegmentLevel::Legacy;
        }
        if let Some(collection) = self.collection(database, name) {
            collection.segments.push(segment);
        }
    }

    /// Without levels, deletes are beside the rows that they delete.
    async fn add_deltas(&mut self, database: &str, name: &str, deletes: &[Event]) {
        let Some(collection) = self.collection(database, name) else { return };
        let (id, mut segments) = (collection.id, std::mem::take(&mut collection.segments));
        let keys: BTreeSet<i64> = deletes.iter().map(|delete| delete.key).collect();
        for segment in &mut segments {
            let found: BTreeSet<i64> =
                segment.rows.iter().map(|row| row.key).filter(|key| keys.contains(key)).collect();
            let theirs: Vec<Event> = deletes.iter().filter(|delete| found.contains(&delete.key)).copied().collect();
            if !theirs.is_empty() {
                self.add_delta(id, segment, &theirs).await;
            }
        }
        if let Some(collection) = self.collection(database, name) {
            collection.segments = segments;
        }
    }

    /// Writes deletes into a delta log of a segment.
    pub(crate) async fn add_delta(&mut self, collection: i64, segment: &mut Segment, deletes: &[Event]) {
        let log = self.id();
        segment.delta.push(log);
        segment.deltas.extend(deletes);
        self.store(&format!("delta_log/{collection}/{}/{}/{log}", segment.partition, segment.id), deletes).await;
    }

    /// Merges each partition's segments with rows, and applies the deletes of all L0 segments: a compaction. Gives the
    /// keys of the dropped segments' logs, which stay in storage.
    pub(crate) async fn compact(&mut self, database: &str, name: &str, into: SegmentLevel) -> Vec<String> {
        let Some(collection) = self.collection(database, name) else { return Vec::new() };
        let (id, fields) = (collection.id, collection.fields());
        let dropped: Vec<Segment> = std::mem::take(&mut collection.segments);
        let deletes = collection.deletes.clone();
        let mut rows: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        for segment in dropped.iter().filter(|segment| segment.is_data()) {
            let left = segment.rows.iter().filter(|row| !is_deleted(row, &deletes));
            rows.entry(segment.partition).or_default().extend(left);
        }
        for (partition, rows) in rows {
            let segment = self.write(id, &fields, partition, into, &rows).await;
            self.add(database, name, segment);
        }
        dropped.iter().flat_map(|segment| keys_of(id, segment)).collect()
    }

    /// A compaction of whose sources' files the garbage collection removes those with this prefix at once.
    pub(crate) async fn compact_and_collect(&mut self, database: &str, name: &str, prefix: &str) {
        let mut dropped = self.compact(database, name, SegmentLevel::L1).await;
        dropped.retain(|key| key.starts_with(prefix));
        self.remove(dropped).await;
    }

    /// A log in a segment's folder that isn't in its metadata: a write that was tried again under another log id.
    pub(crate) async fn orphan(&mut self, database: &str, name: &str) -> String {
        let log = self.id();
        let collection = self.collection(database, name).expect("the collection exists");
        let data = collection.segments.iter().find(|segment| segment.is_data());
        let segment = data.expect("the collection has a flushed segment");
        let (folder, _) = segment.insert[0];
        let key = format!("insert_log/{}/{}/{}/{folder}/{log}", collection.id, segment.partition, segment.id);
        self.store(&key, &[]).await;
        key
    }
}

/// The first id of a field.
pub(crate) const FIRST_FIELD: i64 = 100;
