//! VERIFY without a row count of the point in time: finds rows in the backup's logs that must be in the collection.
//!
//! The number of rows can't be computed from the numbers of inserts and deletes: one delete removes all rows of its
//! key, even if they were inserted repeatedly. So all deletes are read, and rows with their timestamps: a few rows of
//! many segments, and all rows of the segments whose import brought none, until one is found that nothing deletes.

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

/// The number of segments of which rows are sampled, evenly spread over all.
const SAMPLED_SEGMENTS: usize = 64;

/// The number of rows that are sampled of each segment, evenly spread over its first write.
const SAMPLED_ROWS: usize = 16;

/// The bytes of logs in memory at once.
const BYTES_IN_FLIGHT: u64 = 64 << 20;

/// The most logs that are read concurrently, if their sizes allow.
const MAX_CONCURRENT_LOGS: u64 = 16;

/// The most delta logs and bytes that are read of a collection: about a minute or two, so that a slice can finish it.
const MAX_DELTA_LOGS: usize = 20_000;
const MAX_BYTES: u64 = 2 << 30;

/// The most deleted keys in memory, at about 40 bytes each.
const MAX_DELETES: usize = 2_000_000;

/// The rows that must be in a collection according to the backup's logs.
#[derive(Debug)]
pub(super) enum Evidence {
    /// At least this many rows must be there, among them those of the sample.
    Rows { least: u64, sample: Vec<PrimaryKey> },
    /// The import of this partition's segments brought no rows, but must have.
    Missing { partition: String },
    /// The logs don't show it, for this reason.
    Unknown(String),
}

/// Finds rows that must be in a collection; `empty` has the groups whose imports brought no rows.
pub(super) async fn evidence(
    shared: &Shared<'_>,
    line: &CollectionRestore,
    capture: &CollectionCapture,
    empty: &[u32],
) -> Step<Evidence> {
    // The semaphore is never closed, so there is no error.
    let _permit = shared.log_readers.acquire().await.ok();
    // BUILD has checked that the fields have the same IDs as in the source.
    let description = shared.milvus.describe(&shared.rebuilt(line)).await?;
    let key_field = description.fields.iter().find(|field| field.name == description.primary_key);
    let Some(key_field) = key_field.map(|field| field.id) else {
        return Ok(Evidence::Unknown("the primary key's field is unknown".to_owned()));
    };
    let groups = groups(capture, line.segments_per_job)?;
    let empty: Vec<&Group> = empty.iter().filter_map(|group| groups.get(*group as usize)).collect();
    let logs = Logs::new(shared, capture, key_field).await?;
    match logs.evidence(&empty).await {
        Ok(evidence) => Ok(evidence),
        Err(Stop::Unknown(reason)) => Ok(Evidence::Unknown(reason)),
        Err(Stop::Halt(halt)) => Err(halt),
    }
}

/// Returns at most `max` of the items, evenly spread.
fn evenly_spread<T>(items: &[T], max: usize) -> impl Iterator<Item = &T> {
    items.iter().step_by(items.len().div_ceil(max).max(1))
}

/// Returns how many logs of these sizes may be in memory at once.
fn concurrency(sizes: impl Iterator<Item = u64>) -> usize {
    let largest = sizes.max().unwrap_or_default().max(1);
    usize::try_from((BYTES_IN_FLIGHT / largest).clamp(1, MAX_CONCURRENT_LOGS)).unwrap_or(1)
}

/// Interleaves lists: returns the first item of each list before the second of any.
fn interleaved<T: Clone>(lists: &[Vec<T>]) -> impl Iterator<Item = T> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or_default();
    (0..longest).flat_map(move |number| lists.iter().filter_map(move |list| list.get(number).cloned()))
}

/// The logs of the keys and of the timestamps of the same rows. In storage version 2, both are the same log.
struct RowLogs {
    segment: i64,
    keys: ObjectEntry,
    timestamps: ObjectEntry,
}

/// Why the reading of logs ends early.
enum Stop {
    /// The logs can't be read, for this reason.
    Unknown(String),
    /// The step halts.
    Halt(Halt),
}

impl<E: Into<Halt>> From<E> for Stop {
    fn from(halt: E) -> Self {
        Self::Halt(halt.into())
    }
}

/// The result of reading logs.
type ReadResult<T> = Result<T, Stop>;

/// The timestamp of the last delete of each key up to the point in time, by the key's hash. Two keys with the same hash
/// count as one: then fewer rows count as surviving.
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

    /// Returns whether no delete removes this row. The delete of an upsert has its row's timestamp, and keeps it.
    fn keep(&self, key: &PrimaryKey, written: u64) -> bool {
        self.0.get(&Self::hash(key)).is_none_or(|deleted| *deleted <= written)
    }
}

