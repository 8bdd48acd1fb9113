//! A Milvus in memory: collections whose rows are in logs in object storage, as the real one's are.
//!
//! It remembers what every collection's rows were at each flush, which is what a backup has to bring back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use futures::FutureExt;
use milvault_jobs::ports::{
    Bucket, CollectionDescription, FlushResult, GarbageHold, ImportStatus, ImportTasks, InsertLog, MilvusError,
    Objects, Pace, PutMode, Segment, SegmentFiles,
};
use milvault_memory::MemoryObjects;
use milvault_model::{
    CollectionCapture, CollectionName, FieldCapture, FieldPresence, IndexCapture, Loaded, PartitionCapture, PrimaryKey,
    SegmentLevel, StorageVersion, Time,
};

use crate::random::Random;

/// Milvus's root path.
pub(crate) const ROOT: &str = "files";

/// The field ids of every collection: row id, timestamp, primary key, vector.
pub(crate) const FIELDS: [i64; 4] = [0, 1, 100, 101];

pub(crate) type Key = u64;

/// A primary key and when it was written or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) key: Key,
    pub(crate) timestamp: u64,
}

/// What a log holds: of a field, but that is the same for all of them but for its number.
pub(crate) fn encode(field: i64, marks: &[Mark]) -> Vec<u8> {
    let mut body = format!("field {field}\n");
    for mark in marks {
        body.push_str(&format!("{} {}\n", mark.key, mark.timestamp));
    }
    body.into_bytes()
}

/// The marks of a log; `None` for what isn't one.
pub(crate) fn decode(body: &[u8]) -> Option<Vec<Mark>> {
    let text = std::str::from_utf8(body).ok()?;
    text.lines()
        .skip(1)
        .map(|line| {
            let (key, timestamp) = line.split_once(' ')?;
            Some(Mark { key: key.parse().ok()?, timestamp: timestamp.parse().ok()? })
        })
        .collect()
}

struct Stored {
    id: i64,
    level: SegmentLevel,
    partition: i64,
    rows: Vec<Mark>,
    deletes: Vec<Mark>,
    logs: Vec<String>,
}

impl Stored {
    fn files(&self) -> SegmentFiles {
        let mut files = SegmentFiles { segment: self.id, insert_logs: Vec::new(), delta_logs: Vec::new() };
        for log in &self.logs {
            let parts: Vec<&str> = log.split('/').collect();
            let number = |from_end: usize| parts[parts.len() - from_end].parse().expect("a number");
            match parts[1] {
                "insert_log" => files.insert_logs.push(InsertLog { folder: number(2), log: number(1) }),
                "delta_log" => files.delta_logs.push(number(1)),
                _ => {}
            }
        }
        files
    }
}

struct Collection {
    id: i64,
    created_at: Time,
    partitions: Vec<i64>,
    /// Of partitions that have others than theirs by default.
    partition_names: BTreeMap<i64, String>,
    is_loaded: bool,
    /// From when on queries find what was loaded.
    loaded_at: Time,
    /// Imported rows that queries find from then on.
    ripening: Vec<(Time, BTreeSet<Key>)>,
    growing: Vec<(i64, Mark)>,
    buffered_deletes: Vec<Mark>,
    stored: Vec<Stored>,
    live: BTreeSet<Key>,
}

impl Collection {
    fn name_of(&self, partition: i64) -> String {
        self.partition_names.get(&partition).cloned().unwrap_or_else(|| format!("p{partition}"))
    }
}

/// An import job.
struct Import {
    collection: i64,
    partition: i64,
    insert_prefix: String,
    delta_prefix: String,
    end: u64,
    begins: Time,
    ends: Time,
    fate: Fate,
    outcome: Option<Result<u64, String>>,
}

/// What becomes of an import job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Completes,
    Fails,
    GetsStuck,
    IsForgotten,
}

/// A collection's life, for checks.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) name: CollectionName,
    pub(crate) created_at: Time,
    pub(crate) dropped_at: Option<Time>,
}

/// Objects that garbage collection removes, and when.
pub(crate) type Doomed = Vec<(Time, String)>;

