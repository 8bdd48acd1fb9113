//! VERIFY, where the rows of the point in time were never counted: rows that must be there after all deletes that the
//! backup holds, found in the backup's own logs.
//!
//! How many must be left can't be told from how many rows and deletes there are: one delete takes all rows of its key,
//! however often they were inserted. So some rows are read with their timestamps, and then all deletes.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{CollectionCapture, CollectionRestore, ObjectEntry, PageRef, PrimaryKey, StorageVersion};

use super::{stage::collections_of, work::Shared};
use crate::{
    Error,
    backup::{DELTA, INSERT, Log, log_of},
    binlog::rows::{Unreadable, deletes, keys, timestamps},
    layout,
    pages::Folder,
    sample,
    slice::{Halt, Step},
};

/// The system's field of the rows' timestamps.
const TIMESTAMP: i64 = 1;

/// Writes that are looked into together, evenly spread over the segments.
const WRITES: usize = 64;

/// The rows of each, evenly spread too.
const ROWS: usize = 16;

/// Writes all of whose rows are in memory at once.
const WHOLE_WRITES: usize = 8;

/// The largest log that is read. One write has some 16 MB of all fields by default (`dataNode.segment.insertBufSize`).
const LARGEST: u64 = 64 << 20;

/// Logs in memory at once.
const AT_ONCE: usize = 4;

/// Rows that must be there.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// How many of those that were looked at.
    pub(super) rows: u64,
    /// Some of their primary keys.
    pub(super) sample: Vec<PrimaryKey>,
}

/// How many of a write's rows are looked at.
#[derive(Debug, Clone, Copy)]
enum Depth {
    Some,
    All,
}

/// Rows that must be there, among some; where not one row is found, among all.
///
/// Logs that can't be read bear no witness.
pub(super) async fn witnesses(
    shared: &Shared<'_>,
    line: &CollectionRestore,
    capture: &CollectionCapture,
    found: u64,
) -> Step<Witnesses> {
    let _turn = shared.reading_logs.lock().await;
    // Its fields have the ids that they had in the source: that was compared.
    let description = shared.milvus.describe(&shared.rebuilt(line)).await?;
    let key_field = description.fields.iter().find(|field| field.name == description.primary_key);
    let Some(key_field) = key_field.map(|field| field.id) else { return Ok(Witnesses::default()) };
    let logs = Logs::of(shared, capture, key_field).await?;
    let writes = logs.writes().await?;
    let first_of_segments = writes.chunk_by(|a, b| a.segment == b.segment).filter_map(<[Write]>::first);
    let firsts: Vec<&Write> = first_of_segments.collect();
    let some: Vec<&Write> = spread(&firsts, WRITES).copied().collect();
    let witnesses = logs.left_of(&some, Depth::Some).await?;
    if found > 0 || witnesses.rows > 0 {
        return Ok(witnesses);
    }
    let writes: Vec<&Write> = writes.iter().collect();
    for some in writes.chunks(WHOLE_WRITES) {
        let witnesses = logs.left_of(some, Depth::All).await?;
        if witnesses.rows > 0 {
            return Ok(witnesses);
        }
        if shared.deadline.is_over(shared.now()) {
            return Err(Halt::OutOfTime);
        }
    }
    Ok(Witnesses::default())
}

/// At most so many of these, evenly spread.
fn spread<T>(of: &[T], most: usize) -> impl Iterator<Item = &T> {
    of.iter().step_by(of.len().div_ceil(most).max(1))
}

/// Logs of the keys and of the timestamps of the same rows; in storage version 2 they are one.
struct Write {
    segment: i64,
    keys: ObjectEntry,
    timestamps: ObjectEntry,
}

/// A row that was written by the point in time, and when.
type Row = (PrimaryKey, u64);

/// A collection's logs in a snapshot.
struct Logs<'s> {
    folder: Folder<'s>,
    /// Where the objects are.
    data: String,
    /// Those that may have objects of the collection.
    pages: Vec<PageRef>,
    capture: &'s CollectionCapture,
    key_field: i64,
}

impl<'s> Logs<'s> {
    async fn of(shared: &'s Shared<'_>, capture: &'s CollectionCapture, key_field: i64) -> Result<Self, Error> {
        let mut pages = shared.manifest().await?.object_pages;
        pages.retain(|page| collections_of(page).contains(&capture.id.to_string()));
        let data = layout::data(&shared.restore.source_instance_id);
        Ok(Self { folder: shared.snapshot()?, data, pages, capture, key_field })
    }

    /// The collection's objects of this kind in a page.
    async fn entries(&self, page: &PageRef, kind: &str) -> Result<Vec<ObjectEntry>, Error> {
        let mut entries: Vec<ObjectEntry> = self.folder.read_named(page).await?;
        let id = self.capture.id.to_string();
        entries.retain(|entry| entry.key.collection() == id && entry.key.below(kind).is_some());
        Ok(entries)
    }

