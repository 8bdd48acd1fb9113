//! A collection at its point in time, with everything needed to rebuild it.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::DateTime;
use milvault_model::{
    CollectionCapture, CollectionName, FailureCode, Loaded, PrimaryKey, RowCount, SegmentCapture, SegmentLevel,
    StorageVersion, TIME_TO_LIVE, Time,
};

use crate::{
    ports::{CollectionDescription, FlushResult, Milvus, MilvusError, OnRateLimit, Segment},
    slice::{Step, fatal},
};

/// How often a collection is flushed again because a compaction came between its flush and its segments.
const MAX_FLUSHES: u32 = 5;

/// How many primary keys a sample has at most.
const SAMPLE: usize = 64;

/// And how many bytes: a key may have 65,535 of them.
const SAMPLE_BYTES: usize = 4096;

/// What became of a collection.
pub(super) enum Captured {
    Whole(Box<CollectionCapture>),
    DroppedBefore(CollectionName),
}

pub(super) async fn capture(milvus: &dyn Milvus, name: &CollectionName) -> Step<Captured> {
    match describe_and_flush(milvus, name).await {
        Ok(capture) => Ok(Captured::Whole(Box::new(capture))),
        Err(Flushing::Dropped) => Ok(Captured::DroppedBefore(name.clone())),
        Err(Flushing::Error(error)) => Err(error.into()),
        Err(Flushing::Unsettled) => Err(fatal(
            FailureCode::SourceChanged,
            format!("{name}: its segments were compacted during each of {MAX_FLUSHES} flushes"),
        )),
        Err(Flushing::Storage(segment, version)) => Err(fatal(
            FailureCode::EngineVersionUnsupported,
            format!(
                "{name}: segment {segment} is in Milvus's storage version {version}, whose logs can't be imported: \
                 only versions 1 and 2 can be backed up"
            ),
        )),
    }
}

enum Flushing {
    Dropped,
    Unsettled,
    Storage(i64, i64),
    Error(MilvusError),
}

impl From<MilvusError> for Flushing {
    fn from(error: MilvusError) -> Self {
        match error {
            MilvusError::NoCollection(_) => Self::Dropped,
            error => Self::Error(error),
        }
    }
}

async fn describe_and_flush(milvus: &dyn Milvus, name: &CollectionName) -> Result<CollectionCapture, Flushing> {
    for _ in 0..MAX_FLUSHES {
        let description = milvus.describe(name).await?;
        let earlier = data_of(&milvus.segments(name).await?);
        // Rows that end by themselves leave no trace when they do.
        let ends = description.properties.iter().any(|(key, _)| key == TIME_TO_LIVE);
        let countable = !ends && matches!(description.loaded, Loaded::Whole { .. });
        let moment = flush(milvus, name, countable).await?;
        let segments = milvus.segments(name).await?;
        // A compaction writes a new segment, which may lack rows deleted after the point in time: only segments of
        // before it hold the rows of its moment. These are those that the flush names, and, in case it doesn't name
        // all (2.4.0 left out what isn't of level L1: milvus-io/milvus 33055), those that were flushed already.
        let of_the_flush: HashSet<i64> = moment.flushed.segments.iter().copied().chain(earlier).collect();
        if !of_the_flush.is_subset(&data_of(&segments)) || !are_described(&segments, &description) {
            continue;
        }
        let counted = match &moment.before {
            Some(before) => count_rows(milvus, name, before, &moment.flushed).await?,
            None => None,
        };
        let segments: Vec<Segment> = segments
            .into_iter()
            .filter(|segment| match segment.level {
                SegmentLevel::Data => of_the_flush.contains(&segment.id) && segment.rows > 0,
                // No flush names them: deletes after the point in time are cut off when they are imported, and deletes
                // that are in the rows' own delta logs by now may well be applied twice.
                SegmentLevel::L0 => segment.is_flushed,
            })
            .collect();
        for segment in &segments {
            if let (SegmentLevel::Data, StorageVersion::Other(version)) = (segment.level, segment.storage) {
                return Err(Flushing::Storage(segment.id, version));
            }
        }
        return Ok(assemble(description, moment.flushed.timestamp, segments, counted));
    }
    Err(Flushing::Unsettled)
}

/// The ids of the segments with rows that are in object storage.
fn data_of(segments: &[Segment]) -> HashSet<i64> {
    let data = segments.iter().filter(|segment| segment.is_flushed && segment.level == SegmentLevel::Data);
    data.map(|segment| segment.id).collect()
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

/// Rows that queries see, and the segments that held all of them just before.
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
    let rows = milvus.count(name).await?;
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
/// Of three flushes around the two counts, each names the same segments: so nothing was inserted from the first to the
/// last, and equal counts mean that nothing was deleted between them, with the point in time in their middle. What is
/// found by then was there at the point in time too. A flush that seals nothing costs a tenth of a second.
async fn count_rows(
    milvus: &dyn Milvus,
    name: &CollectionName,
    before: &Observation,
    flushed: &FlushResult,
) -> Result<Option<Counted>, MilvusError> {
    let of_the_flush: HashSet<i64> = flushed.segments.iter().copied().collect();
    if before.segments != of_the_flush || milvus.count(name).await? != before.rows {
        return Ok(None);
    }
    let sample = milvus.some_keys(name, SAMPLE).await?;
    match milvus.flush(name, OnRateLimit::GiveUp).await {
        Ok(after) => {
            let after: HashSet<i64> = after.segments.into_iter().collect();
            Ok((after == of_the_flush).then(|| Counted { rows: before.rows, sample: within(SAMPLE_BYTES, sample) }))
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