/// What a server does one way or the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// How long the files of dropped segments stay.
    pub(crate) gc_tolerance: TimeDelta,
    /// Whether deletes are kept in segments of their own until they are compacted.
    pub(crate) has_l0: bool,
    /// Whether it tells the files of segments.
    pub(crate) tells_files: bool,
    /// Whether its garbage collection can be held.
    pub(crate) can_hold: bool,
}

impl Habits {
    pub(crate) fn draw(random: &mut Random) -> Self {
        Self {
            gc_tolerance: TimeDelta::seconds(*random.pick(&[3 * 3600, 120, 10]).unwrap_or(&0)),
            has_l0: random.permille(400),
            tells_files: random.permille(500),
            can_hold: random.permille(300),
        }
    }
}

/// One server.
pub(crate) struct Server {
    pub(crate) bucket: Bucket,
    habits: Habits,
    /// Until when nothing is removed.
    pub(crate) held_until: Time,
    objects: Arc<MemoryObjects>,
    collections: BTreeMap<CollectionName, Collection>,
    next_id: i64,
    next_key: Key,
    last_timestamp: u64,
    /// The rows at each flush, by the collection's id and the flush's timestamp.
    pub(crate) truth: BTreeMap<(i64, u64), BTreeSet<Key>>,
    /// Every log ever written.
    pub(crate) written: BTreeMap<String, Vec<u8>>,
    pub(crate) lives: BTreeMap<i64, Life>,
    aliases: BTreeMap<String, i64>,
    imports: BTreeMap<i64, Import>,
    random: Random,
    /// A defect: what a restore built is not removed before it is built again.
    pub(crate) keeps_what_it_is_to_drop: bool,
    /// The collections that users take to be there, by the names that they know.
    pub(crate) believed: BTreeMap<CollectionName, i64>,
}

impl Server {
    pub(crate) fn new(bucket: Bucket, objects: Arc<MemoryObjects>, habits: Habits, random: Random) -> Self {
        Self {
            aliases: BTreeMap::new(),
            imports: BTreeMap::new(),
            random,
            keeps_what_it_is_to_drop: false,
            believed: BTreeMap::new(),
            bucket,
            objects,
            habits,
            held_until: Time::default(),
            collections: BTreeMap::new(),
            next_id: 449_000_000_000_000_000,
            next_key: 1,
            last_timestamp: 0,
            truth: BTreeMap::new(),
            written: BTreeMap::new(),
            lives: BTreeMap::new(),
        }
    }

    fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    /// A hybrid timestamp that was never given before.
    fn timestamp(&mut self, now: Time) -> u64 {
        self.last_timestamp = (now.timestamp_millis().cast_unsigned() << 18).max(self.last_timestamp + 1);
        self.last_timestamp
    }

    pub(crate) fn names(&self) -> Vec<CollectionName> {
        self.collections.keys().cloned().collect()
    }

    fn found(&mut self, name: &CollectionName) -> Result<&mut Collection, MilvusError> {
        self.collections.get_mut(name).ok_or_else(|| MilvusError::NoCollection(name.clone()))
    }

    pub(crate) fn create(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        if self.collections.contains_key(name) {
            return;
        }
        let id = self.id();
        let partitions = (0..random.between(1, 2)).map(|_| self.id()).collect();
        let collection = Collection {
            id,
            created_at: now,
            partitions,
            partition_names: BTreeMap::new(),
            is_loaded: random.permille(600),
            loaded_at: now,
            ripening: Vec::new(),
            growing: Vec::new(),
            buffered_deletes: Vec::new(),
            stored: Vec::new(),
            live: BTreeSet::new(),
        };
        self.lives.insert(id, Life { name: name.clone(), created_at: now, dropped_at: None });
        self.believed.insert(name.clone(), id);
        self.collections.insert(name.clone(), collection);
    }

    /// A user drops a collection.
    pub(crate) fn drop_believed(&mut self, name: &CollectionName, random: &mut Random, now: Time) -> Doomed {
        self.believed.remove(name);
        self.drop_collection(name, random, now)
    }

