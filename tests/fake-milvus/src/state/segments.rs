//! The segments of a collection: how they are written, sealed and compacted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use milvault_ports::PutMode;
use milvus::proto::common::{SegmentLevel, SegmentState};

use super::{
    DataBucket, State,
    event::{Event, is_deleted},
    log::Log,
    segment::{Place, Segment, keys_of},
};

impl State {
    pub(super) async fn store(&self, key: &str, events: &[Event]) {
        let DataBucket { objects, bucket, .. } = &self.data;
        let log = Log { storage_version: self.storage_version(), events: events.to_vec() };
        let body = log.write(key, self.line.nullability());
        let put = objects.put(bucket, &self.data.key(key), body, PutMode::Replace).await;
        put.expect("the fake's own bucket is writable");
    }

    pub(super) async fn remove(&self, keys: impl IntoIterator<Item = String>) {
        let DataBucket { objects, bucket, .. } = &self.data;
        let keys: Vec<String> = keys.into_iter().map(|key| self.data.key(&key)).collect();
        objects.delete(bucket, &keys).await.expect("the fake's own bucket is writable");
    }

    /// Writes a new segment with its logs: for a segment with rows, one insert log per field or group of columns.
    pub(crate) async fn write(&mut self, place: Place<'_>, level: SegmentLevel, events: &[Event]) -> Segment {
        let Place { collection, fields, partition } = place;
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

    /// The storage version of segments that are written from now on.
    pub(crate) fn storage_version(&self) -> i64 {
        self.faults.storage_version.unwrap_or_else(|| self.line.storage_version())
    }

    /// Row ids and timestamps are fields 0 and 1. Storage v2 has a group for wide fields each, named as the field, and
    /// one for all others; that this one is 0 couldn't be verified.
    pub(super) fn folders(&self, fields: &[i64]) -> Vec<i64> {
        match self.line.storage_version() {
            2 => [0].into_iter().chain(fields.last().copied()).collect(),
            _ => [0, 1].into_iter().chain(fields.iter().copied()).collect(),
        }
    }

    /// Writes growing rows and buffered deletes into storage; returns the ids of the new segments with rows.
    pub(crate) async fn seal(&mut self, database: &str, name: &str) -> Vec<i64> {
        let has_l0 = self.line.has_l0();
        let Some(collection) = self.collection(database, name) else { return Vec::new() };
        let (id, fields) = (collection.id, collection.fields());
        let (growing, buffered) = (std::mem::take(&mut collection.growing), std::mem::take(&mut collection.buffered));
        let mut sealed = Vec::new();
        for (partition, rows) in growing.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            let segment =
                self.write(Place { collection: id, fields: &fields, partition }, SegmentLevel::L1, &rows).await;
            sealed.push(segment.id);
            let segment = self.sealed(Segment { state: SegmentState::Flushing, ..segment });
            self.add(database, name, segment);
        }
        for (partition, deletes) in buffered {
            if has_l0 {
                let segment =
                    self.write(Place { collection: id, fields: &fields, partition }, SegmentLevel::L0, &deletes).await;
                let segment = self.sealed(segment);
                self.add(database, name, segment);
            } else {
                self.add_deltas(database, name, &deletes).await;
            }
        }
        sealed
    }

    /// Seals half of the growing rows, in segments that no flush names.
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

    /// Marks a segment as sealed now: it is stored and listed later.
    pub(super) fn sealed(&mut self, segment: Segment) -> Segment {
        let Some(pace) = self.faults.pace else { return segment };
        let (sealed, stored_at) = (self.timestamp(), Some(Instant::now() + pace.store));
        Segment { state: SegmentState::Growing, sealed, stored_at, ..segment }
    }

    pub(crate) fn add(&mut self, database: &str, name: &str, mut segment: Segment) {
        // A server without levels reports the protocol's default.
        if !self.line.has_l0() {
            segment.level = SegmentLevel::Legacy;
        }
        if let Some(collection) = self.collection(database, name) {
            collection.segments.push(segment);
        }
    }

    /// Writes deletes to the segments whose rows they delete, on servers without levels.
    pub(super) async fn add_deltas(&mut self, database: &str, name: &str, deletes: &[Event]) {
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
            let segment = self.write(Place { collection: id, fields: &fields, partition }, into, &rows).await;
            self.add(database, name, segment);
        }
        dropped.iter().flat_map(|segment| keys_of(id, segment)).collect()
    }

    /// Compacts, and removes the sources' files with this prefix at once, as the garbage collection does.
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
