//! A Milvus in memory: collections whose rows are in logs in object storage, as the real one's are.
//!
//! It keeps a journal of every collection, by its id: each row with when it was written and deleted, the names that the
//! collection had, and its flushes. That is what a backup is held against. By the same id the server keeps what it has
//! stored; names only lead there, and may lead elsewhere a moment later.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use futures::FutureExt;
use milvault_memory::{
    MemoryObjects,
    binlog::{Column, Nullability, Of, encode, note},
};
use milvault_model::{
    CollectionCapture, CollectionName, FieldCapture, FieldPresence, IndexCapture, Loaded, PartitionCapture, PrimaryKey,
    Principal, SegmentLevel, StorageVersion, Time, Visibility,
};
use milvault_ports::{
    Bucket, CollectionDescription, FlushResult, GarbageHold, ImportStatus, ImportTasks, InsertLog, MilvusError,
    Objects, Pace, PutMode, Segment, SegmentFiles,
};

use crate::{
    belongings::{Belongings, Right},
    fields::{self, Field, Values},
    journal::Journal,
    random::Random,
};

/// Milvus's root path.
pub(crate) const ROOT: &str = "files";

/// How long it takes after deletes have come to a segment from one of their own until a compaction of it can be over:
/// the server looks every so many milliseconds for which compactions are, and begins none of a segment that has another
/// one (`dataCoord.compaction.checkInterval`).
const BETWEEN_COMPACTIONS: TimeDelta = TimeDelta::seconds(3);

pub(crate) type Key = u64;

/// A primary key and when it was written or deleted; of a row, with its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) key: Key,
    pub(crate) timestamp: u64,
    pub(crate) values: Values,
}

/// A line of a log: a primary key, when it was written or deleted, and a field's value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) key: Key,
    pub(crate) timestamp: u64,
    pub(crate) value: u32,
}

/// The rows or deletes of a log; `None` for what isn't one.
pub(crate) fn lines_of(log: &[u8]) -> Option<Vec<Line>> {
    let lines = std::str::from_utf8(note(log)?).ok()?.lines();
    lines
        .map(|line| {
            let mut parts = line.split(' ');
            let (key, timestamp) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(Line { key, timestamp, value: parts.next()?.parse().ok()? })
        })
        .collect()
}

/// The values of a segment's rows, by field.
type Columns = BTreeMap<i64, BTreeMap<(Key, u64), u32>>;

struct Stored {
    id: i64,
    level: SegmentLevel,
    /// A segment that was sealed by policy isn't named by flushes until then.
    named_from: Time,
    /// It can't be compacted before.
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

/// An object that garbage collection removes, and when.
pub(crate) type Doomed = (Time, String);

/// A flushed segment that is to be replaced by a sorted one.
struct Sorting {
    at: Time,
    collection: i64,
    segment: i64,
}

/// A collection that is listed, and that no call about it finds: it was made under the name of a dangling alias.
#[derive(Debug, Clone)]
pub(crate) struct Ghost {
    pub(crate) name: CollectionName,
    id: i64,
    error: MilvusError,
}

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
    /// Within how many milliseconds a flushed segment is replaced by a sorted one, if it is.
    pub(crate) sorts_within: Option<u64>,
    /// Whether a flush names what was flushed before it.
    pub(crate) names_flushed: bool,
    /// For how many milliseconds a flush doesn't name a segment that was sealed by policy.
    pub(crate) hides_sealed_for: u64,
    /// Whether there is a collection that can't be described.
    pub(crate) is_haunted: bool,
    /// Whether the user who asks sees every collection.
    pub(crate) shows_all: bool,
    /// Whether fields can be added to collections.
    pub(crate) adds_fields: bool,
    /// Whether descriptions have the aliases of when a collection was first described under its name.
    pub(crate) caches_aliases: bool,
    /// Whether grants on a collection go along when it is renamed, and end with it.
    pub(crate) moves_grants: bool,
    /// How many roles there are.
    pub(crate) roles: usize,
    /// Whether the user who asks may ask for roles.
    pub(crate) tells_roles: bool,
    /// Whether it refuses to let the last of the roles do anything.
    pub(crate) refuses_grants: bool,
}