    pub(crate) fn drop_collection(&mut self, name: &CollectionName, random: &mut Random, now: Time) -> Doomed {
        let Some(collection) = self.collections.remove(name) else { return Vec::new() };
        if let Some(life) = self.lives.get_mut(&collection.id) {
            life.dropped_at = Some(now);
        }
        self.aliases.retain(|_, of| *of != collection.id);
        collection.stored.iter().flat_map(|segment| self.doom(segment, random, now)).collect()
    }

    pub(crate) fn insert(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        for _ in 0..random.between(1, 6) {
            let timestamp = self.timestamp(now);
            let key = self.next_key;
            self.next_key += 1;
            let Ok(collection) = self.found(name) else { return };
            let partition = random.pick(&collection.partitions).copied().unwrap_or_default();
            collection.growing.push((partition, Mark { key, timestamp }));
            collection.live.insert(key);
        }
    }

    pub(crate) fn delete(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        for _ in 0..random.between(1, 3) {
            let timestamp = self.timestamp(now);
            let Ok(collection) = self.found(name) else { return };
            let live: Vec<Key> = collection.live.iter().copied().collect();
            let Some(key) = random.pick(&live).copied() else { return };
            collection.live.remove(&key);
            collection.buffered_deletes.push(Mark { key, timestamp });
        }
    }

    /// Seals what is growing and writes it out.
    pub(crate) fn seal(&mut self, name: &CollectionName) {
        let Some(mut collection) = self.collections.remove(name) else { return };
        let growing = std::mem::take(&mut collection.growing);
        for partition in collection.partitions.clone() {
            let rows: Vec<Mark> = growing.iter().filter(|(of, _)| *of == partition).map(|(_, row)| *row).collect();
            if !rows.is_empty() {
                let segment = self.write_segment(collection.id, partition, rows);
                collection.stored.push(segment);
            }
        }
        let deletes = std::mem::take(&mut collection.buffered_deletes);
        if self.habits.has_l0 {
            if !deletes.is_empty() {
                let segment = self.write_deletes(collection.id, deletes);
                collection.stored.push(segment);
            }
        } else {
            self.add_deletes(&mut collection, &deletes);
        }
        self.collections.insert(name.clone(), collection);
    }

    /// A segment of deletes in any partition.
    fn write_deletes(&mut self, collection: i64, deletes: Vec<Mark>) -> Stored {
        let (id, log) = (self.id(), self.id());
        let logs = vec![self.write_log(&format!("delta_log/{collection}/-1/{id}/{log}"), 0, &deletes)];
        Stored { id, level: SegmentLevel::L0, partition: -1, rows: Vec::new(), deletes, logs }
    }

    /// Writes deletes to the segments that have the rows.
    fn add_deletes(&mut self, collection: &mut Collection, deletes: &[Mark]) {
        for segment in &mut collection.stored {
            let of_segment: Vec<Mark> =
                deletes.iter().filter(|delete| segment.rows.iter().any(|row| row.key == delete.key)).copied().collect();
            if !of_segment.is_empty() {
                let log = self.id();
                let place = format!("delta_log/{}/{}/{}/{log}", collection.id, segment.partition, segment.id);
                segment.logs.push(self.write_log(&place, 0, &of_segment));
                segment.deletes.extend(of_segment);
            }
        }
    }

    fn write_segment(&mut self, collection: i64, partition: i64, rows: Vec<Mark>) -> Stored {
        let id = self.id();
        let mut logs = Vec::new();
        for field in FIELDS {
            for part in rows.chunks(4) {
                let log = self.id();
                let place = format!("insert_log/{collection}/{partition}/{id}/{field}/{log}");
                logs.push(self.write_log(&place, field, part));
            }
        }
        // Statistics aren't part of a backup.
        let place = format!("stats_log/{collection}/{partition}/{id}/100/1");
        logs.push(self.write_log(&place, 100, &rows));
        Stored { id, level: SegmentLevel::Data, partition, rows, deletes: Vec::new(), logs }
    }

    fn write_log(&mut self, place: &str, field: i64, marks: &[Mark]) -> String {
        let (key, body) = (format!("{ROOT}/{place}"), encode(field, marks));
        let put = self.objects.put(&self.bucket, &key, body.clone(), PutMode::IfAbsent).now_or_never();
        assert!(matches!(put, Some(Ok(_))), "{put:?}");
        self.written.insert(place.to_owned(), body);
        key
    }

