//! FLUSH: every collection at a stated point in time, with everything needed to rebuild it.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::DateTime;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{
    BackupPhase, CollectionCapture, CollectionName, CollectionPattern, FailureCode, LeftOut, Loaded, RowCount,
    SegmentCapture, Time, restore_owns,
};

use super::work::Work;
use crate::{
    layout::PageKind,
    pages::COLLECTIONS_PER_PAGE,
    ports::{CollectionDescription, Milvus, MilvusError, PutMode, Segment},
    slice::{Step, fatal},
};

/// Collections flushed at once: each flush waits seconds for the server, which works on them side by side.
const FLUSHES_IN_FLIGHT: usize = 4;

/// How often a collection is flushed again because a compaction came between its flush and its segments.
const MAX_FLUSHES: u32 = 5;

/// What FLUSH found beside the collections, kept until the manifest is written.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Survey {
    pub(crate) databases: Vec<String>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// The survey's key in the backup's folder.
pub(crate) fn survey_key(capture: u64) -> String {
    format!("{}{capture:010}-survey.json", PageKind::Capture.prefix())
}

pub(crate) async fn flush(work: &mut Work<'_>) -> Step {
    let milvus = work.milvus().await?;
    let mut survey = Survey::default();
    let mut wanted = Vec::new();
    for database in milvus.databases().await? {
        for (collection, _) in milvus.collections(&database).await? {
            let name = CollectionName::new(&database, collection);
            if restore_owns(&name.collection) {
                let reason = "made by a restore: being rebuilt, or kept for a rollback".to_owned();
                survey.left_out.push(LeftOut { collection: name, reason });
            } else if CollectionPattern::selects(&work.backup.selection, &name) {
                wanted.push(name);
            }
        }
        survey.databases.push(database);
    }
    for pattern in &work.backup.selection {
        if !wanted.iter().any(|name| pattern.matches(name)) {
            return Err(fatal(FailureCode::MilvusRefused, format!("nothing matches '{pattern}': no such collection")));
        }
    }
    wanted.sort();

    let captures: Vec<Captured> = stream::iter(&wanted)
        .map(|name| capture(milvus.as_ref(), name))
        .buffered(FLUSHES_IN_FLIGHT)
        .try_collect()
        .await?;
    let mut collections = Vec::with_capacity(captures.len());
    for captured in captures {
        match captured {
            Captured::Whole(collection) => collections.push(*collection),
            Captured::DroppedBefore(name) => {
                survey.left_out.push(LeftOut { collection: name, reason: "dropped before its flush".to_owned() });
            }
        }
    }

    let fence = work.lease.fence;
    let folder = work.folder();
    for (number, page) in (0..).zip(collections.chunks(COLLECTIONS_PER_PAGE)) {
        folder.write(PageKind::Capture.key(fence, number), page).await?;
    }
    let body = serde_json::to_vec(&survey).map_err(|error| folder.bad("survey", error.to_string()))?;
    folder.objects.put(folder.bucket, &folder.path(&survey_key(fence)), body, PutMode::Replace).await?;
    Ok(work.enter(BackupPhase::Plan { capture: fence }).await?)
}

enum Captured {
    Whole(Box<CollectionCapture>),
    DroppedBefore(CollectionName),
}

async fn capture(milvus: &dyn Milvus, name: &CollectionName) -> Step<Captured> {
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
