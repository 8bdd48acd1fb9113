//! VERIFY, where the rows of the point in time were never counted: rows that must be there, found in the backup's own logs.
//!
//! How many must be left can't be told from how many rows and deletes there are: one delete takes all rows of its key,
//! however often they were inserted. So all deletes are read, and rows with their timestamps: some of many segments, and all
//! of those whose import brought none, until there is one that nothing deletes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{
    CollectionCapture, CollectionRestore, ObjectEntry, PageRef, PrimaryKey, StorageVersion, milliseconds_of,
};

use super::{
    groups::{Group, groups},
    shared::Shared,
    stage::collections_of,
};
use crate::{
    Error,
    backup::logs::{DELTA, INSERT, Log, log_of},
    binlog::{
        MAX_LOG_BYTES, TIMESTAMP,
        rows::{Unreadable, each_delete, each_key, timestamps},
    },
    engine::halt::{Halt, Step},
    sample,
    snapshot::{layout, pages::Folder},
};

/// Segments of which some rows are looked at, evenly spread over all.
const SEGMENTS: usize = 64;

/// The rows of each, evenly spread over its first write.
const ROWS: usize = 16;

/// Bytes of logs in memory at once.
const IN_FLIGHT: u64 = 64 << 20;

/// Logs that are read at once, if they are that small.
const AT_ONCE: u64 = 16;

/// The most that is read of a collection: a minute's work or two, so that it is over within a slice.
const MOST_LOGS: usize = 20_000;
const MOST_BYTES: u64 = 2 << 30;

/// The most keys that may be deleted, each in some 40 bytes.
const MOST_DELETES: usize = 2_000_000;

/// What the backup's logs say of the rows that must be there.
#[derive(Debug)]
pub(super) enum Evidence {
    /// So many at least, among them these.
    Rows { least: u64, sample: Vec<PrimaryKey> },
    /// Some that the import of this partition's segments didn't bring: it brought none.
    Missing { partition: String },
    /// It isn't known, for this reason.
    Unknown(String),
}

/// Looks for rows that must be there; `empty` are the groups whose imports brought none.
pub(super) async fn evidence(
    shared: &Shared<'_>,
    line: &CollectionRestore,
    capture: &CollectionCapture,
    empty: &[u32],
) -> Step<Evidence> {
    // An error would mean that it was closed, which it never is.
    let _turn = shared.reading_logs.acquire().await.ok();
    // Its fields have the ids that they had in the source: that was compared.
    let description = shared.milvus.describe(&shared.rebuilt(line)).await?;
    let key_field = description.fields.iter().find(|field| field.name == description.primary_key);
    let Some(key_field) = key_field.map(|field| field.id) else {
        return Ok(Evidence::Unknown("the field of the primary keys isn't known".to_owned()));
    };
    let groups = groups(capture, line.segments_per_job)?;
    let empty: Vec<&Group> = empty.iter().filter_map(|group| groups.get(*group as usize)).collect();
    let logs = Logs::of(shared, capture, key_field).await?;
    match logs.evidence(&empty).await {
        Ok(evidence) => Ok(evidence),
        Err(Stop::Unknown(reason)) => Ok(Evidence::Unknown(reason)),
        Err(Stop::Halt(halt)) => Err(halt),
    }
}

/// At most so many of these, evenly spread.
fn spread<T>(of: &[T], most: usize) -> impl Iterator<Item = &T> {
    of.iter().step_by(of.len().div_ceil(most).max(1))
}

/// How many of what takes so many bytes each may be in memory at once.
fn at_once(bytes: impl Iterator<Item = u64>) -> usize {
    let largest = bytes.max().unwrap_or_default().max(1);
    usize::try_from((IN_FLIGHT / largest).clamp(1, AT_ONCE)).unwrap_or(1)
}

/// One of each before the second of any.
fn by_turns<T: Clone>(of: &[Vec<T>]) -> impl Iterator<Item = T> {
    let longest = of.iter().map(Vec::len).max().unwrap_or_default();
    (0..longest).flat_map(move |number| of.iter().filter_map(move |each| each.get(number).cloned()))
}

