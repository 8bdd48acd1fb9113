//! A point in time, and the segments that have every row of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use milvault_model::{SegmentLevel, Time};
use milvault_ports::{FlushResult, Segment};

/// A point in time, with what was listed once its flush was over.
pub(super) struct Moment {
    pub(super) flush: FlushResult,
    /// When the listing was asked for.
    pub(super) listed_at: Time,
    pub(super) listed: Vec<Segment>,
    pub(super) trace: Trace,
}

impl Moment {
    /// Segments that have every row of the moment; `None` if that can't be told.
    ///
    /// What the flush named isn't all that belongs to it: newer servers leave out what they sealed by themselves, and
    /// compact what they named at once. A compaction writes a new segment without the rows that are deleted by then, and
    /// that may be by deletes after the moment. So what is listed has every row if as many came as went whenever some went.
    pub(super) fn segments(&self) -> Option<&[Segment]> {
        let Trace { needed, seen, is_whole, .. } = &self.trace;
        (*is_whole && needed.is_subset(seen)).then_some(&self.listed)
    }
}

/// What becomes of a collection's segments while a flush is waited for, told from one listing after the other.
pub(super) struct Trace {
    /// Segments with rows that were there before.
    pub(super) before: HashSet<i64>,
    /// Those, and what else has rows of the moment.
    pub(super) needed: HashSet<i64>,
    /// Every segment that was listed with all of its rows.
    pub(super) seen: HashSet<i64>,
    last: HashMap<i64, Segment>,
    /// Whether as many rows have come as have gone, whenever some went.
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

    /// How many segments that are needed haven't been listed with all of their rows yet.
    pub(super) fn unseen(&self) -> usize {
        self.needed.difference(&self.seen).count()
    }

    pub(super) fn follow(&mut self, listed: &[Segment]) {
        let now: HashMap<i64, Segment> = with_rows(listed).map(|segment| (segment.id, segment.clone())).collect();
        // What is needed and new was stored by the flush, and isn't a compaction's.
        let is_new = |segment: &&Segment| !self.last.contains_key(&segment.id) && !self.needed.contains(&segment.id);
        let new: Vec<&Segment> = now.values().filter(is_new).collect();
        let mut lost: BTreeMap<i64, u64> = BTreeMap::new();
        for gone in self.last.values().filter(|segment| !now.contains_key(&segment.id)) {
            *lost.entry(gone.partition_id).or_default() += gone.rows;
        }
        // A compaction is of one partition. Beside what it made there may be what was stored since.
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

/// The segments with rows that are in object storage.
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

    /// The segments that are captured after these listings, the first of before a flush that named these.
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
    fn what_is_listed_has_all_rows_if_nothing_went_or_as_many_came() {
        let listed = |sealed: &[i64], listings: &[&[(i64, u64)]]| captured(sealed, listings).unwrap();
        assert_eq!(listed(&[2], &[&[(1, 10)], &[(1, 10), (2, 5)]]), [1, 2]);
        // One that the flush didn't name, or that is of later.
        assert_eq!(listed(&[2], &[&[(1, 10)], &[(1, 10), (2, 5), (3, 7)]]), [1, 2, 3]);
        // Sorted, or merged with another.
        assert_eq!(listed(&[2], &[&[(1, 10)], &[(1, 10), (2, 5)], &[(2, 5), (3, 10)]]), [2, 3]);
        assert_eq!(listed(&[2], &[&[(1, 10), (4, 6)], &[(2, 5), (3, 16)], &[(5, 21)]]), [5]);
        // Sorted after another one was stored.
        let stored = [(1, 10), (2, 5), (6, 8)];
        assert_eq!(listed(&[2], &[&[(1, 10)], &stored, &[(2, 5), (3, 10), (6, 8)]]), [2, 3, 6]);
        // Sorted beside one that was stored since.
        assert_eq!(listed(&[2], &[&[(1, 10)], &[(2, 5), (1001, 10), (6, 8)]]), [2, 1001, 6]);
        assert!(listed(&[], &[&[], &[]]).is_empty());
    }

    #[test]
    fn rows_that_a_compaction_removed_may_be_of_the_moment() {
        assert_eq!(captured(&[2], &[&[(1, 10)], &[(2, 5), (3, 9)]]), None);
        assert_eq!(captured(&[], &[&[(1, 10)], &[]]), None);
        assert_eq!(captured(&[], &[&[(1, 10)], &[(3, 9)], &[(4, 9)]]), None);
        // How many rows it had isn't known.
        assert_eq!(captured(&[2], &[&[(1, 10)], &[(1, 10), (3, 5)]]), None);
    }
}
