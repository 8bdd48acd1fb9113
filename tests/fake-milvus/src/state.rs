//! What the fake server knows and stores.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Instant, SystemTime},
};

use milvault_jobs::ports::{Bucket, Objects, PutMode};
use milvus::proto::{
    common::{KeyValuePair, SegmentLevel, SegmentState},
    schema::CollectionSchema,
};

use crate::{Faults, Line};

/// Where the fake keeps its logs.
#[derive(Clone)]
pub struct DataBucket {
    /// The object storage.
    pub objects: Arc<dyn Objects>,
    /// The bucket in it.
    pub bucket: Bucket,
    /// The root path, without slashes at its ends.
    pub root: String,
}

pub(crate) struct State {
    pub(crate) line: Line,
    pub(crate) data: DataBucket,
    pub(crate) faults: Faults,
    pub(crate) databases: BTreeMap<String, BTreeMap<String, Collection>>,
    /// The tickets of the holds; one is "" where there are none.
    pub(crate) holds: BTreeSet<String>,
    pub(crate) flushes: u32,
    last_id: i64,
}

pub(crate) struct Collection {
    pub(crate) id: i64,
    pub(crate) schema: CollectionSchema,
    pub(crate) partitions: Vec<(String, i64)>,
    pub(crate) aliases: BTreeSet<String>,
    pub(crate) indexes: Vec<Index>,
    pub(crate) is_loaded: bool,
    pub(crate) segments: Vec<Segment>,
    /// Rows that aren't in a segment in storage yet, by partition.
    growing: BTreeMap<i64, u64>,
    /// Deletes that aren't in storage yet, by partition or -1.
    buffered: BTreeMap<i64, u64>,
    pub(crate) deleted: u64,
    pub(crate) flushed_at: Option<Instant>,
    pub(crate) flushed_since_listing: bool,
    /// Segments that the last flush sealed and that aren't flushed yet.
    pub(crate) in_flush: bool,
}

pub(crate) struct Index {
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) params: Vec<KeyValuePair>,
}