/// Logs of the keys and of the timestamps of the same rows; in storage version 2 they are one.
struct Write {
    segment: i64,
    keys: ObjectEntry,
    timestamps: ObjectEntry,
}

/// Why a look into the logs goes no further.
enum Stop {
    /// What they hold can't be known, for this reason.
    Unknown(String),
    Halt(Halt),
}

impl<E: Into<Halt>> From<E> for Stop {
    fn from(halt: E) -> Self {
        Self::Halt(halt.into())
    }
}

type Look<T = ()> = Result<T, Stop>;

/// The last delete of each key that is deleted by the point in time. Two keys with the same hash count as one: fewer rows
/// are taken to be left then.
#[derive(Default)]
struct Deletes(HashMap<u64, u64>);

impl Deletes {
    fn hash(key: &PrimaryKey) -> u64 {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish()
    }

    fn add(&mut self, key: &PrimaryKey, timestamp: u64) {
        let last = self.0.entry(Self::hash(key)).or_default();
        *last = timestamp.max(*last);
    }

    /// Whether none of them takes this row: an upsert's delete has the timestamp of its row, and leaves it.
    fn leave(&self, key: &PrimaryKey, written: u64) -> bool {
        self.0.get(&Self::hash(key)).is_none_or(|deleted| *deleted <= written)
    }
}

/// A collection's logs in a snapshot.
struct Logs<'s, 'a> {
    shared: &'s Shared<'a>,
    folder: Folder<'s>,
    /// Where the objects are.
    data: String,
    /// Those that may have objects of the collection.
    pages: Vec<PageRef>,
    capture: &'s CollectionCapture,
    key_field: i64,
}

impl<'s, 'a> Logs<'s, 'a> {
    async fn of(shared: &'s Shared<'a>, capture: &'s CollectionCapture, key_field: i64) -> Result<Self, Error> {
        let id = capture.id.to_string();
        let pages = shared.manifest().await?.object_pages.iter();
        let pages = pages.filter(|page| collections_of(page).contains(&id)).cloned().collect();
        let data = layout::data(&shared.restore.source_instance_id);
        Ok(Self { shared, folder: shared.snapshot()?, data, pages, capture, key_field })
    }

    async fn evidence(&self, empty: &[&Group]) -> Look<Evidence> {
        let whole: BTreeSet<i64> = empty.iter().flat_map(|group| group.segments.iter().copied()).collect();
        let (delta_logs, writes) = self.find(&whole).await?;
        let deletes = self.deletes(&delta_logs).await?;
        for group in empty {
            for write in writes.iter().filter(|write| group.segments.contains(&write.segment)) {
                if !self.left_of(write, usize::MAX, &deletes).await?.is_empty() {
                    return Ok(Evidence::Missing { partition: group.partition.clone() });
                }
            }
        }
        let firsts: Vec<&Write> = writes.chunk_by(|a, b| a.segment == b.segment).filter_map(<[Write]>::first).collect();
        let some: Vec<&Write> = spread(&firsts, SEGMENTS).copied().collect();
        let at_once = at_once(some.iter().map(|write| write.keys.size + write.timestamps.size));
        let read = stream::iter(some).map(async |write| self.left_of(write, ROWS, &deletes).await);
        let mut read = read.buffered(at_once).boxed_local();
        let (mut left, mut unknown) = (Vec::new(), None);
        while let Some(of_write) = read.next().await {
            match of_write {
                Ok(keys) => left.push(keys),
                // The others may tell enough.
                Err(Stop::Unknown(reason)) => unknown = Some(reason),
                Err(stop) => return Err(stop),
            }
        }
        match unknown {
            Some(reason) if left.is_empty() => Err(Stop::Unknown(reason)),
            _ => Ok(Evidence::Rows {
                least: left.iter().map(|keys| keys.len() as u64).sum(),
                sample: sample::first(by_turns(&left)),
            }),
        }
    }

