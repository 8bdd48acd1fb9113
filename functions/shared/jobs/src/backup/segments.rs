//! The captured segments of a collection, checked against the listing of their logs.

use std::collections::HashMap;

use milvault_model::{CollectionCapture, FieldCapture, ObjectKey, SegmentCapture, SegmentLevel};

use super::{
    explain::{Folders, Listed},
    logs::{DELTA, INSERT},
    metadata::Metadata,
};

/// A segment whose logs appear complete in a listing.
pub(super) struct Unconfirmed<'c> {
    pub(super) segment: &'c SegmentCapture,
    /// The segment's logs of row ids, if their rows weren't counted yet.
    pub(super) row_ids: Option<Folders>,
    /// A field without logs, which may have been added after the segment was written.
    pub(super) without_logs: Option<&'c FieldCapture>,
}

/// The captured segments of a collection, while their logs are listed.
pub(super) struct Segments<'c> {
    pub(super) collection: &'c CollectionCapture,
    pub(super) metadata: Metadata,
    pub(super) segments: HashMap<i64, &'c SegmentCapture>,
    /// Segments that must have logs, but of which none was listed yet: insert logs for segments with rows, delta logs
    /// for segments of deletes. In reverse order of the listing.
    pub(super) ahead: Vec<(String, &'c SegmentCapture)>,
    /// Delta logs of the capture that weren't listed yet, in the same order.
    deletes_ahead: Vec<(String, &'c SegmentCapture)>,
    /// Segments whose logs were listed and appear complete.
    pub(super) unconfirmed: Vec<Unconfirmed<'c>>,
    /// Whether a log of any segment was listed.
    pub(super) is_any_seen: bool,
    /// The segment whose insert logs are being listed, and the logs listed so far.
    pub(super) current: Option<(i64, Vec<Listed>)>,
}

impl<'c> Segments<'c> {
    /// Creates the segments. Those up to `after`, the last planned object, were already listed.
    pub(super) fn new(collection: &'c CollectionCapture, metadata: Metadata, after: Option<&ObjectKey>) -> Self {
        let path = |s: &SegmentCapture| {
            let kind = match s.level {
                SegmentLevel::Data => INSERT,
                SegmentLevel::L0 => DELTA,
            };
            format!("{}/{kind}/{}/{}/", collection.id, s.partition_id, s.id)
        };
        let with_logs = collection.segments.iter().filter(|s| s.rows > 0 || s.level == SegmentLevel::L0);
        let with_logs = with_logs.map(|s| (path(s), s));
        let is_ahead = |path: &str| after.is_none_or(|after| after.as_str() < path || after.as_str().starts_with(path));
        let mut ahead: Vec<_> = with_logs.filter(|(path, _)| is_ahead(path)).collect();
        ahead.sort_by(|(a, _), (b, _)| b.cmp(a));
        let deletes = collection.segments.iter().flat_map(|s| {
            let key = move |log| format!("{}/{DELTA}/{}/{}/{log}", collection.id, s.partition_id, s.id);
            s.delta_logs.iter().map(move |log| (key(log), s))
        });
        let mut deletes_ahead: Vec<_> =
            deletes.filter(|(key, _)| after.is_none_or(|after| after.as_str() < key.as_str())).collect();
        deletes_ahead.sort_by(|(a, _), (b, _)| b.cmp(a));
        let segments = collection.segments.iter().map(|segment| (segment.id, segment)).collect();
        let is_any_seen = after.is_some_and(|after| after.collection() == collection.id.to_string());
        let (unconfirmed, current) = (Vec::new(), None);
        Self { collection, metadata, segments, ahead, deletes_ahead, unconfirmed, is_any_seen, current }
    }

    /// Returns the segments that have a delta log before this key which the listing didn't show.
    pub(super) fn pass_deletes(&mut self, key: &str) -> Vec<&'c SegmentCapture> {
        let mut lost = Vec::new();
        while let Some((passed, segment)) = self.deletes_ahead.pop_if(|(passed, _)| passed.as_str() <= key) {
            if passed != key {
                lost.push(segment);
            }
        }
        lost
    }

    /// Notes a listed log. Returns a segment before it of which the listing showed no log.
    pub(super) fn note_listed(&mut self, key: &ObjectKey) -> Option<&'c SegmentCapture> {
        self.is_any_seen = true;
        let mut unseen = None;
        while let Some((path, passed)) = self.ahead.pop_if(|(path, _)| path.as_str() <= key.as_str()) {
            if !key.as_str().starts_with(&path) {
                unseen = Some(passed);
            }
        }
        unseen
    }
}
