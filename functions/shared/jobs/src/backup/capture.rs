//! A collection at its point in time, with everything needed to rebuild it.
//!
//! Milvus is asked by names, and a name may stand for another collection a moment later. So each answer is checked against
//! the id that the survey found, and a collection is looked up by its id when its name doesn't lead to it any more.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta};
use milvault_model::{
    CollectionCapture, CollectionName, Failure, FailureCode, Loaded, PrimaryKey, RowCount, SegmentCapture,
    SegmentLevel, StorageVersion, TIME_TO_LIVE, Time, Troubled,
};

use super::{survey::Wanted, work::Work};
use crate::{
    Jobs,
    ports::{CollectionDescription, FlushResult, Milvus, MilvusError, OnRateLimit, Segment},
    slice::backoff,
};

/// How long a collection is tried that can't be captured though the server answers: one that is starting says of
/// collections that it has that it doesn't, for some seconds.
const PATIENCE: TimeDelta = TimeDelta::seconds(30);

/// How long a collection is flushed again because what compactions did to its segments can't be told.
const UNSETTLED: TimeDelta = TimeDelta::seconds(60);

/// How many times in a row a collection is followed to another name.
const RENAMES: u32 = 5;

/// How many primary keys a sample has at most.
const SAMPLE: usize = 64;

/// And how many bytes: a key may have 65,535 of them.
const SAMPLE_BYTES: usize = 4096;

/// What became of a collection.
pub(super) enum Captured {
    /// It was captured, under the name that it had at its point in time.
    Whole(Box<CollectionCapture>),
    /// It was dropped before its flush.
    Dropped,
    /// It is there, and can't be captured, for this reason.
    Trouble(Failure),
}

/// Captures collections of one server, for one slice.
pub(super) struct Capturing<'a> {
    jobs: &'a Jobs,
    milvus: &'a dyn Milvus,
    /// Collections that can't be captured for now, by id, and since when.
    troubled: Mutex<BTreeMap<i64, Time>>,
}

impl<'a> Capturing<'a> {
    pub(super) fn new(work: &Work<'a>, milvus: &'a dyn Milvus, troubled: &[Troubled]) -> Self {
        Self {
            jobs: work.jobs,
            milvus,
            troubled: Mutex::new(troubled.iter().map(|of| (of.collection, of.since)).collect()),
        }
    }