    /// The collection's logs of deletes; and its writes of rows, of these segments all and of each other one the first, in
    /// the order of the segments in the capture.
    async fn find(&self, whole: &BTreeSet<i64>) -> Look<(Vec<ObjectEntry>, Vec<Write>)> {
        let id = self.capture.id.to_string();
        let storage: HashMap<i64, StorageVersion> =
            self.capture.segments.iter().map(|segment| (segment.id, segment.storage)).collect();
        let mut delta_logs = Vec::new();
        // By segment, folder and log.
        let mut folders: HashMap<i64, BTreeMap<i64, BTreeMap<i64, ObjectEntry>>> = HashMap::new();
        for page in &self.pages {
            self.shared.require_time()?;
            for entry in self.folder.read_named::<ObjectEntry>(page).await? {
                if entry.key.collection() != id {
                    continue;
                }
                if entry.key.below(DELTA).is_some() {
                    delta_logs.push(entry);
                    if delta_logs.len() > MOST_LOGS {
                        return Err(Stop::Unknown(format!("there are more than {MOST_LOGS} files of deletes")));
                    }
                    continue;
                }
                let Some((segment, Log::Insert(place))) = log_of(&entry.key, INSERT) else { continue };
                let is_wanted = match storage.get(&segment) {
                    Some(StorageVersion::V1) => [TIMESTAMP, self.key_field].contains(&place.folder),
                    Some(StorageVersion::V2) => true,
                    Some(StorageVersion::Other(_)) | None => false,
                };
                if !is_wanted {
                    continue;
                }
                let folders = folders.entry(segment).or_default();
                let logs = folders.entry(place.folder).or_default();
                logs.insert(place.log, entry);
                while !whole.contains(&segment) && logs.len() > 1 {
                    logs.pop_last();
                }
                // The keys and the timestamps are short, and so in the first group of columns.
                while storage.get(&segment) == Some(&StorageVersion::V2) && folders.len() > 1 {
                    folders.pop_last();
                }
            }
        }
        let mut writes = Vec::new();
        for segment in &self.capture.segments {
            let Some(mut folders) = folders.remove(&segment.id) else { continue };
            let (keys, timestamps) = match segment.storage {
                StorageVersion::V1 => (folders.remove(&self.key_field), folders.remove(&TIMESTAMP)),
                StorageVersion::V2 | StorageVersion::Other(_) => {
                    let first = folders.pop_first().map(|(_, logs)| logs);
                    (first.clone(), first)
                }
            };
            let (keys, timestamps) = (keys.unwrap_or_default(), timestamps.unwrap_or_default());
            if keys.len() == timestamps.len() {
                let pairs = keys.into_values().zip(timestamps.into_values());
                writes.extend(pairs.map(|(keys, timestamps)| Write { segment: segment.id, keys, timestamps }));
            }
        }
        let of_whole = writes.iter().filter(|write| whole.contains(&write.segment));
        let bytes: u64 = of_whole.map(|write| write.keys.size).chain(delta_logs.iter().map(|entry| entry.size)).sum();
        match bytes > MOST_BYTES {
            true => Err(Stop::Unknown(format!("{bytes} bytes of its keys and deletes would have to be read"))),
            false => Ok((delta_logs, writes)),
        }
    }

    async fn deletes(&self, logs: &[ObjectEntry]) -> Look<Deletes> {
        let at_once = at_once(logs.iter().map(|entry| entry.size));
        let read = stream::iter(logs).map(async |entry| Ok::<_, Stop>((entry, self.read(entry).await?)));
        let mut read = read.buffer_unordered(at_once).boxed_local();
        let mut deletes = Deletes::default();
        while let Some((entry, log)) = read.try_next().await? {
            self.shared.require_time()?;
            let read = each_delete(&log, |delete| {
                // Older servers cut an import off after a whole millisecond.
                if milliseconds_of(delete.timestamp) <= milliseconds_of(self.capture.flush_timestamp) {
                    deletes.add(&delete.key, delete.timestamp);
                }
            });
            read.map_err(|error| unreadable(entry, &error))?;
            if deletes.0.len() > MOST_DELETES {
                return Err(Stop::Unknown(format!("more than {MOST_DELETES} keys are deleted")));
            }
        }
        Ok(deletes)
    }

