//! A segment and the keys of its logs.

use std::time::Instant;

use milvus::proto::common::{SegmentLevel, SegmentState};

use super::event::Event;

#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) id: i64,
    pub(crate) partition: i64,
    pub(crate) rows: Vec<Event>,
    pub(crate) level: SegmentLevel,
    pub(crate) state: SegmentState,
    /// Folder and log.
    pub(crate) insert: Vec<(i64, i64)>,
    pub(crate) delta: Vec<i64>,
    /// The deletes in its delta logs.
    pub(crate) deltas: Vec<Event>,
    /// Whether a compaction made it and sorted its rows.
    pub(crate) is_sorted: bool,
    /// When it was sealed.
    pub(crate) sealed: u64,
    /// When it will be stored and listed; `None` once it is.
    pub(crate) stored_at: Option<Instant>,
    /// When it will be replaced by a sorted one.
    pub(crate) sort_at: Option<Instant>,
}

/// Where a segment belongs, and the fields that it has logs of.
pub(crate) struct Place<'a> {
    pub(crate) collection: i64,
    pub(crate) fields: &'a [i64],
    pub(crate) partition: i64,
}

impl Segment {
    pub(crate) fn is_data(&self) -> bool {
        self.level != SegmentLevel::L0
    }
}

pub(super) fn keys_of(collection: i64, segment: &Segment) -> Vec<String> {
    let place = format!("{collection}/{}/{}", segment.partition, segment.id);
    let insert = segment.insert.iter().map(|(folder, log)| format!("insert_log/{place}/{folder}/{log}"));
    insert.chain(segment.delta.iter().map(|log| format!("delta_log/{place}/{log}"))).collect()
}
