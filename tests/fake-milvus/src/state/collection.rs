//! A collection and its rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use milvus::proto::{
    common::KeyValuePair,
    schema::{CollectionSchema, FieldSchema},
};

use super::{
    event::{Event, is_in, latest},
    segment::{Segment, keys_of},
    timers::Timers,
};

/// The first id of a field.
pub(crate) const FIRST_FIELD: i64 = 100;

pub(crate) struct Collection {
    pub(crate) id: i64,
    pub(crate) schema: CollectionSchema,
    /// The id of the dynamic field, which the schema doesn't show.
    pub(crate) dynamic: Option<i64>,
    pub(crate) partitions: Vec<(String, i64)>,
    pub(crate) aliases: BTreeSet<String>,
    /// The aliases in the cached description, if there is one.
    pub(crate) cached_aliases: Option<BTreeSet<String>>,
    pub(crate) indexes: Vec<Index>,
    pub(crate) is_loaded: bool,
    pub(crate) properties: Vec<KeyValuePair>,
    pub(crate) consistency_level: i32,
    pub(crate) shards: i32,
    pub(crate) segments: Vec<Segment>,
    /// Rows that aren't in a segment in storage yet, by partition.
    pub(super) growing: BTreeMap<i64, Vec<Event>>,
    /// Deletes that aren't in storage yet, by partition or -1.
    pub(super) buffered: BTreeMap<i64, Vec<Event>>,
    /// All deletes so far.
    pub(super) deletes: Vec<Event>,
    /// All inserted rows so far, by partition.
    pub(super) inserts: Vec<(i64, Event)>,
    pub(crate) timers: Timers,
    pub(crate) flushed_at: Option<Instant>,
    /// The primary keys that a query found at the last flush, by partition.
    pub(crate) rows_at_flush: BTreeMap<String, BTreeSet<i64>>,
    /// Whether a flush has ended since the last listing.
    pub(crate) flushed_since_listing: bool,
    /// Whether segments that the last flush sealed aren't flushed yet.
    pub(crate) in_flush: bool,
}

pub(crate) struct Index {
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) params: Vec<KeyValuePair>,
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

    /// The timestamp of the oldest row that is in no segment yet.
    pub(crate) fn oldest_growing(&self) -> Option<u64> {
        self.growing.values().flatten().map(|row| row.timestamp).min()
    }

    /// The rows that a query at this moment found, by partition, computed from all rows and deletes.
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

    /// The number of rows that a query finds: a row that is stored twice counts twice.
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