    /// Merges segments of a partition into a new one, without the rows that are deleted by now.
    pub(crate) fn compact(&mut self, name: &CollectionName, random: &mut Random, now: Time) -> Doomed {
        let Some(mut collection) = self.collections.remove(name) else { return Vec::new() };
        // Deletes in segments of their own first go to the segments that have the rows.
        let (l0, rest): (Vec<Stored>, Vec<Stored>) =
            collection.stored.into_iter().partition(|segment| segment.level == SegmentLevel::L0);
        collection.stored = rest;
        if !l0.is_empty() && random.permille(600) {
            for segment in &l0 {
                self.add_deletes(&mut collection, &segment.deletes);
            }
            self.collections.insert(name.clone(), collection);
            return l0.iter().flat_map(|segment| self.doom(segment, random, now)).collect();
        }
        let partition = random.pick(&collection.partitions).copied().unwrap_or_default();
        let (merged, kept) = collection.stored.into_iter().partition(|s| s.partition == partition);
        collection.stored = kept;
        collection.stored.extend(l0);
        let merged: Vec<Stored> = merged;
        let is_deleted = |row: &Mark| merged.iter().any(|s| s.deletes.iter().any(|delete| delete.key == row.key));
        let rows: Vec<Mark> = merged.iter().flat_map(|s| &s.rows).filter(|row| !is_deleted(row)).copied().collect();
        if !rows.is_empty() {
            let segment = self.write_segment(collection.id, partition, rows);
            collection.stored.push(segment);
        }
        self.collections.insert(name.clone(), collection);
        merged.iter().flat_map(|segment| self.doom(segment, random, now)).collect()
    }

    /// The logs of a dropped segment go one by one, in no order.
    fn doom(&self, segment: &Stored, random: &mut Random, now: Time) -> Doomed {
        let begins = now + self.habits.gc_tolerance;
        let mut later = || TimeDelta::milliseconds(random.below(20_000).cast_signed());
        segment.logs.iter().map(|key| (begins + later(), key.clone())).collect()
    }

    pub(crate) fn describe(&mut self, name: &CollectionName) -> Result<CollectionDescription, MilvusError> {
        let id = self.found(name)?.id;
        let aliases = self.aliases.iter().filter(|(_, of)| **of == id).map(|(alias, _)| alias.clone()).collect();
        let collection = self.found(name)?;
        let index = IndexCapture { name: "vector".to_owned(), field: "vector".to_owned(), params: Vec::new() };
        let partitions = collection.partitions.iter();
        Ok(CollectionDescription {
            id: collection.id,
            name: name.clone(),
            schema: format!("schema of {name}, made at {}", collection.created_at).into_bytes(),
            primary_key: "id".to_owned(),
            fields: FIELDS[2..]
                .iter()
                .map(|id| FieldCapture { id: *id, name: format!("field {id}"), presence: FieldPresence::Always })
                .collect(),
            shards: 1,
            consistency_level: 2,
            properties: Vec::new(),
            partitions: partitions.map(|id| PartitionCapture { name: collection.name_of(*id), id: *id }).collect(),
            has_partition_key: false,
            indexes: vec![index],
            aliases,
            loaded: if collection.is_loaded { Loaded::Whole { replicas: 1 } } else { Loaded::No },
        })
    }

    pub(crate) fn flush(&mut self, name: &CollectionName, now: Time) -> Result<FlushResult, MilvusError> {
        self.found(name)?;
        self.seal(name);
        let timestamp = self.timestamp(now);
        let collection = self.found(name)?;
        let data = collection.stored.iter().filter(|segment| segment.level == SegmentLevel::Data);
        let segments = data.map(|segment| segment.id).collect();
        let (id, live) = (collection.id, collection.live.clone());
        self.truth.insert((id, timestamp), live);
        Ok(FlushResult { timestamp, segments })
    }