impl Habits {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let has_l0 = random.permille(400);
        Self {
            gc_tolerance: TimeDelta::seconds(*random.pick(&[3 * 3600, 120, 10]).unwrap_or(&0)),
            has_l0,
            tells_files: random.permille(500),
            can_hold: random.permille(300),
            // These came with 2.5 and 2.6.
            sorts_within: if has_l0 { *random.pick(&[None, Some(300), Some(4_000)]).unwrap_or(&None) } else { None },
            names_flushed: !has_l0 || random.permille(500),
            hides_sealed_for: if has_l0 { *random.pick(&[0, 2_000, 10_000]).unwrap_or(&0) } else { 0 },
            is_haunted: random.permille(40),
            shows_all: !random.permille(40),
            // These came with 2.6.
            adds_fields: has_l0 && random.permille(600),
            caches_aliases: has_l0 && random.permille(500),
            moves_grants: has_l0 && random.permille(600),
            roles: *random.pick(&[0, 1, 2]).unwrap_or(&0),
            tells_roles: !random.permille(60),
            refuses_grants: random.permille(100),
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
    /// Every log ever written.
    pub(crate) written: BTreeMap<String, Vec<u8>>,
    /// What was true of every collection that there ever was.
    pub(crate) journal: Journal,
    aliases: BTreeMap<String, i64>,
    /// What descriptions say of aliases that are kept: by id, for the name that the collection had.
    described_aliases: BTreeMap<i64, (CollectionName, Vec<String>)>,
    rights: BTreeSet<Right>,
    /// What users have done about aliases and grants, in its order.
    pub(crate) changes: Changes,
    /// What belonged to names when users last looked.
    pub(crate) believed_belongings: Belongings,
    imports: BTreeMap<i64, Import>,
    random: Random,
    /// A defect: what a restore built is not removed before it is built again.
    pub(crate) keeps_what_it_is_to_drop: bool,
    /// The collections that users take to be there, by the names that they know.
    pub(crate) believed: BTreeMap<CollectionName, i64>,
    sortings: Vec<Sorting>,
    /// What garbage collection is to remove, until somebody sees to it.
    doomed: Vec<Doomed>,
    pub(crate) ghost: Option<Ghost>,
    now: Time,
    /// It doesn't answer until then.
    down_until: Time,
    /// Collections that aren't found until then: their server has just started.
    hidden: BTreeMap<i64, Time>,
    /// What it tells that isn't so.
    pub(crate) lie: Option<Lie>,
    /// What a lying server remembers: the ids that it first listed with names, and what it named as flushed.
    first_ids: BTreeMap<CollectionName, i64>,
    named: BTreeSet<i64>,
    /// The fields that were wanted of collections, by their ids, and the grants that were asked for.
    wanted_fields: BTreeMap<i64, Vec<FieldCapture>>,
    wanted_rights: BTreeSet<Right>,
}

/// What a server, or the adapter that speaks with it, tells that isn't so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Whatever has a name now is given the id that was first listed with the name.
    IdsByName,
    /// Segments that no flush has named aren't listed.
    OnlyNamedSegments,
    /// Some collections aren't listed, and who asks sees all.
    PartForEverything,
    /// Some of its files can't be listed.
    LostFiles,
    /// A collection has the aliases that its description says.
    DescribedAliases,
    /// A collection's fields have the ids that were wanted, though they were given by their places.
    FieldsByPlace,
    /// What is to be granted is.
    Grants,
    /// What was imported is there.
    Imports,
    /// Every import is completed, and has brought no row.
    NoImports,
}

impl Server {
    /// Rows that are restored from one server into another keep their keys, so each needs keys of its own, from this one on.
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