    /// The keys of rows that a write wrote by the point in time and that nothing deletes, of so many that are looked at.
    async fn left_of(&self, write: &Write, most: usize, deletes: &Deletes) -> Look<Vec<PrimaryKey>> {
        self.shared.require_time()?;
        let key_log = self.read(&write.keys).await?;
        let timestamp_log = match write.keys.key == write.timestamps.key {
            true => key_log.clone(),
            false => self.read(&write.timestamps).await?,
        };
        let timestamps =
            timestamps(&timestamp_log, TIMESTAMP).map_err(|error| unreadable(&write.timestamps, &error))?;
        let step = timestamps.len().div_ceil(most).max(1);
        let (mut row, mut left) = (0, Vec::new());
        let read = each_key(&key_log, self.key_field, |key| {
            let written = timestamps.get(row).filter(|_| row % step == 0);
            let is_of_then = |written: &&u64| **written <= self.capture.flush_timestamp;
            if left.len() < ROWS && written.filter(is_of_then).is_some_and(|written| deletes.leave(&key, *written)) {
                left.push(key);
            }
            row += 1;
        });
        read.map_err(|error| unreadable(&write.keys, &error))?;
        match row == timestamps.len() {
            true => Ok(left),
            false => {
                let (key, timestamps) = (&write.keys.key, timestamps.len());
                Err(Stop::Unknown(format!("{key} has {row} rows, and there are {timestamps} timestamps")))
            }
        }
    }

    /// An object of the snapshot.
    async fn read(&self, entry: &ObjectEntry) -> Look<Bytes> {
        if entry.size > MAX_LOG_BYTES {
            return Err(Stop::Unknown(format!("{} is too large to be read", entry.key)));
        }
        let key = format!("{}{}", self.data, entry.key.stored());
        let read = self.folder.objects.get_range(self.folder.bucket, &key, 0..entry.size).await;
        let read = read.map_err(Error::from)?;
        read.map(Bytes::from).ok_or_else(|| Stop::Unknown(format!("{} is gone", entry.key)))
    }
}

fn unreadable(entry: &ObjectEntry, error: &Unreadable) -> Stop {
    Stop::Unknown(format!("{}: {error}", entry.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_takes_the_rows_of_its_key_that_were_written_before_it() {
        let (mut deletes, key, other) = (Deletes::default(), PrimaryKey::Int(5), PrimaryKey::Text("5".to_owned()));
        deletes.add(&key, 20);
        deletes.add(&key, 10);
        // An upsert's row has the timestamp of the delete that takes the row before.
        let written = [5, 19, 20, 21].map(|written| deletes.leave(&key, written));
        assert_eq!(written, [false, false, true, true]);
        assert!(deletes.leave(&other, 5));
    }

    #[test]
    fn a_sample_is_spread_over_all_and_has_one_of_each_before_the_second_of_any() {
        let all: Vec<u32> = (0..100).collect();
        let some: Vec<u32> = spread(&all, 64).copied().collect();
        assert_eq!((some.len(), some[49]), (50, 98));
        assert_eq!(spread(&all, 100).count(), 100);
        assert_eq!(spread(&[0_u32; 0], 64).count(), 0);
        let turns: Vec<u32> = by_turns(&[vec![1, 2, 3], vec![], vec![4]]).collect();
        assert_eq!(turns, [1, 4, 2, 3]);
    }

    #[test]
    fn as_many_logs_are_in_memory_as_have_room() {
        let sizes = |size| at_once([1, size].into_iter());
        assert_eq!([1, 4 << 20, 5 << 20, 64 << 20, 65 << 20].map(sizes), [16, 16, 12, 1, 1]);
        assert_eq!(at_once([].into_iter()), 16);
    }
}
