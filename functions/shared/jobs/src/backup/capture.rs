//! A collection at its point in time, with everything needed to rebuild it.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::DateTime;
use milvault_model::{CollectionCapture, CollectionName, FailureCode, Loaded, RowCount, SegmentCapture, Time};

use crate::{
    ports::{CollectionDescription, Milvus, MilvusError, Segment},
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
    }
}

enum Flushing {
    Dropped,
    Unsettled,
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
        let countable = matches!(description.loaded, Loaded::Whole { .. });
        let before = if countable { Some(observe(milvus, name).await?) } else { None };
        let flushed = milvus.flush(name).await?;
        let segments = milvus.segments(name).await?;
        // A compaction writes a new segment, which may lack rows deleted after the point in time: only the very
        // segments that the flush named hold the rows of its moment.
        let found: HashSet<i64> = segments.iter().filter(|s| s.is_flushed).map(|s| s.id).collect();
        let of_the_flush: HashSet<i64> = flushed.segments.iter().copied().collect();
        if !of_the_flush.is_subset(&found) {
            continue;
        }
        let segments: Vec<Segment> =
            segments.into_iter().filter(|s| of_the_flush.contains(&s.id) && s.rows > 0).collect();
        let rows = match before {
            Some(before) => count_rows(milvus, name, before, &of_the_flush).await?,
            None => None,
        };
        return Ok(assemble(description, flushed.timestamp, segments, rows));
    }
    Err(Flushing::Unsettled)
}

/// Rows that queries see, and the segments that held all of them just before.
struct Observation {
    rows: u64,
    segments: HashSet<i64>,
}

async fn observe(milvus: &dyn Milvus, name: &CollectionName) -> Result<Observation, MilvusError> {
    let segments = milvus.flush(name).await?.segments.into_iter().collect();
    Ok(Observation { rows: milvus.count(name).await?, segments })
}

/// The rows at the point in time, if that can be known: Milvus counts only the present.
///
/// Of three flushes around the two counts, each names the same segments: so nothing was inserted from the first to the
/// last, and equal counts mean that nothing was deleted between them, with the point in time in their middle. A flush
/// that seals nothing costs a tenth of a second.
async fn count_rows(
    milvus: &dyn Milvus,
    name: &CollectionName,
    before: Observation,
    of_the_flush: &HashSet<i64>,
) -> Result<Option<u64>, MilvusError> {
    if before.segments != *of_the_flush || milvus.count(name).await? != before.rows {
        return Ok(None);
    }
    let after: HashSet<i64> = milvus.flush(name).await?.segments.into_iter().collect();
    Ok((after == *of_the_flush).then_some(before.rows))
}

fn assemble(
    description: CollectionDescription,
    timestamp: u64,
    segments: Vec<Segment>,
    counted: Option<u64>,
) -> CollectionCapture {
    let rows = match counted {
        Some(rows) => RowCount::Exactly { rows },
        None => RowCount::AtMost { rows: segments.iter().map(|segment| segment.rows).sum() },
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
            .map(|segment| SegmentCapture { id: segment.id, partition_id: segment.partition_id, rows: segment.rows })
            .collect(),
    }
}

/// A hybrid timestamp holds milliseconds above 18 bits of a logical clock.
fn time_of(timestamp: u64) -> Time {
    i64::try_from(timestamp >> 18).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default()
}