    /// All that wrote rows, in the order of the segments' ids.
    async fn writes(&self) -> Result<Vec<Write>, Error> {
        // By segment, folder and log.
        let mut folders: BTreeMap<i64, BTreeMap<i64, BTreeMap<i64, ObjectEntry>>> = BTreeMap::new();
        for page in &self.pages {
            for entry in self.entries(page, INSERT).await? {
                if let Some((segment, Log::Insert(place))) = log_of(&entry.key, INSERT) {
                    folders.entry(segment).or_default().entry(place.folder).or_default().insert(place.log, entry);
                }
            }
        }
        let mut writes = Vec::new();
        for segment in &self.capture.segments {
            let Some(mut folders) = folders.remove(&segment.id) else { continue };
            let (keys, timestamps) = match segment.storage {
                StorageVersion::V1 => (folders.remove(&self.key_field), folders.remove(&TIMESTAMP)),
                // The system's fields and the keys are in the first group of columns, that of what is short.
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
        Ok(writes)
    }

    /// Which rows of these writes nothing in the backup deletes.
    async fn left_of(&self, writes: &[&Write], depth: Depth) -> Step<Witnesses> {
        let read = writes.iter().map(async |write| self.rows(write, depth).await);
        let read = stream::iter(read.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
        let mut rows: Vec<Vec<Row>> = read.into_iter().filter(|rows| !rows.is_empty()).collect();
        if !self.strike(&mut rows).await? {
            return Ok(Witnesses::default());
        }
        let most = rows.iter().map(Vec::len).max().unwrap_or_default();
        // One of each write before the second of any.
        let keys = (0..most).flat_map(|number| rows.iter().filter_map(move |rows| Some(rows.get(number)?.0.clone())));
        let sample = sample::first(keys);
        Ok(Witnesses { rows: rows.iter().map(|rows| rows.len() as u64).sum(), sample })
    }

    /// Rows that a write wrote by the point in time; none if it can't be read.
    async fn rows(&self, write: &Write, depth: Depth) -> Result<Vec<Row>, Error> {
        let Some(key_log) = self.read(&write.keys).await? else { return Ok(Vec::new()) };
        let timestamp_log = match write.keys.key == write.timestamps.key {
            true => Some(key_log.clone()),
            false => self.read(&write.timestamps).await?,
        };
        let Some(timestamp_log) = timestamp_log else { return Ok(Vec::new()) };
        let read = || Ok::<_, Unreadable>((keys(&key_log, self.key_field)?, timestamps(&timestamp_log, TIMESTAMP)?));
        let (keys, timestamps) = match read() {
            Ok((keys, timestamps)) if keys.len() == timestamps.len() => (keys, timestamps),
            Ok(_) => return Ok(Vec::new()),
            Err(error) => {
                tracing::info!(%error, key = %write.keys.key, "a log of rows can't be read");
                return Ok(Vec::new());
            }
        };
        let rows: Vec<Row> = keys.into_iter().zip(timestamps).collect();
        let most = match depth {
            Depth::Some => ROWS,
            Depth::All => rows.len(),
        };
        let is_of_then = |(_, timestamp): &&Row| *timestamp <= self.capture.flush_timestamp;
        Ok(spread(&rows, most.max(1)).filter(is_of_then).cloned().collect())
    }

    /// Takes out the rows that may be deleted; whether all deletes could be read.
    async fn strike(&self, rows: &mut [Vec<Row>]) -> Step<bool> {
        // The last delete of each of the keys, whether an import would cut it off or not.
        let mut deleted: BTreeMap<PrimaryKey, Option<u64>> =
            rows.iter().flatten().map(|(key, _)| (key.clone(), None)).collect();
        for page in &self.pages {
            let entries = self.entries(page, DELTA).await?;
            let mut logs = stream::iter(&entries)
                .map(async |entry| Ok::<_, Error>((entry, self.read(entry).await?)))
                .buffered(AT_ONCE);
            while let Some((entry, log)) = logs.try_next().await? {
                match log.map(|log| deletes(&log)) {
                    Some(Ok(deletes)) => {
                        for delete in deletes {
                            if let Some(last) = deleted.get_mut(&delete.key) {
                                *last = (*last).max(Some(delete.timestamp));
                            }
                        }
                    }
                    Some(Err(error)) => {
                        tracing::info!(%error, key = %entry.key, "a log of deletes can't be read");
                        return Ok(false);
                    }
                    None => return Ok(false),
                }
            }
        }
        let is_left =
            |(key, written): &Row| deleted.get(key).copied().flatten().is_none_or(|deleted| deleted < *written);
        rows.iter_mut().for_each(|rows| rows.retain(is_left));
        Ok(true)
    }

    /// An object of the snapshot; `None` if it is too large, or gone: then nothing is known of it.
    async fn read(&self, entry: &ObjectEntry) -> Result<Option<Bytes>, Error> {
        if entry.size > LARGEST {
            return Ok(None);
        }
        let key = format!("{}{}", self.data, entry.key.stored());
        let read = self.folder.objects.get_range(self.folder.bucket, &key, 0..entry.size).await?;
        Ok(read.map(Bytes::from))
    }
}