/// A collection's logs in a snapshot.
struct Logs<'s, 'a> {
    shared: &'s Shared<'a>,
    folder: Folder<'s>,
    /// The prefix of the objects.
    data: String,
    /// The manifest's pages that may have objects of the collection.
    pages: Vec<PageRef>,
    capture: &'s CollectionCapture,
    key_field: i64,
}

impl<'s, 'a> Logs<'s, 'a> {
    async fn new(shared: &'s Shared<'a>, capture: &'s CollectionCapture, key_field: i64) -> Result<Self, Error> {
        let id = capture.id.to_string();
        let pages = shared.manifest().await?.object_pages.iter();
        let pages = pages.filter(|page| collections_of(page).contains(&id)).cloned().collect();
        let data = layout::data(&shared.restore.source_instance_id);
        Ok(Self { shared, folder: shared.snapshot()?, data, pages, capture, key_field })
    }

    async fn evidence(&self, empty: &[&Group]) -> ReadResult<Evidence> {
        let whole: BTreeSet<i64> = empty.iter().flat_map(|group| group.segments.iter().copied()).collect();
        let (delta_logs, row_logs) = self.find(&whole).await?;
        let deletes = self.deletes(&delta_logs).await?;
        for group in empty {
            for logs in row_logs.iter().filter(|logs| group.segments.contains(&logs.segment)) {
                if !self.surviving_keys(logs, usize::MAX, &deletes).await?.is_empty() {
                    return Ok(Evidence::Missing { partition: group.partition.clone() });
                }
            }
        }
        let by_segment = row_logs.chunk_by(|a, b| a.segment == b.segment);
        let firsts: Vec<&RowLogs> = by_segment.filter_map(<[RowLogs]>::first).collect();
        let sampled: Vec<&RowLogs> = evenly_spread(&firsts, SAMPLED_SEGMENTS).copied().collect();
        let concurrency = concurrency(sampled.iter().map(|logs| logs.keys.size + logs.timestamps.size));
        let read = stream::iter(sampled).map(async |logs| self.surviving_keys(logs, SAMPLED_ROWS, &deletes).await);
        let mut read = read.buffered(concurrency).boxed_local();
        let (mut surviving, mut unknown) = (Vec::new(), None);
        while let Some(keys) = read.next().await {
            match keys {
                Ok(keys) => surviving.push(keys),
                // The other segments may be evidence enough.
                Err(Stop::Unknown(reason)) => unknown = Some(reason),
                Err(stop) => return Err(stop),
            }
        }
        match unknown {
            Some(reason) if surviving.is_empty() => Err(Stop::Unknown(reason)),
            _ => Ok(Evidence::Rows {
                least: surviving.iter().map(|keys| keys.len() as u64).sum(),
                sample: sample::first(interleaved(&surviving)),
            }),
        }
    }

    /// Returns the collection's delta logs and its logs of rows: all of the segments in `whole`, and the first of each
    /// other segment, in the order of the segments in the capture.
    async fn find(&self, whole: &BTreeSet<i64>) -> ReadResult<(Vec<ObjectEntry>, Vec<RowLogs>)> {
        let id = self.capture.id.to_string();
        let storage: HashMap<i64, StorageVersion> =
            self.capture.segments.iter().map(|segment| (segment.id, segment.storage)).collect();
        let mut delta_logs = Vec::new();
        // Log objects, by segment, folder and log.
        let mut folders: HashMap<i64, BTreeMap<i64, BTreeMap<i64, ObjectEntry>>> = HashMap::new();
        for page in &self.pages {
            self.shared.require_time()?;
            for entry in self.folder.read_named::<ObjectEntry>(page).await? {
                if entry.key.collection() != id {
                    continue;
                }
                if entry.key.below(DELTA).is_some() {
                    delta_logs.push(entry);
                    if delta_logs.len() > MAX_DELTA_LOGS {
                        return Err(Stop::Unknown(format!(
                            "the backup has more than {MAX_DELTA_LOGS} delta logs of it"
                        )));
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
                // Keys and timestamps are short, and so in the first column group.
                while storage.get(&segment) == Some(&StorageVersion::V2) && folders.len() > 1 {
                    folders.pop_last();
                }
            }
        }
        let mut row_logs = Vec::new();
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
                row_logs.extend(pairs.map(|(keys, timestamps)| RowLogs { segment: segment.id, keys, timestamps }));
            }
        }
        let of_whole = row_logs.iter().filter(|logs| whole.contains(&logs.segment));
        let bytes: u64 = of_whole.map(|logs| logs.keys.size).chain(delta_logs.iter().map(|entry| entry.size)).sum();
        match bytes > MAX_BYTES {
            true => Err(Stop::Unknown(format!("its keys and deletes are {bytes} bytes, too many to read"))),
            false => Ok((delta_logs, row_logs)),
        }
    }

