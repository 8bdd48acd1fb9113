//! The server's metadata about the files of a collection's segments.
//!
//! A listing may show logs of retried writes, which belong to no segment: an import would load their rows twice. It may
//! also lack logs that were just collected as garbage. If the server reports which files a segment has (from 2.5.8 on),
//! a plan has exactly those; otherwise it is made from the listing alone.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use milvault_model::{CollectionCapture, CollectionName};
use milvault_ports::{InsertLog, Milvus, MilvusError, SegmentFiles};

use crate::Error;

/// The number of segments in one request.
const BATCH: usize = 100;

/// The files of a collection's segments, with one batch of segments in memory at a time.
pub(super) struct Metadata {
    milvus: Arc<dyn Milvus>,
    collection: CollectionName,
    id: i64,
    /// The segments' ids, in the order of a listing.
    segments: Vec<i64>,
    places: HashMap<i64, usize>,
    /// The place of the batch's first segment, and the files by segment.
    batch: Option<(usize, HashMap<i64, Files>)>,
    /// Whether the server offers this metadata.
    is_offered: bool,
}

struct Files {
    insert_logs: HashSet<InsertLog>,
    delta_logs: HashSet<i64>,
}

/// Whether a listed file belongs to a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileStatus {
    /// The file belongs to the segment.
    Referenced,
    /// The file belongs to no segment.
    Orphan,
    /// The server doesn't report it.
    Unknown,
}

impl Metadata {
    pub(super) fn new(milvus: Arc<dyn Milvus>, collection: &CollectionCapture) -> Self {
        let mut segments: Vec<(String, i64)> =
            collection.segments.iter().map(|s| (format!("{}/{}/", s.partition_id, s.id), s.id)).collect();
        segments.sort();
        let segments: Vec<i64> = segments.into_iter().map(|(_, id)| id).collect();
        let places = segments.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        Self {
            milvus,
            collection: collection.name.clone(),
            id: collection.id,
            segments,
            places,
            batch: None,
            is_offered: true,
        }
    }

    /// Returns whether a delta log belongs to this segment.
    pub(super) async fn delta_log(&mut self, segment: i64, log: i64) -> Result<FileStatus, Error> {
        let Some(files) = self.files(segment).await? else { return Ok(FileStatus::Unknown) };
        Ok(if files.delta_logs.contains(&log) { FileStatus::Referenced } else { FileStatus::Orphan })
    }

    /// The segment's insert logs; `None` if the server doesn't report them.
    pub(super) async fn insert_logs(&mut self, segment: i64) -> Result<Option<&HashSet<InsertLog>>, Error> {
        Ok(self.files(segment).await?.map(|files| &files.insert_logs))
    }

    /// The segments that the server has now; empty if the collection was renamed or is gone.
    pub(super) async fn segments(&self) -> Result<HashSet<i64>, Error> {
        match self.milvus.segments(&self.collection).await {
            Ok(segments) => {
                let ours = segments.into_iter().filter(|segment| segment.collection_id == self.id);
                Ok(ours.map(|segment| segment.id).collect())
            }
            Err(MilvusError::NoCollection(_)) => Ok(HashSet::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The files of the segments that the server still has: the server refuses a whole request if one of its segments
    /// was compacted. The files of the other segments stay unknown.
    async fn files_of_existing(&self, segments: &[i64]) -> Result<Option<Vec<SegmentFiles>>, Error> {
        let there = self.segments().await?;
        let existing: Vec<i64> = segments.iter().copied().filter(|segment| there.contains(segment)).collect();
        if existing.is_empty() {
            return Ok(Some(Vec::new()));
        }
        match self.milvus.segment_files(&self.collection.database, self.id, &existing).await {
            Err(MilvusError::NoCollection(_) | MilvusError::Refused(_)) => Ok(None),
            answer => Ok(answer?),
        }
    }

    async fn files(&mut self, segment: i64) -> Result<Option<&Files>, Error> {
        let Some(place) = self.places.get(&segment).copied() else { return Ok(None) };
        let first = place - place % BATCH;
        if self.is_offered && self.batch.as_ref().is_none_or(|(loaded, _)| *loaded != first) {
            let batch = &self.segments[first..(first + BATCH).min(self.segments.len())];
            let files = match self.milvus.segment_files(&self.collection.database, self.id, batch).await {
                Err(MilvusError::NoCollection(_) | MilvusError::Refused(_)) => self.files_of_existing(batch).await?,
                answer => answer?,
            };
            match files {
                Some(files) => {
                    let files = files.into_iter().map(|files| (files.segment, Files::from(files))).collect();
                    self.batch = Some((first, files));
                }
                None => self.is_offered = false,
            }
        }
        Ok(self.batch.as_ref().filter(|_| self.is_offered).and_then(|(_, files)| files.get(&segment)))
    }
}

impl From<SegmentFiles> for Files {
    fn from(files: SegmentFiles) -> Self {
        Self {
            insert_logs: files.insert_logs.into_iter().collect(),
            delta_logs: files.delta_logs.into_iter().collect(),
        }
    }
}