    /// A hybrid timestamp that was never given before.
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
        let found = self.collections.get_mut(name).filter(|collection| !is_hidden(collection));
        found.ok_or_else(|| MilvusError::NoCollection(name.clone()))
    }

    pub(crate) fn create(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        if self.collections.contains_key(name) {
            return;
        }
        let id = self.id();
        let partitions = (0..random.between(1, 2)).map(|_| self.id()).collect();
        let fields = fields::by_place(if random.permille(500) { &fields::WITH_DYNAMIC } else { &fields::LEAST });
        self.journal.begin(id, name, now);
        self.journal.has_fields(id, &fields);
        let collection = Collection {
            id,
            created_at: now,
            fields,
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
        self.believed.insert(name.clone(), id);
        self.collections.insert(name.clone(), collection);
    }

    /// A user drops a collection.
    pub(crate) fn drop_believed(&mut self, name: &CollectionName, now: Time) {
        self.believed.remove(name);
        self.touch(name);
        self.drop_collection(name, now);
    }

    /// What belongs to a name may be another's from now on.
    fn touch(&mut self, name: &CollectionName) {
        let id = self.id_of(name);
        for (alias, _) in self.aliases.iter().filter(|(_, of)| Some(**of) == id) {
            self.changes.of_alias(alias);
        }
        if self.habits.moves_grants {
            Right::all_on(name).for_each(|right| self.changes.of_right(right, Wanted::Open));
        }
    }

    pub(crate) fn drop_collection(&mut self, name: &CollectionName, now: Time) {
        let Some(collection) = self.collections.remove(name) else { return };
        self.journal.end(collection.id, now);
        self.aliases.retain(|_, of| *of != collection.id);
        if self.habits.moves_grants {
            self.rights.retain(|right| right.name != name.collection);
        }
        self.doom(&collection.stored, now);
    }

    /// A user gives a collection another name; if that one is taken, the two swap their names.
    pub(crate) fn rename_believed(&mut self, from: &CollectionName, to: &CollectionName, now: Time) {
        let is_an_alias = self.aliases.contains_key(&to.collection);
        if is_an_alias || from == to || !self.collections.contains_key(from) {
            return;
        }
        self.touch(from);
        self.touch(to);
        let other = self.collections.remove(to);
        self.believed.remove(to);
        // By way of a third name.
        let aside = CollectionName::new(&to.database, "aside");
        if other.is_some() {
            self.move_rights(to, &aside);
        }
        self.move_believed(from, to, now);
        if let Some(other) = other {
            self.collections.insert(from.clone(), other);
            self.move_believed(from, from, now);
        }
        self.move_rights(&aside, from);
    }

    /// Grants go along with a collection, where they do.
    fn move_rights(&mut self, from: &CollectionName, to: &CollectionName) {
        if self.habits.moves_grants && from != to {
            let moved: Vec<Right> = self.rights.extract_if(.., |right| right.name == from.collection).collect();
            self.rights.extend(moved.into_iter().map(|right| Right { name: to.collection.clone(), ..right }));
        }
    }

    fn move_believed(&mut self, from: &CollectionName, to: &CollectionName, now: Time) {
        let Some(collection) = self.collections.remove(from) else { return };
        self.believed.remove(from);
        self.believed.insert(to.clone(), collection.id);
        self.journal.rename(collection.id, to, now);
        self.collections.insert(to.clone(), collection);
        self.move_rights(from, to);
    }

    /// It starts anew: for a while it doesn't answer, and then finds one collection after the other.
    pub(crate) fn restart(&mut self, random: &mut Random, now: Time) {
        let mut later = |from: Time, most: u64| from + TimeDelta::milliseconds(random.below(most).cast_signed());
        self.down_until = later(now, 4_000);
        self.hidden = self.collections.values().map(|of| (of.id, later(self.down_until, 6_000))).collect();
    }

    /// Whether it answers at all.
    pub(crate) fn answers(&self) -> Result<(), MilvusError> {
        match self.down_until > self.now {
            true => Err(MilvusError::Unreachable("it is starting".to_owned())),
            false => Ok(()),
        }
    }

    /// Whether what it tells of its collections is so.
    pub(crate) fn is_sound(&self) -> bool {
        matches!(self.lie, None | Some(Lie::NoImports))
    }

    /// Whether what was imported is there.
    pub(crate) fn brings_rows(&self) -> bool {
        self.lie != Some(Lie::NoImports)
    }

    /// Whether it takes changes.
    pub(crate) fn takes_changes(&self) -> Result<(), MilvusError> {
        match self.hidden.values().any(|until| *until > self.now) {
            true => Err(MilvusError::Unreachable("it isn't ready".to_owned())),
            false => Ok(()),
        }
    }

    /// Has a collection, from the beginning on, that can't be described.
    pub(crate) fn haunt(&mut self, name: CollectionName, random: &mut Random) {
        let error = match random.permille(500) {
            true => MilvusError::NotReady("no such collection with this alias".to_owned()),
            false => MilvusError::Refused("no such collection with this alias".to_owned()),
        };
        self.ghost = Some(Ghost { name, id: self.id(), error });
    }

    pub(crate) fn insert(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        for _ in 0..random.between(1, 6) {
            let timestamp = self.timestamp(now);
            let key = self.next_key;
            self.next_key += 1;
            let Some(collection) = self.collections.get_mut(name) else { return };
            let partition = random.pick(&collection.partitions).copied().unwrap_or_default();
            let row = Mark { key, timestamp, values: Values::of(&collection.fields) };
            collection.growing.push((partition, row));
            collection.live.insert(key);
            self.journal.insert(collection.id, row);
        }
    }

    pub(crate) fn delete(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        for _ in 0..random.between(1, 3) {
            let timestamp = self.timestamp(now);
            let Some(collection) = self.collections.get_mut(name) else { return };
            let live: Vec<Key> = collection.live.iter().copied().collect();
            let Some(key) = random.pick(&live).copied() else { return };
            let delete = Mark { key, timestamp, values: Values::default() };
            collection.live.remove(&key);
            collection.buffered_deletes.push(delete);
            self.journal.delete(collection.id, delete);
        }
    }

    /// Writes out what is growing in some partition, as it does by itself when a segment is full.
    pub(crate) fn seal_by_policy(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        let Some(mut collection) = self.collections.remove(name) else { return };
        let partition = random.pick(&collection.partitions).copied().unwrap_or_default();
        let named_from = now + TimeDelta::milliseconds(random.below(self.habits.hides_sealed_for).cast_signed());
        for segment in self.write_growing(&mut collection, &[partition], now) {
            collection.stored.push(Stored { named_from, ..segment });
        }
        self.collections.insert(name.clone(), collection);
    }

    /// Writes out the rows that grow in these partitions.
    fn write_growing(&mut self, collection: &mut Collection, partitions: &[i64], now: Time) -> Vec<Stored> {
        let mut written = Vec::new();
        for partition in partitions {
            let (rows, rest) = std::mem::take(&mut collection.growing).into_iter().partition(|(of, _)| of == partition);
            collection.growing = rest;
            let rows: Vec<(i64, Mark)> = rows;
            if rows.is_empty() {
                continue;
            }
            let rows = rows.into_iter().map(|(_, row)| row).collect();
            let segment = self.write_segment(collection.id, &collection.fields, *partition, rows, now);
            if let Some(within) = self.habits.sorts_within {
                let at = now + TimeDelta::milliseconds(self.random.below(within).cast_signed());
                self.sortings.push(Sorting { at, collection: collection.id, segment: segment.id });
            }
            written.push(segment);
        }
        written
    }

    /// Seals what is growing and writes it out, with the deletes of until now; answers what it wrote.
    pub(crate) fn seal(&mut self, name: &CollectionName, now: Time) -> Vec<i64> {
        let Some(mut collection) = self.collections.remove(name) else { return Vec::new() };
        let partitions = collection.partitions.clone();
        let segments = self.write_growing(&mut collection, &partitions, now);
        let sealed = segments.iter().map(|segment| segment.id).collect();
        collection.stored.extend(segments);
        let deletes = std::mem::take(&mut collection.buffered_deletes);
        if self.habits.has_l0 {
            if !deletes.is_empty() {
                let segment = self.write_deletes(collection.id, deletes, now);
                collection.stored.push(segment);
            }
        } else {
            self.add_deletes(&mut collection, &deletes, now);
        }
        self.collections.insert(name.clone(), collection);
        sealed
    }

    /// Replaces a flushed segment by a sorted one, without the rows that are deleted by now.
    fn sort(&mut self, sorting: Sorting) {
        let Some(name) = self.name_of(sorting.collection) else { return };
        let Some(mut collection) = self.collections.remove(&name) else { return };
        if let Some(place) = collection.stored.iter().position(|segment| segment.id == sorting.segment) {
            let at = collection.stored[place].compacted_from;
            if at > sorting.at {
                self.collections.insert(name, collection);
                return self.sortings.push(Sorting { at, ..sorting });
            }
            let unsorted = collection.stored.remove(place);
            let merged = self.merged(&collection, std::slice::from_ref(&unsorted), sorting.at);
            collection.stored.extend(merged);
            self.doom(&[unsorted], sorting.at);
        }
        self.collections.insert(name, collection);
    }

    /// One segment with the rows of these, which are of one partition, that aren't deleted by now.
    fn merged(&mut self, collection: &Collection, segments: &[Stored], now: Time) -> Option<Stored> {
        let partition = segments.first()?.partition;
        let is_deleted = |row: &Mark| segments.iter().any(|s| s.deletes.iter().any(|delete| delete.key == row.key));
        let rows: Vec<Mark> = segments.iter().flat_map(|s| &s.rows).filter(|row| !is_deleted(row)).copied().collect();
        (!rows.is_empty()).then(|| self.write_segment(collection.id, &collection.fields, partition, rows, now))
    }

    /// A segment of deletes in any partition.
    fn write_deletes(&mut self, collection: i64, deletes: Vec<Mark>, now: Time) -> Stored {
        let (id, log) = (self.id(), self.id());
        let logs = vec![self.write_log(&format!("delta_log/{collection}/-1/{id}/{log}"), Field::SYSTEM[0], &deletes)];
        Stored {
            id,
            level: SegmentLevel::L0,
            named_from: now,
            compacted_from: now,
            partition: -1,
            rows: Vec::new(),
            deletes,
            logs,
        }
    }

    /// Writes deletes to the segments that have the rows, which aren't compacted before that time.
    fn add_deletes(&mut self, collection: &mut Collection, deletes: &[Mark], compacted_from: Time) {
        for segment in &mut collection.stored {
            let of_segment: Vec<Mark> =
                deletes.iter().filter(|delete| segment.rows.iter().any(|row| row.key == delete.key)).copied().collect();
            if !of_segment.is_empty() {
                let log = self.id();
                let place = format!("delta_log/{}/{}/{}/{log}", collection.id, segment.partition, segment.id);
                segment.logs.push(self.write_log(&place, Field::SYSTEM[0], &of_segment));
                segment.deletes.extend(of_segment);
                segment.compacted_from = compacted_from;
            }
        }
    }

    fn write_segment(
        &mut self,
        collection: i64,
        fields: &[Field],
        partition: i64,
        rows: Vec<Mark>,
        now: Time,
    ) -> Stored {
        let id = self.id();
        let mut logs = Vec::new();
        for field in Field::SYSTEM.iter().chain(fields) {
            for part in rows.chunks(4) {
                let log = self.id();
                let place = format!("insert_log/{collection}/{partition}/{id}/{}/{log}", field.id);
                logs.push(self.write_log(&place, *field, part));
            }
        }
        // Statistics aren't part of a backup.
        let place = format!("stats_log/{collection}/{partition}/{id}/100/1");
        logs.push(self.write_log(&place, Field::SYSTEM[0], &rows));
        Stored {
            id,
            level: SegmentLevel::Data,
            named_from: now,
            compacted_from: now,
            partition,
            rows,
            deletes: Vec::new(),
            logs,
        }
    }

    fn write_log(&mut self, place: &str, field: Field, marks: &[Mark]) -> String {
        let number = |at: usize| place.split('/').nth(at).and_then(|part| part.parse().ok()).unwrap_or_default();
        let of = Of { collection: number(1), partition: number(2), segment: number(3), field: field.id };
        let nullability = if self.habits.has_l0 { Nullability::Told } else { Nullability::Untold };
        let times: Vec<u64> = marks.iter().map(|mark| mark.timestamp).collect();
        let mut lines = String::new();
        for Mark { key, timestamp, values } in marks {
            let _ = writeln!(lines, "{key} {timestamp} {}", field.value_in(*values));
        }
        let rows: Vec<(i64, u64)> = marks.iter().map(|mark| (mark.key.cast_signed(), mark.timestamp)).collect();
        let column = match place.starts_with("delta_log/") {
            true => Column::of_deletes(&rows),
            false => Column::of_field(field.id, &rows),
        };
        let body = encode(of, nullability, &times, &[(None, column)], lines.as_bytes());
        let key = format!("{ROOT}/{place}");
        let put = self.objects.put(&self.bucket, &key, body.clone(), PutMode::IfAbsent).now_or_never();
        assert!(matches!(put, Some(Ok(_))), "{put:?}");
        self.written.insert(place.to_owned(), body);
        key
    }

    /// Merges segments of a partition into a new one, without the rows that are deleted by now.
    pub(crate) fn compact(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        let Some(mut collection) = self.collections.remove(name) else { return };
        // Deletes in segments of their own first go to the segments that have the rows.
        let (l0, rest): (Vec<Stored>, Vec<Stored>) =
            std::mem::take(&mut collection.stored).into_iter().partition(|segment| segment.level == SegmentLevel::L0);
        if !l0.is_empty() && random.permille(600) {
            collection.stored = rest;
            for segment in &l0 {
                self.add_deletes(&mut collection, &segment.deletes, now + BETWEEN_COMPACTIONS);
            }
            self.doom(&l0, now);
        } else {
            let partition = random.pick(&collection.partitions).copied().unwrap_or_default();
            let is_source = |segment: &Stored| segment.partition == partition && segment.compacted_from <= now;
            let (sources, kept): (Vec<Stored>, Vec<Stored>) = rest.into_iter().partition(is_source);
            let merged = self.merged(&collection, &sources, now);
            collection.stored.extend(kept.into_iter().chain(l0).chain(merged));
            self.doom(&sources, now);
        }
        self.collections.insert(name.clone(), collection);
    }

    /// The logs of dropped segments go one by one, in no order.
    fn doom(&mut self, segments: &[Stored], now: Time) {
        let begins = now + self.habits.gc_tolerance;
        for key in segments.iter().flat_map(|segment| &segment.logs) {
            let at = begins + TimeDelta::milliseconds(self.random.below(20_000).cast_signed());
            self.doomed.push((at, key.clone()));
        }
    }

    /// What garbage collection is to remove that it wasn't asked for before.
    pub(crate) fn take_doomed(&mut self) -> Vec<Doomed> {
        std::mem::take(&mut self.doomed)
    }

    /// When it next does something by itself that others notice.
    pub(crate) fn next_sorting(&self) -> Option<Time> {
        self.sortings.iter().map(|sorting| sorting.at).min()
    }

    /// The names and ids that it lists.
    pub(crate) fn listed(&mut self) -> Vec<(CollectionName, i64)> {
        let all = self.collections.iter().map(|(name, collection)| (name.clone(), collection.id));
        let ghost = self.ghost.iter().map(|ghost| (ghost.name.clone(), ghost.id));
        let listed: Vec<_> = all.filter(|(_, id)| self.lists(*id)).chain(ghost).collect();
        for (name, id) in &listed {
            self.first_ids.entry(name.clone()).or_insert(*id);
        }
        listed.into_iter().map(|(name, id)| (name.clone(), self.told_id(&name, id))).collect()
    }

    /// The id that is told of what has this name.
    fn told_id(&self, name: &CollectionName, id: i64) -> i64 {
        match self.lie {
            Some(Lie::IdsByName) => self.first_ids.get(name).copied().unwrap_or(id),
            _ => id,
        }
    }

    /// As it reports it.
    pub(crate) fn version(&self) -> &'static str {
        if self.habits.has_l0 { "2.5.4-0.1.1_3.2" } else { "2.3.5-lite" }
    }

    /// As whom it answers.
    pub(crate) fn principal(&self) -> Principal {
        let visibility = match self.habits.shows_all {
            true => Visibility::Everything,
            false => Visibility::Unsure { reason: "it may not describe everything".to_owned() },
        };
        Principal { user: Some("backup".to_owned()), visibility }
    }

    /// Whether who asks sees this collection.
    pub(crate) fn lists(&self, id: i64) -> bool {
        let shows_all = self.habits.shows_all && self.lie != Some(Lie::PartForEverything);
        shows_all || id % 3 != 0
    }

    /// Whether who asks sees all, or is said to.
    pub(crate) fn shows_all(&self) -> bool {
        self.habits.shows_all
    }

    pub(crate) fn describe(&mut self, name: &CollectionName) -> Result<CollectionDescription, MilvusError> {
        let id = self.found(name)?.id;
        let told_id = self.told_id(name, id);
        let aliases = self.described_aliases(name, id);
        let wanted_fields = self.wanted_fields.get(&id).cloned();
        let adds_fields = self.habits.adds_fields;
        let collection = self.found(name)?;
        let index = IndexCapture { name: "vector".to_owned(), field: "vector".to_owned(), params: Vec::new() };
        let partitions = collection.partitions.iter();
        Ok(CollectionDescription {
            id: told_id,
            name: name.clone(),
            schema: format!("schema of {name}, made at {}", collection.created_at).into_bytes(),
            primary_key: "id".to_owned(),
            fields: wanted_fields.unwrap_or_else(|| {
                let presence = |field: &Field| match adds_fields && field.may_be_added() {
                    true => FieldPresence::SinceAdded,
                    false => FieldPresence::Always,
                };
                let capture = |field: &Field| FieldCapture {
                    id: field.id,
                    name: field.name().to_owned(),
                    presence: presence(field),
                };
                collection.fields.iter().map(capture).collect()
            }),
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
        let sealed = self.seal(name, now);
        let timestamp = self.timestamp(now);
        let names_flushed = self.habits.names_flushed;
        let collection = self.found(name)?;
        let data = collection.stored.iter().filter(|segment| segment.level == SegmentLevel::Data);
        let named = data.filter(|segment| sealed.contains(&segment.id) || (names_flushed && segment.named_from <= now));
        let (id, segments) = (collection.id, named.map(|segment| segment.id).collect::<Vec<_>>());
        self.journal.flush(id, timestamp);
        self.named.extend(&segments);
        let (sealed, flushed) = segments.into_iter().partition(|id| sealed.contains(id));
        Ok(FlushResult { timestamp, sealed, flushed })
    }

    /// Some flushes are over at once, and some take up to a second.
    pub(crate) fn is_flushed(&mut self, name: &CollectionName, timestamp: u64, now: Time) -> Result<bool, MilvusError> {
        self.found(name)?;
        let flushed_at = i64::try_from(timestamp >> 18).expect("times are small");
        Ok(now.timestamp_millis() - flushed_at >= flushed_at % 4 * 300)
    }

    pub(crate) fn segments(&mut self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError> {
        let (lie, named) = (self.lie, self.named.clone());
        let is_listed = |segment: &&Stored| {
            lie != Some(Lie::OnlyNamedSegments) || named.contains(&segment.id) || segment.rows.is_empty()
        };
        let id = self.found(name)?.id;
        let collection_id = self.told_id(name, id);
        let segments = self.found(name)?.stored.iter().filter(is_listed);
        Ok(segments
            .map(|segment| Segment {
                id: segment.id,
                collection_id,
                partition_id: segment.partition,
                rows: segment.rows.len() as u64,
                is_flushed: true,
                is_sorted: false,
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
                // Its rows are there all the same.
                Fate::IsForgotten => {
                    drop(self.load_rows(&import, now));
                    continue;
                }
            };
            self.imports.insert(task, import);
        }
    }

    /// Makes a collection with the first so many of these fields, whose ids it gives by their places.
    pub(crate) fn make(
        &mut self,
        name: &CollectionName,
        capture: &CollectionCapture,
        fields: &[usize],
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
        let fields = fields::by_place(fields);
        self.journal.begin(id, name, now);
        self.journal.has_fields(id, &fields);
        if self.lie == Some(Lie::FieldsByPlace) {
            self.wanted_fields.insert(id, capture.fields.clone());
        }
        let collection = Collection {
            id,
            created_at: now,
            fields,
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
        self.collections.insert(name.clone(), collection);
        Ok(())
    }

    /// Adds a field to a collection, with the id after all others.
    pub(crate) fn add_field(&mut self, name: &CollectionName, field: usize) -> Result<(), MilvusError> {
        if !self.habits.adds_fields {
            return Err(MilvusError::Refused("fields can't be added".to_owned()));
        }
        let collection = self.found(name)?;
        if collection.fields.iter().any(|other| other.place == field) {
            return Err(MilvusError::Refused(format!("{name} has that field")));
        }
        let last = collection.fields.iter().map(|field| field.id).max().unwrap_or_default();
        collection.fields.push(Field { id: last + 1, place: field });
        let (id, fields) = (collection.id, collection.fields.clone());
        self.journal.has_fields(id, &fields);
        self.described_aliases.remove(&id);
        Ok(())
    }

    /// A user adds a field that the collection doesn't have yet, if there is one.
    pub(crate) fn add_another_field(&mut self, name: &CollectionName) -> Result<(), MilvusError> {
        let collection = self.found(name)?;
        let is_new = |place: &usize| !collection.fields.iter().any(|field| field.place == *place);
        match fields::ADDED.into_iter().find(is_new) {
            Some(place) => self.add_field(name, place),
            None => Ok(()),
        }
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

    /// The lines of the logs below a prefix, by the segment and, of rows, the field.
    fn logs_below(&self, prefix: &str) -> Vec<(Vec<String>, Vec<Line>)> {
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
                found.push((path, lines_of(&body).expect("a log")));
            }
            if !listing.more {
                return found;
            }
        }
    }

    /// The columns of the insert logs below a prefix, by segment and field.
    fn segments_below(&self, prefix: &str) -> Result<BTreeMap<String, Columns>, String> {
        let mut segments: BTreeMap<String, Columns> = BTreeMap::new();
        for (path, lines) in self.logs_below(prefix) {
            let [segment, field, _] = path.as_slice() else { return Err(format!("{path:?} is no insert log")) };
            let field = field.parse().map_err(|_| format!("{field} is no field"))?;
            let column = segments.entry(segment.clone()).or_default().entry(field).or_default();
            column.extend(lines.iter().map(|line| ((line.key, line.timestamp), line.value)));
        }
        Ok(segments)
    }

    fn load_rows(&mut self, import: &Import, now: Time) -> Result<u64, String> {
        let Some(name) = self.name_of(import.collection) else { return Err("the collection was dropped".to_owned()) };
        let fields = self.collections.get(&name).map(|found| found.fields.clone()).unwrap_or_default();
        let mut all: BTreeMap<(Key, u64), Values> = BTreeMap::new();
        for columns in self.segments_below(&import.insert_prefix)?.into_values() {
            let rows: BTreeSet<(Key, u64)> =
                columns.get(&Field::SYSTEM[0].id).map(|column| column.keys().copied().collect()).unwrap_or_default();
            let may_lack = |field: &Field| self.habits.adds_fields && field.may_be_added();
            let is_lacking = |field: &Field| match columns.get(&field.id) {
                Some(column) => !column.keys().eq(&rows),
                None => !may_lack(field),
            };
            if Field::SYSTEM.iter().chain(&fields).any(is_lacking) {
                return Err("some fields lack logs".to_owned());
            }
            // Columns go where their ids are, whatever is in them.
            for row in rows {
                let value = |field: &Field| columns.get(&field.id)?.get(&row).copied();
                let values = fields.iter().filter_map(|field| Some((*field, value(field)?)));
                all.insert(row, Values::from_columns(values));
            }
        }
        if all.is_empty() {
            return Err("there is nothing to import".to_owned());
        }
        let deletes: Vec<Line> =
            self.logs_below(&import.delta_prefix).into_iter().flat_map(|(_, lines)| lines).collect();
        let is_deleted = |key: Key, at: u64| {
            deletes.iter().any(|delete| delete.key == key && delete.timestamp > at && delete.timestamp <= import.end)
        };
        let is_brought = self.lie != Some(Lie::NoImports);
        let rows: Vec<Mark> = all
            .into_iter()
            .filter(|((key, at), _)| is_brought && *at <= import.end && !is_deleted(*key, *at))
            .map(|((key, timestamp), values)| Mark { key, timestamp, values })
            .collect();
        let (count, keys) = (rows.len() as u64, rows.iter().map(|row| row.key).collect());
        let is_kept = self.lie != Some(Lie::Imports);
        for row in rows.iter().filter(|_| is_kept) {
            self.journal.insert(import.collection, *row);
        }
        let segment = (is_kept && !rows.is_empty())
            .then(|| self.write_segment(import.collection, &fields, import.partition, rows, now));
        let ripe = now + TimeDelta::milliseconds(self.random.below(16_000).cast_signed());
        if let Some(collection) = self.collections.get_mut(&name) {
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

    pub(crate) fn rename(&mut self, from: &CollectionName, to: &str, now: Time) -> Result<(), MilvusError> {
        let to = CollectionName::new(&from.database, to);
        self.found(from)?;
        if self.collections.contains_key(&to) || self.aliases.contains_key(&to.collection) {
            return Err(MilvusError::Refused(format!("{to} exists")));
        }
        let Some(collection) = self.collections.remove(from) else { return Ok(()) };
        self.journal.rename(collection.id, &to, now);
        self.move_rights(from, &to);
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

    /// The fields of which a segment's rows were ever written.
    pub(crate) fn fields_written(&self, collection: i64, partition: i64, segment: i64) -> BTreeSet<i64> {
        let prefix = format!("insert_log/{collection}/{partition}/{segment}/");
        let logs = self.written.range(prefix.clone()..).map(|(log, _)| log);
        let logs = logs.map_while(|log| log.strip_prefix(prefix.as_str()));
        logs.filter_map(|rest| rest.split('/').next()?.parse().ok()).collect()
    }

    /// Every row of a collection, as often as it is stored, whether or not queries find it yet.
    pub(crate) fn all_rows(&self, id: i64) -> Option<Vec<(Key, Values)>> {
        let collection = self.collections.values().find(|collection| collection.id == id)?;
        let rows = collection.stored.iter().flat_map(|segment| &segment.rows);
        let mut rows: Vec<(Key, Values)> = rows.map(|row| (row.key, row.values)).collect();
        rows.sort_unstable();
        Some(rows)
    }
}

/// What belongs to a collection's name.
impl Server {
    /// The aliases of a collection.
    pub(crate) fn aliases_of(&self, id: i64) -> Vec<String> {
        self.aliases.iter().filter(|(_, of)| **of == id).map(|(alias, _)| alias.clone()).collect()
    }

    /// Those that its description has.
    fn described_aliases(&mut self, name: &CollectionName, id: i64) -> Vec<String> {
        let now = self.aliases_of(id);
        if !self.habits.caches_aliases {
            return now;
        }
        let (of, aliases) = self.described_aliases.entry(id).or_insert_with(|| (name.clone(), now.clone()));
        if of != name {
            (*of, *aliases) = (name.clone(), now);
        }
        aliases.clone()
    }

    /// A user has an alias stand for a collection.
    pub(crate) fn point_believed(&mut self, alias: &str, at: &CollectionName) -> Result<(), MilvusError> {
        self.takes_changes()?;
        self.point_alias(alias, at)?;
        self.changes.of_alias(alias);
        Ok(())
    }

    /// A user drops an alias.
    pub(crate) fn drop_believed_alias(&mut self, alias: &str) -> Result<(), MilvusError> {
        self.takes_changes()?;
        self.drop_alias(alias);
        self.changes.of_alias(alias);
        Ok(())
    }

    /// A user lets a role do something.
    pub(crate) fn give_believed(&mut self, right: Right) -> Result<(), MilvusError> {
        self.takes_changes()?;
        self.changes.of_right(right.clone(), Wanted::Given);
        self.rights.insert(right);
        Ok(())
    }

    /// A user lets a role do something no longer.
    pub(crate) fn revoke_believed(&mut self, right: Right) -> Result<(), MilvusError> {
        self.takes_changes()?;
        self.rights.remove(&right);
        self.changes.of_right(right, Wanted::Open);
        Ok(())
    }

    pub(crate) fn roles(&self) -> Result<Vec<String>, MilvusError> {
        match self.habits.tells_roles {
            true => Ok(Right::ROLES.iter().take(self.habits.roles).map(|role| (*role).to_owned()).collect()),
            false => Err(MilvusError::Forbidden("roles are an administrator's".to_owned())),
        }
    }

    /// The grants of a role, or of all.
    pub(crate) fn rights(&self, role: Option<&str>) -> Vec<Right> {
        let rights = self.rights.union(&self.wanted_rights);
        rights.filter(|right| role.is_none_or(|role| right.role == role)).cloned().collect()
    }

    pub(crate) fn give(&mut self, right: Right) -> Result<(), MilvusError> {
        if self.habits.refuses_grants && right.role == Right::ROLES[1] {
            return Err(MilvusError::Refused("it may not".to_owned()));
        }
        match self.lie {
            Some(Lie::Grants) => self.wanted_rights.insert(right),
            _ => self.rights.insert(right),
        };
        Ok(())
    }

    /// Which roles there are.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        Right::ROLES.iter().take(self.habits.roles).any(|known| *known == role)
    }

    /// What belongs to which name now.
    pub(crate) fn belongings(&self) -> Belongings {
        let aliases = self.aliases.iter().filter_map(|(alias, of)| Some((alias.clone(), self.name_of(*of)?)));
        Belongings { change: self.changes.last, aliases: aliases.collect(), rights: self.rights.clone() }
    }
}

/// What a user wants of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Given,
    /// It may be there or not.
    Open,
}

/// What users have done about aliases and grants, in its order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    last: u64,
    aliases: BTreeMap<String, u64>,
    rights: BTreeMap<Right, (u64, Wanted)>,
}

impl Changes {
    pub(crate) fn of_alias(&mut self, alias: &str) {
        self.last += 1;
        self.aliases.insert(alias.to_owned(), self.last);
    }

    pub(crate) fn of_right(&mut self, right: Right, wanted: Wanted) {
        self.last += 1;
        self.rights.insert(right, (self.last, wanted));
    }

    /// Whether nobody has done anything to an alias since that change.
    pub(crate) fn leave_alias(&self, alias: &str, since: u64) -> bool {
        self.aliases.get(alias).is_none_or(|last| *last <= since)
    }

    pub(crate) fn leave_right(&self, right: &Right, since: u64) -> bool {
        self.rights.get(right).is_none_or(|(last, _)| *last <= since)
    }

    /// The grants that there must be when these were there at that change.
    pub(crate) fn wanted(&self, before: &Belongings) -> BTreeSet<Right> {
        let mut wanted = before.rights.clone();
        for (right, (_, wants)) in self.rights.iter().filter(|(_, (at, _))| *at > before.change) {
            match wants {
                Wanted::Given => wanted.insert(right.clone()),
                Wanted::Open => wanted.remove(right),
            };
        }
        wanted
    }
}