    /// Reads the deletes of delta logs.
    async fn deletes(&self, logs: &[ObjectEntry]) -> ReadResult<Deletes> {
        let concurrency = concurrency(logs.iter().map(|entry| entry.size));
        let read = stream::iter(logs).map(async |entry| Ok::<_, Stop>((entry, self.read(entry).await?)));
        let mut read = read.buffer_unordered(concurrency).boxed_local();
        let mut deletes = Deletes::default();
        while let Some((entry, log)) = read.try_next().await? {
            self.shared.require_time()?;
            let read = each_delete(&log, |delete| {
                // Older servers cut an import off at a whole millisecond.
                if milliseconds_of(delete.timestamp) <= milliseconds_of(self.capture.flush_timestamp) {
                    deletes.add(&delete.key, delete.timestamp);
                }
            });
            read.map_err(|error| unreadable(entry, &error))?;
            if deletes.0.len() > MAX_DELETES {
                return Err(Stop::Unknown(format!("more than {MAX_DELETES} of its keys are deleted")));
            }
        }
        Ok(deletes)
    }

    /// Returns the keys of rows that were written by the point in time and that nothing deletes, among at most `max`
    /// rows of these logs.
    async fn surviving_keys(&self, logs: &RowLogs, max: usize, deletes: &Deletes) -> ReadResult<Vec<PrimaryKey>> {
        self.shared.require_time()?;
        let key_log = self.read(&logs.keys).await?;
        let timestamp_log = match logs.keys.key == logs.timestamps.key {
            true => key_log.clone(),
            false => self.read(&logs.timestamps).await?,
        };
        let timestamps = timestamps(&timestamp_log, TIMESTAMP).map_err(|error| unreadable(&logs.timestamps, &error))?;
        let step = timestamps.len().div_ceil(max).max(1);
        let (mut row, mut surviving) = (0, Vec::new());
        let read = each_key(&key_log, self.key_field, |key| {
            let written = timestamps.get(row).filter(|_| row % step == 0);
            let is_in_time = |written: &&u64| **written <= self.capture.flush_timestamp;
            let survives = |written: &u64| deletes.keep(&key, *written);
            if surviving.len() < SAMPLED_ROWS && written.filter(is_in_time).is_some_and(survives) {
                surviving.push(key);
            }
            row += 1;
        });
        read.map_err(|error| unreadable(&logs.keys, &error))?;
        match row == timestamps.len() {
            true => Ok(surviving),
            false => {
                let (key, timestamps) = (&logs.keys.key, timestamps.len());
                Err(Stop::Unknown(format!("{key} has {row} rows, but there are {timestamps} timestamps")))
            }
        }
    }

    /// Reads an object of the snapshot.
    async fn read(&self, entry: &ObjectEntry) -> ReadResult<Bytes> {
        if entry.size > MAX_LOG_BYTES {
            return Err(Stop::Unknown(format!("{} is too large to read", entry.key)));
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
    fn a_delete_removes_the_rows_of_its_key_that_were_written_before_it() {
        let (mut deletes, key, other) = (Deletes::default(), PrimaryKey::Int(5), PrimaryKey::Text("5".to_owned()));
        deletes.add(&key, 20);
        deletes.add(&key, 10);
        // An upsert's row has the timestamp of the delete that removes the row before.
        let kept = [5, 19, 20, 21].map(|written| deletes.keep(&key, written));
        assert_eq!(kept, [false, false, true, true]);
        assert!(deletes.keep(&other, 5));
    }

    #[test]
    fn a_sample_is_evenly_spread_and_has_one_item_of_each_list_before_the_second_of_any() {
        let all: Vec<u32> = (0..100).collect();
        let sampled: Vec<u32> = evenly_spread(&all, 64).copied().collect();
        assert_eq!((sampled.len(), sampled[49]), (50, 98));
        assert_eq!(evenly_spread(&all, 100).count(), 100);
        assert_eq!(evenly_spread(&[0_u32; 0], 64).count(), 0);
        let items: Vec<u32> = interleaved(&[vec![1, 2, 3], vec![], vec![4]]).collect();
        assert_eq!(items, [1, 4, 2, 3]);
    }

    #[test]
    fn the_largest_log_limits_how_many_logs_are_read_concurrently() {
        let with_largest = |size| concurrency([1, size].into_iter());
        assert_eq!([1, 4 << 20, 5 << 20, 64 << 20, 65 << 20].map(with_largest), [16, 16, 12, 1, 1]);
        assert_eq!(concurrency([].into_iter()), 16);
    }
}