    pub(crate) fn segments(&mut self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError> {
        let collection = self.found(name)?;
        let collection_id = collection.id;
        Ok(collection
            .stored
            .iter()
            .map(|segment| Segment {
                id: segment.id,
                collection_id,
                partition_id: segment.partition,
                rows: segment.rows.len() as u64,
                is_flushed: true,
                level: segment.level,
                storage: StorageVersion::V1,
            })
            .collect())
    }

    /// The logs of segments that aren't dropped, if the server tells.
    pub(crate) fn segment_files(
        &mut self,
        collection: i64,
        wanted: &[i64],
    ) -> Result<Option<Vec<SegmentFiles>>, MilvusError> {
        if !self.habits.tells_files {
            return Ok(None);
        }
        let Some(name) = self.name_of(collection) else { return Ok(Some(Vec::new())) };
        let stored = self.found(&name)?.stored.iter().filter(|segment| wanted.contains(&segment.id));
        Ok(Some(stored.map(Stored::files).collect()))
    }

    pub(crate) fn hold_garbage(&mut self, duration: Duration, now: Time) -> GarbageHold {
        if !self.habits.can_hold {
            return GarbageHold::NotOffered;
        }
        self.held_until = now + TimeDelta::from_std(duration).unwrap_or_default();
        GarbageHold::Held { ticket: None }
    }

    pub(crate) fn count(&mut self, name: &CollectionName) -> Result<u64, MilvusError> {
        Ok(self.loaded(name)?.live.len() as u64)
    }

    fn loaded(&mut self, name: &CollectionName) -> Result<&Collection, MilvusError> {
        let collection = self.found(name)?;
        match collection.is_loaded {
            true => Ok(collection),
            false => Err(MilvusError::Refused(format!("{name} isn't loaded"))),
        }
    }

    pub(crate) fn find_keys(
        &mut self,
        name: &CollectionName,
        sought: &[PrimaryKey],
    ) -> Result<Vec<PrimaryKey>, MilvusError> {
        let live = &self.loaded(name)?.live;
        let is_there = |key: &&PrimaryKey| match key {
            PrimaryKey::Int(key) => live.contains(&key.cast_unsigned()),
            PrimaryKey::Text(_) => false,
        };
        Ok(sought.iter().filter(is_there).cloned().collect())
    }

    pub(crate) fn some_keys(&mut self, name: &CollectionName, limit: usize) -> Result<Vec<PrimaryKey>, MilvusError> {
        Ok(self.found(name)?.live.iter().take(limit).map(|key| PrimaryKey::Int(i64::try_from(*key).unwrap())).collect())
    }
}

/// What a restore asks for.
impl Server {
    /// What happened by itself until now.
    pub(crate) fn tick(&mut self, now: Time) {
        for collection in self.collections.values_mut() {
            let (ripe, rest) = std::mem::take(&mut collection.ripening).into_iter().partition(|(at, _)| *at <= now);
            collection.ripening = rest;
            let ripe: Vec<(Time, BTreeSet<Key>)> = ripe;
            collection.live.extend(ripe.into_iter().flat_map(|(_, rows)| rows));
        }
        let over: Vec<i64> = self
            .imports
            .iter()
            .filter(|(_, import)| import.outcome.is_none() && import.ends <= now)
            .map(|(task, _)| *task)
            .collect();
        for task in over {
            let Some(mut import) = self.imports.remove(&task) else { continue };
            import.outcome = match import.fate {
                Fate::Completes => Some(self.load_rows(&import, now)),
                Fate::Fails => Some(Err("as it happens".to_owned())),
                Fate::GetsStuck => None,
                // Its rows are there all the same.
                Fate::IsForgotten => {
                    drop(self.load_rows(&import, now));
                    continue;
                }
            };
            self.imports.insert(task, import);
        }
    }

    pub(crate) fn make(
        &mut self,
        name: &CollectionName,
        capture: &CollectionCapture,
        now: Time,
    ) -> Result<(), MilvusError> {
        if self.collections.contains_key(name) {
            return match self.keeps_what_it_is_to_drop {
                true => Ok(()),
                false => Err(MilvusError::Refused(format!("{name} exists"))),
            };
        }
        let id = self.id();
        let partition_names: BTreeMap<i64, String> =
            capture.partitions.iter().map(|partition| (self.id(), partition.name.clone())).collect();
        let collection = Collection {
            id,
            created_at: now,
            partitions: partition_names.keys().copied().collect(),
            partition_names,
            is_loaded: false,
            loaded_at: now,
            ripening: Vec::new(),
            growing: Vec::new(),
            buffered_deletes: Vec::new(),
            stored: Vec::new(),
            live: BTreeSet::new(),
        };
        self.lives.insert(id, Life { name: name.clone(), created_at: now, dropped_at: None });
        self.collections.insert(name.clone(), collection);
        Ok(())
    }