    /// The collections that can't be captured for now: the next slice goes on waiting from there.
    pub(super) fn troubled(&self) -> Vec<Troubled> {
        self.troubles().iter().map(|(collection, since)| Troubled { collection: *collection, since: *since }).collect()
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<i64, Time>> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Captures the collection with this id.
    ///
    /// # Errors
    /// When the server doesn't answer at all.
    pub(super) async fn capture(&self, wanted: &Wanted) -> Result<Captured, MilvusError> {
        let mut attempt = 0;
        loop {
            let error = match self.capture_now(wanted).await {
                Ok(captured) => {
                    self.troubles().remove(&wanted.id);
                    return Ok(captured);
                }
                Err(error) => error,
            };
            let passes = match &error {
                // No answer says nothing about the collection.
                MilvusError::Unreachable(_) => return Err(error),
                MilvusError::NotReady(_) | MilvusError::RateLimited(_) => true,
                _ => false,
            };
            // Nor does what a server says that is of no use to anybody.
            if let Err(error) = self.milvus.databases().await {
                self.troubles().clear();
                return Err(error);
            }
            let now = self.jobs.ports.clock.now();
            let since = *self.troubles().entry(wanted.id).or_insert(now);
            if !passes || now - since > PATIENCE {
                self.troubles().remove(&wanted.id);
                let reason = match error {
                    MilvusError::NotReady(reason) => reason,
                    error => error.to_string(),
                };
                return Ok(Captured::Trouble(Failure::new(FailureCode::MilvusRefused, reason)));
            }
            tracing::warn!(%error, collection = %wanted.name, id = wanted.id, "a collection can't be captured for now");
            self.jobs.ports.clock.sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// Captures the collection under the name that it has.
    async fn capture_now(&self, wanted: &Wanted) -> Result<Captured, MilvusError> {
        let mut name = wanted.name.clone();
        for _ in 0..RENAMES {
            match self.capture_as(wanted.id, &name).await {
                Ok(capture) => return Ok(Captured::Whole(Box::new(capture))),
                Err(Short::Trouble(failure)) => return Ok(Captured::Trouble(failure)),
                Err(Short::Error(error)) => return Err(error),
                Err(Short::Elsewhere) => match self.name_of(wanted.id, &name.database).await? {
                    Some(now) if now == name => {
                        let reason = format!("{name} is listed, but isn't found under its name");
                        return Err(MilvusError::NotReady(reason));
                    }
                    Some(now) => name = now,
                    None => return Ok(Captured::Dropped),
                },
            }
        }
        Err(MilvusError::NotReady(format!("{} is renamed again and again", wanted.name)))
    }

    /// Whether a collection has this name.
    pub(super) async fn is_taken(&self, name: &CollectionName) -> Result<bool, MilvusError> {
        Ok(self.milvus.collection_id(name).await?.is_some())
    }

    /// The name that a collection has, most likely in this database.
    pub(super) async fn name_of(&self, id: i64, database: &str) -> Result<Option<CollectionName>, MilvusError> {
        let mut databases = self.milvus.databases().await?;
        databases.sort_by_key(|name| name != database);
        for database in databases {
            let listed = self.milvus.collections(&database).await?;
            if let Some((name, _)) = listed.into_iter().find(|(_, listed)| *listed == id) {
                return Ok(Some(CollectionName::new(database, name)));
            }
        }
        Ok(None)
    }

    async fn capture_as(&self, id: i64, name: &CollectionName) -> Result<CollectionCapture, Short> {
        let began = self.jobs.ports.clock.now();
        let mut attempt = 0;
        loop {
            if let Some(capture) = self.describe_and_flush(id, name).await? {
                return Ok(capture);
            }
            if self.jobs.ports.clock.now() - began > UNSETTLED {
                return Err(Short::Trouble(Failure::new(
                    FailureCode::SourceChanged,
                    format!("its segments were compacted during each flush for {} seconds", UNSETTLED.num_seconds()),
                )));
            }
            self.jobs.ports.clock.sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// Captures the collection; `None` if its segments may lack rows of its point in time: then it has to be flushed
    /// again.
    async fn describe_and_flush(&self, id: i64, name: &CollectionName) -> Result<Option<CollectionCapture>, Short> {
        let mut description = self.describe(id, name).await?;
        let earlier = rows_of(&self.segments(id, name).await?);
        // Rows that end by themselves leave no trace when they do.
        let ends = description.properties.iter().any(|(key, _)| key == TIME_TO_LIVE);
        let countable = !ends && matches!(description.loaded, Loaded::Whole { .. });
        let moment = flush(self.milvus, name, countable).await?;
        // What the flush named isn't all that belongs to it: newer servers leave out what they sealed by themselves, and
        // compact what they named at once. The listing has all of it.
        let segments = self.segments(id, name).await?;
        if !are_of_the_moment(&earlier, &moment.flushed, &segments) {
            return Ok(None);
        }
        if !are_described(&segments, &description) {
            // A partition was made meanwhile.
            description = self.describe(id, name).await?;
            if !are_described(&segments, &description) {
                return Ok(None);
            }
        }
        let mut counted = match &moment.before {
            Some(before) => self.count(name, before, &moment.flushed, &earlier, &segments).await?,
            None => None,
        };
        // The segments say whose they are; a count, and a list of none, are this collection's if it still has the name.
        if (counted.is_some() || segments.is_empty()) && self.milvus.collection_id(name).await? != Some(id) {
            if segments.is_empty() {
                return Err(Short::Elsewhere);
            }
            counted = None;
        }
        let segments: Vec<Segment> = segments
            .into_iter()
            .filter(|segment| match segment.level {
                SegmentLevel::Data => segment.is_flushed && segment.rows > 0,
                // Deletes after the point in time are cut off when they are imported, and deletes that are in the rows'
                // own delta logs by now may well be applied twice.
                SegmentLevel::L0 => segment.is_flushed,
            })
            .collect();
        for segment in &segments {
            if let (SegmentLevel::Data, StorageVersion::Other(version)) = (segment.level, segment.storage) {
                return Err(Short::Trouble(Failure::new(
                    FailureCode::EngineVersionUnsupported,
                    format!(
                        "segment {} is in Milvus's storage version {version}, whose logs can't be imported: only \
                         versions 1 and 2 can be backed up",
                        segment.id
                    ),
                )));
            }
        }
        Ok(Some(assemble(description, moment.flushed.timestamp, segments, counted)))
    }

    /// Counts the rows, if they can be counted; a collection that lost its name meanwhile can't.
    async fn count(
        &self,
        name: &CollectionName,
        before: &Observation,
        flushed: &FlushResult,
        earlier: &HashMap<i64, u64>,
        segments: &[Segment],
    ) -> Result<Option<Counted>, MilvusError> {
        match count_rows(self.milvus, name, before, flushed, earlier, segments).await {
            Err(MilvusError::Unreachable(reason)) => Err(MilvusError::Unreachable(reason)),
            // Whatever it is, the rows are captured without it.
            Err(error) => {
                tracing::info!(%error, collection = %name, "rows can't be counted");
                Ok(None)
            }
            counted => counted,
        }
    }

    async fn describe(&self, id: i64, name: &CollectionName) -> Result<CollectionDescription, Short> {
        let description = self.milvus.describe(name).await?;
        if description.id == id { Ok(description) } else { Err(Short::Elsewhere) }
    }

    async fn segments(&self, id: i64, name: &CollectionName) -> Result<Vec<Segment>, Short> {
        let segments = self.milvus.segments(name).await?;
        match segments.iter().all(|segment| segment.collection_id == id) {
            true => Ok(segments),
            false => Err(Short::Elsewhere),
        }
    }
}

/// Whether the listed segments surely have every row of the flush's moment.
///
/// A compaction writes a new segment, without the rows whose deletes were flushed before it, and these may be deletes of
/// after the moment. So nothing is lost if every segment of before is still there, or if the new ones have as many rows as
/// those that they replaced.
fn are_of_the_moment(earlier: &HashMap<i64, u64>, flushed: &FlushResult, segments: &[Segment]) -> bool {
    let listed = rows_of(segments);
    let is_known = |id: &i64| earlier.contains_key(id) || flushed.segments.contains(id);
    let lost: u64 = earlier.iter().filter(|(id, _)| !listed.contains_key(id)).map(|(_, rows)| rows).sum();
    let gained: u64 = listed.iter().filter(|(id, _)| !is_known(id)).map(|(_, rows)| rows).sum();
    // One that the flush sealed: nobody has said how many rows it had.
    let is_unknown = flushed.segments.iter().any(|id| !listed.contains_key(id) && !earlier.contains_key(id));
    !is_unknown && (lost == 0 || lost == gained)
}

/// Why a collection isn't captured under a name.
enum Short {
    /// The name doesn't stand for it, or doesn't any more.
    Elsewhere,
    /// It can't be captured at all.
    Trouble(Failure),
    Error(MilvusError),
}

impl From<MilvusError> for Short {
    fn from(error: MilvusError) -> Self {
        match error {
            MilvusError::NoCollection(_) => Self::Elsewhere,
            error => Self::Error(error),
        }
    }
}

/// The segments with rows that are in object storage, and how many rows each has.
fn rows_of(segments: &[Segment]) -> HashMap<i64, u64> {
    let data = segments.iter().filter(|segment| segment.is_flushed && segment.level == SegmentLevel::Data);
    data.filter(|segment| segment.rows > 0).map(|segment| (segment.id, segment.rows)).collect()
}

/// Whether no partition was made since the description, with rows in it that couldn't be brought back.
fn are_described(segments: &[Segment], description: &CollectionDescription) -> bool {
    let data = segments.iter().filter(|segment| segment.level == SegmentLevel::Data && segment.rows > 0);
    data.map(|s| s.partition_id).all(|id| description.partitions.iter().any(|partition| partition.id == id))
}

/// A point in time, and what was seen just before it.
struct Moment {
    flushed: FlushResult,
    before: Option<Observation>,
}

/// Rows that queries see, and the segments that the flush just before named.
struct Observation {
    rows: u64,
    segments: HashSet<i64>,
}

/// Flushes; twice, with a count between, where rows can be counted.
///
/// From 2.3.9 on, a server takes one flush in ten seconds of each collection by default. Nobody has to wait for an exact
/// count: if the server won't have the second flush yet, the first one is the point in time, and an upper bound is known.
async fn flush(milvus: &dyn Milvus, name: &CollectionName, countable: bool) -> Result<Moment, MilvusError> {
    let first = milvus.flush(name, OnRateLimit::Wait).await?;
    if !countable {
        return Ok(Moment { flushed: first, before: None });
    }
    let rows = match milvus.count(name).await {
        Ok(rows) => rows,
        Err(MilvusError::Unreachable(reason)) => return Err(MilvusError::Unreachable(reason)),
        Err(_) => return Ok(Moment { flushed: first, before: None }),
    };
    match milvus.flush(name, OnRateLimit::GiveUp).await {
        Ok(second) => {
            let segments = first.segments.into_iter().collect();
            Ok(Moment { flushed: second, before: Some(Observation { rows, segments }) })
        }
        Err(MilvusError::RateLimited(_)) => Ok(Moment { flushed: first, before: None }),
        Err(error) => Err(error),
    }
}

/// What is known of the rows at the point in time.
struct Counted {
    rows: u64,
    sample: Vec<PrimaryKey>,
}

/// The rows at the point in time, if that can be known: Milvus counts only the present.
///
/// Of three flushes around the two counts, the later ones name no segment that the first didn't, or that wasn't there
/// before: so nothing was inserted from the first to the last, and equal counts mean that nothing was deleted between
/// them, with the point in time in their middle. What is found by then was there at the point in time too. A flush that
/// seals nothing costs a tenth of a second.
async fn count_rows(
    milvus: &dyn Milvus,
    name: &CollectionName,
    before: &Observation,
    flushed: &FlushResult,
    earlier: &HashMap<i64, u64>,
    listed: &[Segment],
) -> Result<Option<Counted>, MilvusError> {
    let known: HashSet<i64> = before.segments.iter().chain(earlier.keys()).copied().collect();
    let names_no_more = |flush: &FlushResult| flush.segments.iter().all(|id| known.contains(id));
    let lists_no_more = rows_of(listed).keys().all(|id| known.contains(id));
    if !names_no_more(flushed) || !lists_no_more || milvus.count(name).await? != before.rows {
        return Ok(None);
    }
    let sample = milvus.some_keys(name, SAMPLE).await?;
    match milvus.flush(name, OnRateLimit::GiveUp).await {
        Ok(after) => {
            Ok(names_no_more(&after).then(|| Counted { rows: before.rows, sample: within(SAMPLE_BYTES, sample) }))
        }
        Err(MilvusError::RateLimited(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As many of the keys as take so many bytes.
fn within(bytes: usize, keys: Vec<PrimaryKey>) -> Vec<PrimaryKey> {
    let mut taken = 0;
    let size = |key: &PrimaryKey| match key {
        PrimaryKey::Int(_) => 8,
        PrimaryKey::Text(text) => text.len(),
    };
    keys.into_iter()
        .take_while(|key| {
            taken += size(key);
            taken <= bytes
        })
        .collect()
}

fn assemble(
    description: CollectionDescription,
    timestamp: u64,
    segments: Vec<Segment>,
    counted: Option<Counted>,
) -> CollectionCapture {
    let (rows, sample) = match counted {
        Some(Counted { rows, sample }) => (RowCount::Exactly { rows }, sample),
        None => {
            let rows = segments.iter().filter(|s| s.level == SegmentLevel::Data).map(|s| s.rows).sum();
            (RowCount::AtMost { rows }, Vec::new())
        }
    };
    CollectionCapture {
        name: description.name,
        id: description.id,
        schema: BASE64_STANDARD.encode(description.schema),
        primary_key: description.primary_key,
        fields: description.fields,
        shards: description.shards,
        consistency_level: description.consistency_level,
        properties: description.properties,
        partitions: description.partitions,
        has_partition_key: description.has_partition_key,
        indexes: description.indexes,
        aliases: description.aliases,
        loaded: description.loaded,
        flush_timestamp: timestamp,
        point_in_time: time_of(timestamp),
        rows,
        sample,
        size_bytes: 0,
        delta_logs: None,
        segments: segments
            .into_iter()
            .map(|segment| SegmentCapture {
                id: segment.id,
                partition_id: segment.partition_id,
                rows: match segment.level {
                    SegmentLevel::Data => segment.rows,
                    SegmentLevel::L0 => 0,
                },
                level: segment.level,
                storage: segment.storage,
            })
            .collect(),
    }
}

/// A hybrid timestamp holds milliseconds above 18 bits of a logical clock.
fn time_of(timestamp: u64) -> Time {
    i64::try_from(timestamp >> 18).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(rows: &[(i64, u64)]) -> Vec<Segment> {
        let segment = |(id, rows): &(i64, u64)| Segment {
            id: *id,
            collection_id: 1,
            partition_id: 2,
            rows: *rows,
            is_flushed: true,
            level: SegmentLevel::Data,
            storage: StorageVersion::V1,
        };
        rows.iter().map(segment).collect()
    }

    fn settled(earlier: &[(i64, u64)], named: &[i64], listed: &[(i64, u64)]) -> bool {
        let flushed = FlushResult { timestamp: 1, segments: named.to_vec() };
        are_of_the_moment(&rows_of(&segments(earlier)), &flushed, &segments(listed))
    }

    #[test]
    fn segments_of_before_that_are_all_there_or_replaced_by_as_many_rows_are_those_of_the_moment() {
        assert!(settled(&[(1, 10)], &[2], &[(1, 10), (2, 5)]));
        // One that the flush didn't name, or that is of later.
        assert!(settled(&[(1, 10)], &[2], &[(1, 10), (2, 5), (3, 7)]));
        // Sorted, or merged with another.
        assert!(settled(&[(1, 10)], &[2], &[(2, 5), (3, 10)]));
        assert!(settled(&[(1, 10), (4, 6)], &[2], &[(2, 5), (3, 16)]));
        assert!(settled(&[], &[], &[]));
    }

    #[test]
    fn rows_that_a_compaction_removed_may_be_of_the_moment() {
        assert!(!settled(&[(1, 10)], &[2], &[(2, 5), (3, 9)]));
        assert!(!settled(&[(1, 10)], &[2], &[(2, 5)]));
        // How many rows it had isn't known.
        assert!(!settled(&[(1, 10)], &[2], &[(1, 10), (3, 5)]));
    }
}