#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) id: i64,
    pub(crate) partition: i64,
    pub(crate) rows: u64,
    pub(crate) level: SegmentLevel,
    pub(crate) state: SegmentState,
    /// Folder and log.
    pub(crate) insert: Vec<(i64, i64)>,
    pub(crate) delta: Vec<i64>,
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
            partitions,
            aliases: BTreeSet::new(),
            indexes: Vec::new(),
            is_loaded: false,
            segments: Vec::new(),
            growing: BTreeMap::new(),
            buffered: BTreeMap::new(),
            deleted: 0,
            flushed_at: None,
            flushed_since_listing: false,
            in_flush: false,
        }
    }

    pub(crate) fn partition(&self, name: &str) -> i64 {
        self.partitions.iter().find(|(partition, _)| partition == name).map_or(-1, |(_, id)| *id)
    }

    pub(crate) fn grow(&mut self, partition: i64, rows: u64) {
        *self.growing.entry(partition).or_default() += rows;
    }

    pub(crate) fn delete(&mut self, partition: i64, rows: u64) {
        self.deleted += rows;
        *self.buffered.entry(partition).or_default() += rows;
    }

    /// Rows that a query sees.
    pub(crate) fn count(&self) -> u64 {
        let stored: u64 = self.segments.iter().filter(|segment| segment.is_data()).map(|segment| segment.rows).sum();
        (stored + self.growing.values().sum::<u64>()).saturating_sub(self.deleted)
    }

    /// The keys of its logs, as the metadata has them, below the root path.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.segments.iter().flat_map(|segment| keys_of(self.id, segment)).collect()
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
        let (faults, holds) = (Faults::default(), BTreeSet::new());
        Self { line, data, faults, databases, holds, flushes: 0, last_id: 449_000_000_000 }
    }

    pub(crate) fn id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    /// A hybrid timestamp: milliseconds above 18 bits of a logical clock.
    pub(crate) fn timestamp(&mut self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let logical = u64::try_from(self.id()).unwrap_or_default() & 0x3ffff;
        (u64::try_from(since.as_millis()).unwrap_or_default() << 18) | logical
    }

    /// The name for the metadata that this name or alias stands for.
    pub(crate) fn resolve(&self, database: &str, name: &str) -> Option<String> {
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

    pub(crate) async fn store(&self, key: &str) {
        let DataBucket { objects, bucket, root } = &self.data;
        let body = format!("the content of {key}").into_bytes();
        let put = objects.put(bucket, &format!("{root}/{key}"), body, PutMode::Replace).await;
        put.expect("the fake's own bucket is writable");
    }

    async fn remove(&self, keys: impl IntoIterator<Item = String>) {
        let DataBucket { objects, bucket, root } = &self.data;
        let keys: Vec<String> = keys.into_iter().map(|key| format!("{root}/{key}")).collect();
        objects.delete(bucket, &keys).await.expect("the fake's own bucket is writable");
    }

    /// A new segment with its logs in storage: of a level with rows, an insert log per field or group of columns.
    async fn write(
        &mut self,
        collection: i64,
        fields: &[i64],
        partition: i64,
        level: SegmentLevel,
        rows: u64,
    ) -> Segment {
        let mut segment = Segment {
            id: self.id(),
            partition,
            rows,
            level,
            state: SegmentState::Flushed,
            insert: Vec::new(),
            delta: Vec::new(),
        };
        if segment.is_data() {
            for folder in self.folders(fields) {
                let log = self.id();
                segment.insert.push((folder, log));
            }
            let statistics = format!("stats_log/{collection}/{partition}/{}/100/{}", segment.id, self.id());
            self.store(&statistics).await;
        } else {
            segment.delta.push(self.id());
        }
        for key in keys_of(collection, &segment) {
            self.store(&key).await;
        }
        segment
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
        let (id, fields) = (collection.id, fields(&collection.schema));
        let (growing, buffered) = (std::mem::take(&mut collection.growing), std::mem::take(&mut collection.buffered));
        let mut sealed = Vec::new();
        for (partition, rows) in growing {
            let segment = self.write(id, &fields, partition, SegmentLevel::L1, rows).await;
            sealed.push(segment.id);
            self.add(database, name, Segment { state: SegmentState::Flushing, ..segment });
        }
        for (partition, _) in buffered {
            if has_l0 {
                let segment = self.write(id, &fields, partition, SegmentLevel::L0, 0).await;
                self.add(database, name, segment);
            } else {
                self.add_delta(database, name, partition).await;
            }
        }
        sealed
    }

    fn add(&mut self, database: &str, name: &str, mut segment: Segment) {
        // A server without levels has the default of the protocol.
        if !self.line.has_l0() {
            segment.level = SegmentLevel::Legacy;
        }
        if let Some(collection) = self.collection(database, name) {
            collection.segments.push(segment);
        }
    }

    async fn add_delta(&mut self, database: &str, name: &str, partition: i64) {
        let log = self.id();
        let Some(collection) = self.collection(database, name) else { return };
        let id = collection.id;
        let of = |segment: &&mut Segment| partition < 0 || segment.partition == partition;
        let Some(segment) = collection.segments.iter_mut().find(of) else { return };
        segment.delta.push(log);
        let key = format!("delta_log/{id}/{}/{}/{log}", segment.partition, segment.id);
        self.store(&key).await;
    }

    /// Merges each partition's segments with rows, and applies the deletes of all L0 segments: a compaction. Gives the
    /// keys of the dropped segments' logs, which stay in storage.
    pub(crate) async fn compact(&mut self, database: &str, name: &str, into: SegmentLevel) -> Vec<String> {
        let Some(collection) = self.collection(database, name) else { return Vec::new() };
        let (id, fields) = (collection.id, fields(&collection.schema));
        let dropped: Vec<Segment> = std::mem::take(&mut collection.segments);
        let mut rows: BTreeMap<i64, u64> = BTreeMap::new();
        for segment in dropped.iter().filter(|segment| segment.is_data()) {
            *rows.entry(segment.partition).or_default() += segment.rows;
        }
        let mut deleted = std::mem::take(&mut collection.deleted);
        for (partition, rows) in rows {
            let here = deleted.min(rows);
            deleted -= here;
            let segment = self.write(id, &fields, partition, into, rows - here).await;
            self.add(database, name, segment);
        }
        dropped.iter().flat_map(|segment| keys_of(id, segment)).collect()
    }

    /// A compaction whose sources' files the garbage collection removes at once.
    pub(crate) async fn compact_and_collect(&mut self, database: &str, name: &str) {
        let dropped = self.compact(database, name, SegmentLevel::L1).await;
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
        self.store(&key).await;
        key
    }
}

fn fields(schema: &CollectionSchema) -> Vec<i64> {
    schema.fields.iter().map(|field| field.field_id).collect()
}