    pub(crate) fn import(
        &mut self,
        name: &CollectionName,
        partition: &str,
        [insert_prefix, delta_prefix]: [String; 2],
        end: u64,
        now: Time,
    ) -> Result<i64, MilvusError> {
        let collection = self.found(name)?;
        let id = collection.partitions.iter().find(|id| collection.name_of(**id) == partition).copied();
        let partition = id.ok_or_else(|| MilvusError::Refused(format!("{name} has no partition {partition}")))?;
        let collection = collection.id;
        let fate = match self.random.below(100) {
            0..10 => Fate::Fails,
            10..13 => Fate::GetsStuck,
            13..15 => Fate::IsForgotten,
            _ => Fate::Completes,
        };
        let begins = now + TimeDelta::milliseconds(self.random.below(4_000).cast_signed());
        let ends = begins + TimeDelta::milliseconds(self.random.below(20_000).cast_signed());
        let import =
            Import { collection, partition, insert_prefix, delta_prefix, end, begins, ends, fate, outcome: None };
        let task = self.id();
        self.imports.insert(task, import);
        Ok(task)
    }

    /// The marks of the logs below a prefix, by the segment and, of rows, the field.
    fn logs_below(&self, prefix: &str) -> Vec<(Vec<String>, Vec<Mark>)> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let listing = self.objects.list(&self.bucket, prefix, after.as_deref()).now_or_never();
            let listing = listing.expect("at once").expect("the bucket is there");
            after = listing.objects.last().map(|object| object.key.clone());
            for object in listing.objects {
                let body = self.objects.get(&self.bucket, &object.key).now_or_never().expect("at once");
                let body = body.expect("the bucket is there").expect("it was listed");
                let path = object.key[prefix.len()..].split('/').map(str::to_owned).collect();
                found.push((path, decode(&body).expect("a log")));
            }
            if !listing.more {
                return found;
            }
        }
    }

    fn load_rows(&mut self, import: &Import, now: Time) -> Result<u64, String> {
        let Some(name) = self.name_of(import.collection) else { return Err("the collection was dropped".to_owned()) };
        let mut fields: BTreeMap<String, BTreeSet<(Key, u64)>> = BTreeMap::new();
        for (path, marks) in self.logs_below(&import.insert_prefix) {
            let [_, field, _] = path.as_slice() else { return Err(format!("{path:?} is no insert log")) };
            fields.entry(field.clone()).or_default().extend(marks.iter().map(|mark| (mark.key, mark.timestamp)));
        }
        let Some(all) = fields.values().next().cloned() else { return Err("there is nothing to import".to_owned()) };
        if fields.len() != FIELDS.len() || fields.values().any(|field| *field != all) {
            return Err("some fields lack logs".to_owned());
        }
        let deletes: Vec<Mark> =
            self.logs_below(&import.delta_prefix).into_iter().flat_map(|(_, marks)| marks).collect();
        let is_deleted = |key: Key, at: u64| {
            deletes.iter().any(|delete| delete.key == key && delete.timestamp > at && delete.timestamp <= import.end)
        };
        let rows: Vec<Mark> = all
            .into_iter()
            .filter(|(key, at)| *at <= import.end && !is_deleted(*key, *at))
            .map(|(key, timestamp)| Mark { key, timestamp })
            .collect();
        let (count, keys) = (rows.len() as u64, rows.iter().map(|row| row.key).collect());
        let segment = (!rows.is_empty()).then(|| self.write_segment(import.collection, import.partition, rows));
        let ripe = now + TimeDelta::milliseconds(self.random.below(16_000).cast_signed());
        if let Ok(collection) = self.found(&name) {
            collection.stored.extend(segment);
            collection.ripening.push((ripe, keys));
        }
        Ok(count)
    }

    pub(crate) fn import_tasks(&mut self, name: &CollectionName) -> Result<ImportTasks, MilvusError> {
        let id = self.found(name)?.id;
        let tasks = self.imports.iter().filter(|(_, import)| import.collection == id).map(|(task, _)| *task);
        // As some of 2.4 do.
        let names_none = self.habits.has_l0 && !self.habits.tells_files;
        Ok(if names_none { ImportTasks::Unnamed } else { ImportTasks::Named(tasks.collect()) })
    }

    pub(crate) fn import_status(&mut self, task: i64, now: Time) -> Result<ImportStatus, MilvusError> {
        let import = self.imports.get(&task);
        let import = import.ok_or_else(|| MilvusError::Refused(format!("no import job {task}")))?;
        Ok(match &import.outcome {
            Some(Ok(rows)) => ImportStatus::Completed { rows: *rows },
            Some(Err(reason)) => ImportStatus::Failed(reason.clone()),
            None if now < import.begins => ImportStatus::Waiting,
            None => {
                let until = now.min(import.ends);
                ImportStatus::Running { progress: (until - import.begins).num_seconds().cast_unsigned() }
            }
        })
    }

    pub(crate) fn load(&mut self, name: &CollectionName, now: Time) -> Result<(), MilvusError> {
        let takes = TimeDelta::milliseconds(self.random.below(5_000).cast_signed());
        let collection = self.found(name)?;
        if !collection.is_loaded {
            collection.loaded_at = now + takes;
        }
        collection.is_loaded = true;
        Ok(())
    }

    pub(crate) fn loading(&mut self, name: &CollectionName, now: Time) -> Result<Pace, MilvusError> {
        let collection = self.found(name)?;
        Ok(match collection.is_loaded && collection.loaded_at <= now {
            true => Pace::Done,
            false => Pace::At(0),
        })
    }

    pub(crate) fn release(&mut self, name: &CollectionName) -> Result<(), MilvusError> {
        self.found(name)?.is_loaded = false;
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &CollectionName, to: &str) -> Result<(), MilvusError> {
        let to = CollectionName::new(&from.database, to);
        self.found(from)?;
        if self.collections.contains_key(&to) || self.aliases.contains_key(&to.collection) {
            return Err(MilvusError::Refused(format!("{to} exists")));
        }
        let Some(collection) = self.collections.remove(from) else { return Ok(()) };
        if let Some(life) = self.lives.get_mut(&collection.id) {
            life.name = to.clone();
        }
        self.collections.insert(to, collection);
        Ok(())
    }

    pub(crate) fn point_alias(&mut self, alias: &str, at: &CollectionName) -> Result<(), MilvusError> {
        let id = self.found(at)?.id;
        self.aliases.insert(alias.to_owned(), id);
        Ok(())
    }

    /// From 2.4 on, a collection that has an alias can't be dropped.
    pub(crate) fn keeps_from_dropping(&self, id: i64) -> bool {
        self.habits.has_l0 && self.aliases.values().any(|of| *of == id)
    }

    pub(crate) fn drop_alias(&mut self, alias: &str) {
        self.aliases.remove(alias);
    }

    pub(crate) fn alias_target(&self, alias: &str) -> Option<String> {
        self.name_of(*self.aliases.get(alias)?).map(|name| name.collection)
    }

    pub(crate) fn name_of(&self, id: i64) -> Option<CollectionName> {
        self.collections.iter().find(|(_, collection)| collection.id == id).map(|(name, _)| name.clone())
    }

    pub(crate) fn id_of(&self, name: &CollectionName) -> Option<i64> {
        self.collections.get(name).map(|collection| collection.id)
    }

    /// Every row of a collection, as often as it is stored, whether or not queries find it yet.
    pub(crate) fn all_rows(&self, id: i64) -> Option<Vec<Key>> {
        let collection = self.collections.values().find(|collection| collection.id == id)?;
        let mut rows: Vec<Key> =
            collection.stored.iter().flat_map(|segment| &segment.rows).map(|row| row.key).collect();
        rows.sort_unstable();
        Some(rows)
    }
}
