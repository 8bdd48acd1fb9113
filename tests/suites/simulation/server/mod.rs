//! A Milvus in memory: collections whose rows are in logs in object storage, as the real one's are.
//!
//! It keeps a journal of every collection, by id: each row with the times of its insertion and deletion, the names of the
//! collection, and its flushes. Backups are compared with this journal. Stored data is kept by id too; a name only leads to
//! an id, and may lead to another one a moment later.

mod answers;
mod habits;
mod imports;
mod restores;
mod rights;
mod storage;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::TimeDelta;
use milvault_harness::{MemoryObjects, Random};
use milvault_model::{CollectionName, FieldCapture, SegmentLevel, Time};
use milvault_ports::{Bucket, InsertLog, MilvusError, SegmentFiles};

use crate::{
    belongings::{Belongings, Right},
    fields::{Field, Values},
    journal::Journal,
};

pub(crate) use habits::{Habits, Lie};
pub(crate) use imports::ImportRequested;
pub(crate) use rights::{Changes, Wanted};
pub(crate) use storage::{Line, lines_of};

/// Milvus's root path.
pub(crate) const ROOT: &str = "files";

/// The least time from moving deletes of an L0 segment into a segment to the end of a compaction of that segment: the
/// server looks for finished compactions at this interval, and begins none of a segment in another one
/// (`dataCoord.compaction.checkInterval`).
const BETWEEN_COMPACTIONS: TimeDelta = TimeDelta::seconds(3);

pub(crate) type Key = u64;

/// A row or a delete: a primary key, its timestamp and, for a row, its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) key: Key,
    pub(crate) timestamp: u64,
    pub(crate) values: Values,
}

/// The values of a segment's rows, by field.
type Columns = BTreeMap<i64, BTreeMap<(Key, u64), u32>>;

struct Stored {
    id: i64,
    level: SegmentLevel,
    /// Until this time, no flush names the segment: it was sealed by policy.
    named_from: Time,
    /// The earliest time of a compaction of the segment.
    compacted_from: Time,
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
    /// By id.
    fields: Vec<Field>,
    partitions: Vec<i64>,
    /// The names of partitions that don't have the default name.
    partition_names: BTreeMap<i64, String>,
    is_loaded: bool,
    /// From this time on, queries find what was loaded.
    loaded_at: Time,
    /// Imported rows, with the time from which queries find them.
    ripening: Vec<(Time, BTreeSet<Key>)>,
    growing: Vec<(i64, Mark)>,
    buffered_deletes: Vec<Mark>,
    stored: Vec<Stored>,
    live: BTreeSet<Key>,
}

/// Where rows of a segment belong.
struct Place<'a> {
    collection: i64,
    fields: &'a [Field],
    partition: i64,
}

impl Collection {
    /// A collection without partitions or rows that isn't loaded.
    fn new(id: i64, fields: Vec<Field>, now: Time) -> Self {
        Self {
            id,
            created_at: now,
            fields,
            partitions: Vec::new(),
            partition_names: BTreeMap::new(),
            is_loaded: false,
            loaded_at: now,
            ripening: Vec::new(),
            growing: Vec::new(),
            buffered_deletes: Vec::new(),
            stored: Vec::new(),
            live: BTreeSet::new(),
        }
    }

    fn place(&self, partition: i64) -> Place<'_> {
        Place { collection: self.id, fields: &self.fields, partition }
    }

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

/// An object that garbage collection removes, and when.
pub(crate) type Doomed = (Time, String);

/// A flushed segment that is to be replaced by a sorted one.
struct Sorting {
    at: Time,
    collection: i64,
    segment: i64,
}

/// A collection that is listed but that no other call finds: it has the name of a dangling alias.
#[derive(Debug, Clone)]
pub(crate) struct Ghost {
    pub(crate) name: CollectionName,
    id: i64,
    error: MilvusError,
}

/// One server.
pub(crate) struct Server {
    pub(crate) bucket: Bucket,
    habits: Habits,
    /// Until this time, garbage collection removes nothing.
    pub(crate) held_until: Time,
    objects: Arc<MemoryObjects>,
    collections: BTreeMap<CollectionName, Collection>,
    next_id: i64,
    next_key: Key,
    last_timestamp: u64,
    /// Every log ever written.
    pub(crate) written: BTreeMap<String, Vec<u8>>,
    /// The true history of every collection.
    pub(crate) journal: Journal,
    aliases: BTreeMap<String, i64>,
    /// The aliases in cached descriptions: by id, with the name that the collection had.
    described_aliases: BTreeMap<i64, (CollectionName, Vec<String>)>,
    rights: BTreeSet<Right>,
    /// Users' changes of aliases and grants, numbered in order.
    pub(crate) changes: Changes,
    /// What belonged to each name when users last looked.
    pub(crate) believed_belongings: Belongings,
    imports: BTreeMap<i64, Import>,
    random: Random,
    /// A defect: what a restore built isn't removed before it is built again.
    pub(crate) keeps_what_it_is_to_drop: bool,
    /// The collections that users believe to exist, by name.
    pub(crate) believed: BTreeMap<CollectionName, i64>,
    sortings: Vec<Sorting>,
    /// The objects that garbage collection is to remove and that weren't taken yet.
    doomed: Vec<Doomed>,
    pub(crate) ghost: Option<Ghost>,
    now: Time,
    /// Until this time, the server doesn't answer.
    down_until: Time,
    /// Collections that aren't found until these times: their server has just started.
    hidden: BTreeMap<i64, Time>,
    /// When the server was restarted.
    pub(crate) starts: Vec<Time>,
    /// The lie that the server tells, if it lies.
    pub(crate) lie: Option<Lie>,
    /// What a lying server remembers: the id that it first listed with each name, and the segments that flushes named.
    first_ids: BTreeMap<CollectionName, i64>,
    named: BTreeSet<i64>,
    /// The fields that were requested for collections, by id, and the grants that were requested.
    wanted_fields: BTreeMap<i64, Vec<FieldCapture>>,
    wanted_rights: BTreeSet<Right>,
}

