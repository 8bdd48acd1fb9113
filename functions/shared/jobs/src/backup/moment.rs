//! A point in time, and the segments that have all of its rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use milvault_model::{SegmentLevel, Time};
use milvault_ports::{FlushResult, Segment};

/// A point in time, with the segments that were listed once its flush was complete.
pub(super) struct Moment {
    pub(super) flush: FlushResult,
    /// When the listing was requested.
    pub(super) listed_at: Time,
    pub(super) listed: Vec<Segment>,
    pub(super) trace: Trace,
}

impl Moment {
    /// The segments that have every row of the moment; `None` if rows may be missing.
    ///
    /// The segments that the flush names aren't enough: newer servers leave out segments that they sealed by
    /// themselves, and compact the named ones at once. A compaction writes a new segment without the rows that were
    /// deleted before it, perhaps after the moment. So the listed segments have every row if, whenever segments
    /// disappeared, new ones appeared with as many rows.
    pub(super) fn segments(&self) -> Option<&[Segment]> {
        let Trace { needed, seen, is_whole, .. } = &self.trace;
        (*is_whole && needed.is_subset(seen)).then_some(&self.listed)
    }
}

/// The changes of a collection's segments during a flush, from successive listings.
pub(super) struct Trace {
    /// Segments with rows that existed before the flush.
    pub(super) before: HashSet<i64>,
    /// All segments with rows of the moment, including `before`.
    pub(super) needed: HashSet<i64>,
    /// Every segment that was listed with all of its rows.
    pub(super) seen: HashSet<i64>,
    last: HashMap<i64, Segment>,
    /// Whether new segments appeared with as many rows whenever segments disappeared.
    is_whole: bool,
}

impl Trace {
    pub(super) fn begin(listed: &[Segment]) -> Self {
        let before: HashSet<i64> = with_rows(listed).map(|segment| segment.id).collect();
        let mut trace =
            Self { needed: before.clone(), before, seen: HashSet::new(), last: HashMap::new(), is_whole: true };
        trace.follow(listed);
        trace
    }

    /// The number of needed segments that haven't been listed with all of their rows yet.
    pub(super) fn unseen(&self) -> usize {
        self.needed.difference(&self.seen).count()
    }

    /// Adds the next listing.
    pub(super) fn follow(&mut self, listed: &[Segment]) {
        let now: HashMap<i64, Segment> = with_rows(listed).map(|segment| (segment.id, segment.clone())).collect();
        // The flush stored the new segments that are needed; the other new ones may be a compaction's.
        let is_new = |segment: &&Segment| !self.last.contains_key(&segment.id) && !self.needed.contains(&segment.id);
        let new: Vec<&Segment> = now.values().filter(is_new).collect();
        let mut lost: BTreeMap<i64, u64> = BTreeMap::new();
        for gone in self.last.values().filter(|segment| !now.contains_key(&segment.id)) {
            *lost.entry(gone.partition_id).or_default() += gone.rows;
        }
        // A compaction affects one partition. Segments stored since may be listed beside its results; then only sorted
        // segments are results.
        self.is_whole &= lost.into_iter().all(|(partition, lost)| {
            let new = || new.iter().filter(|segment| segment.partition_id == partition);
            let gained: u64 = new().map(|segment| segment.rows).sum();
            let sorted: u64 = new().filter(|segment| segment.is_sorted).map(|segment| segment.rows).sum();
            lost == gained || lost == sorted
        });
        let flushed = listed.iter().filter(|segment| segment.is_flushed);
        self.seen.extend(flushed.map(|segment| segment.id));
        self.last = now;
    }
}

/// The segments whose rows are in object storage.
pub(super) fn with_rows(segments: &[Segment]) -> impl Iterator<Item = &Segment> {
    let data = segments.iter().filter(|segment| segment.is_flushed && segment.level == SegmentLevel::Data);
    data.filter(|segment| segment.rows > 0)
}

#[cfg(test)]
mod tests {
    use milvault_model::StorageVersion;

    use super::*;

    fn segments(rows: &[(i64, u64)]) -> Vec<Segment> {
        let segment = |(id, rows): &(i64, u64)| Segment {
            id: *id,
            collection_id: 1,
            partition_id: 2,
            rows: *rows,
            is_flushed: true,
            is_sorted: *id > 1_000,
            level: SegmentLevel::Data,
            storage: StorageVersion::V1,
        };
        rows.iter().map(segment).collect()
    }

    /// The segments that are captured after these listings, the first one from before a flush that named `sealed`.
    fn captured(sealed: &[i64], listings: &[&[(i64, u64)]]) -> Option<Vec<i64>> {
        let mut trace = Trace::begin(&segments(listings[0]));
        trace.needed.extend(sealed);
        for listing in &listings[1..] {
            trace.follow(&segments(listing));
        }
        let flush = FlushResult { timestamp: 1, sealed: sealed.to_vec(), flushed: Vec::new() };
        let listed = segments(listings.last().unwrap());
        let moment = Moment { flush, listed_at: Time::default(), listed, trace };
        Some(moment.segments()?.iter().map(|segment| segment.id).collect())
    }

    #[test]
    fn the_listed_segments_have_all_rows_if_none_disappeared_or_as_many_rows_appeared() {
        let listed = |sealed: &[i64], listings: &[&[(i64, u64)]]| captured(sealed, listings).unwrap();
        assert_eq!(listed(&[2], &[&[(1, 10)], &[(1, 10), (2, 5)]]), [1, 2]);
        // A segment that the flush didn't name, or a later one.
        assert_eq!(listed(&[2], &[&[(1, 10)], &[(1, 10), (2, 5), (3, 7)]]), [1, 2, 3]);
        // A segment is sorted, or merged with another one.
        assert_eq!(listed(&[2], &[&[(1, 10)], &[(1, 10), (2, 5)], &[(2, 5), (3, 10)]]), [2, 3]);
        assert_eq!(listed(&[2], &[&[(1, 10), (4, 6)], &[(2, 5), (3, 16)], &[(5, 21)]]), [5]);
        // A segment is sorted after another one was stored.
        let stored = [(1, 10), (2, 5), (6, 8)];
        assert_eq!(listed(&[2], &[&[(1, 10)], &stored, &[(2, 5), (3, 10), (6, 8)]]), [2, 3, 6]);
        // A segment is sorted while another one is stored.
        assert_eq!(listed(&[2], &[&[(1, 10)], &[(2, 5), (1001, 10), (6, 8)]]), [2, 1001, 6]);
        assert!(listed(&[], &[&[], &[]]).is_empty());
    }

    #[test]
    fn rows_that_a_compaction_removed_may_belong_to_the_moment() {
        assert_eq!(captured(&[2], &[&[(1, 10)], &[(2, 5), (3, 9)]]), None);
        assert_eq!(captured(&[], &[&[(1, 10)], &[]]), None);
        assert_eq!(captured(&[], &[&[(1, 10)], &[(3, 9)], &[(4, 9)]]), None);
        // The number of its rows was never listed.
        assert_eq!(captured(&[2], &[&[(1, 10)], &[(1, 10), (3, 5)]]), None);
    }
}
