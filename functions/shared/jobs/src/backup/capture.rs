//! A collection at its point in time, with everything needed to rebuild it.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::DateTime;
use milvault_model::{
    CollectionCapture, CollectionName, FailureCode, Loaded, RowCount, SegmentCapture, SegmentLevel, StorageVersion,
    Time,
};

use crate::{
    ports::{CollectionDescription, FlushResult, Milvus, MilvusError, OnRateLimit, Segment},
    slice::{Step, fatal},
};

/// How often a collection is flushed again because a compaction came between its flush and its segments.
const MAX_FLUSHES: u32 = 5;

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
        let moment = flush(milvus, name, matches!(description.loaded, Loaded::Whole { .. })).await?;
        let segments = milvus.segments(name).await?;
        // A compaction writes a new segment, which may lack rows deleted after the point in time: only segments of
        // before it hold the rows of its moment. These are those that the flush names, and, in case it doesn't name
        // all (2.4.0 left out what isn't of level L1: milvus-io/milvus 33055), those that were flushed already.
        let of_the_flush: HashSet<i64> = moment.flushed.segments.iter().copied().chain(earlier).collect();
        if !of_the_flush.is_subset(&data_of(&segments)) {
            continue;
        }
        let rows = match &moment.before {
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
        return Ok(assemble(description, moment.flushed.timestamp, segments, rows));
    }
    Err(Flushing::Unsettled)
}

/// The ids of the segments with rows that are in object storage.
fn data_of(segments: &[Segment]) -> HashSet<i64> {
    let data = segments.iter().filter(|segment| segment.is_flushed && segment.level == SegmentLevel::Data);
    data.map(|segment| segment.id).collect()
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

/// The rows at the point in time, if that can be known: Milvus counts only the present.
///
/// Of three flushes around the two counts, each names the same segments: so nothing was inserted from the first to the
/// last, and equal counts mean that nothing was deleted between them, with the point in time in their middle. A flush
/// that seals nothing costs a tenth of a second.
async fn count_rows(
    milvus: &dyn Milvus,
    name: &CollectionName,
    before: &Observation,
    flushed: &FlushResult,
) -> Result<Option<u64>, MilvusError> {
    let of_the_flush: HashSet<i64> = flushed.segments.iter().copied().collect();
    if before.segments != of_the_flush || milvus.count(name).await? != before.rows {
        return Ok(None);
    }
    match milvus.flush(name, OnRateLimit::GiveUp).await {
        Ok(after) => {
            let after: HashSet<i64> = after.segments.into_iter().collect();
            Ok((after == of_the_flush).then_some(before.rows))
        }
        Err(MilvusError::RateLimited(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn assemble(
    description: CollectionDescription,
    timestamp: u64,
    segments: Vec<Segment>,
    counted: Option<u64>,
) -> CollectionCapture {
    let rows = match counted {
        Some(rows) => RowCount::Exactly { rows },
        None => {
            RowCount::AtMost { rows: segments.iter().filter(|s| s.level == SegmentLevel::Data).map(|s| s.rows).sum() }
        }
    };
    CollectionCapture {
        name: description.name,
        id: description.id,
        schema: BASE64_STANDARD.encode(description.schema),
        primary_key: description.primary_key,
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