impl Server {
    /// Restored rows keep their keys across servers, so each server has its own keys, from `first_key` on.
    pub(crate) fn new(
        bucket: Bucket,
        objects: Arc<MemoryObjects>,
        habits: Habits,
        random: Random,
        first_key: Key,
    ) -> Self {
        Self {
            aliases: BTreeMap::new(),
            imports: BTreeMap::new(),
            random,
            keeps_what_it_is_to_drop: false,
            believed: BTreeMap::new(),
            sortings: Vec::new(),
            doomed: Vec::new(),
            ghost: None,
            now: Time::default(),
            down_until: Time::default(),
            hidden: BTreeMap::new(),
            starts: Vec::new(),
            lie: None,
            first_ids: BTreeMap::new(),
            named: BTreeSet::new(),
            wanted_fields: BTreeMap::new(),
            wanted_rights: BTreeSet::new(),
            described_aliases: BTreeMap::new(),
            rights: BTreeSet::new(),
            changes: Changes::default(),
            believed_belongings: Belongings::default(),
            bucket,
            objects,
            habits,
            held_until: Time::default(),
            collections: BTreeMap::new(),
            next_id: 449_000_000_000_000_000,
            next_key: first_key,
            last_timestamp: 0,
            written: BTreeMap::new(),
            journal: Journal::default(),
        }
    }

    fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    /// A hybrid timestamp later than every earlier one.
    fn timestamp(&mut self, now: Time) -> u64 {
        self.last_timestamp = (now.timestamp_millis().cast_unsigned() << 18).max(self.last_timestamp + 1);
        self.last_timestamp
    }

    pub(crate) fn names(&self) -> Vec<CollectionName> {
        self.collections.keys().cloned().collect()
    }

    fn found(&mut self, name: &CollectionName) -> Result<&mut Collection, MilvusError> {
        if let Some(ghost) = self.ghost.as_ref().filter(|ghost| ghost.name == *name) {
            return Err(ghost.error.clone());
        }
        let (now, hidden) = (self.now, &self.hidden);
        let is_hidden = |collection: &Collection| hidden.get(&collection.id).is_some_and(|until| *until > now);
        match self.collections.get_mut(name) {
            Some(collection) if is_hidden(collection) => {
                Err(MilvusError::NotReady(format!("{name} is listed, but can't be described")))
            }
            found => found.ok_or_else(|| MilvusError::NoCollection(name.clone())),
        }
    }

    /// Whether the server answers at all.
    pub(crate) fn answers(&self) -> Result<(), MilvusError> {
        match self.down_until > self.now {
            true => Err(MilvusError::Unreachable("it is starting".to_owned())),
            false => Ok(()),
        }
    }

    /// Whether what the server tells of its collections is true.
    pub(crate) fn is_sound(&self) -> bool {
        matches!(self.lie, None | Some(Lie::NoImports))
    }

    /// Whether imports bring their rows.
    pub(crate) fn brings_rows(&self) -> bool {
        self.lie != Some(Lie::NoImports)
    }

    /// Whether the server accepts changes.
    pub(crate) fn takes_changes(&self) -> Result<(), MilvusError> {
        match self.hidden.values().any(|until| *until > self.now) {
            true => Err(MilvusError::Unreachable("it isn't ready".to_owned())),
            false => Ok(()),
        }
    }

    /// Does what happens by itself until now.
    pub(crate) fn tick(&mut self, now: Time) {
        self.now = now;
        let (due, rest) = std::mem::take(&mut self.sortings).into_iter().partition(|sorting| sorting.at <= now);
        self.sortings = rest;
        let mut due: Vec<Sorting> = due;
        due.sort_by_key(|sorting| (sorting.at, sorting.segment));
        for sorting in due {
            self.sort(sorting);
        }
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
                // The rows of a forgotten import exist all the same.
                Fate::IsForgotten => {
                    drop(self.load_rows(&import, now));
                    continue;
                }
            };
            self.imports.insert(task, import);
        }
    }

    pub(crate) fn name_of(&self, id: i64) -> Option<CollectionName> {
        self.collections.iter().find(|(_, collection)| collection.id == id).map(|(name, _)| name.clone())
    }

    pub(crate) fn id_of(&self, name: &CollectionName) -> Option<i64> {
        self.collections.get(name).map(|collection| collection.id)
    }
}
