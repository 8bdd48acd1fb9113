//! What a server does by itself, at the [`Pace`] of its switches: it stores what was sealed, sorts and compacts.
//!
//! The work is done at the server's next call, which looks the same to clients.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use milvus::proto::common::{SegmentLevel, SegmentState};

use crate::{
    Pace,
    state::{Event, Place, Segment, State, latest},
};

/// A segment with fewer rows is merged with others (`dataCoord.segment.smallProportion`, scaled down).
const SMALL: usize = 4_000;

/// Whether a timer has run out; if so, it starts again.
fn is_due(timer: &mut Option<Instant>, now: Instant, every: Duration) -> bool {
    let due = timer.is_some_and(|at| at <= now);
    if due || timer.is_none() {
        *timer = Some(now + every);
    }
    due
}

impl State {
    /// Does all work that is due.
    pub(crate) async fn work(&mut self) {
        let Some(pace) = self.faults.pace else { return };
        let names = |(database, collections): (&String, &BTreeMap<String, _>)| {
            collections.keys().map(|name| (database.clone(), name.clone())).collect::<Vec<_>>()
        };
        let names: Vec<(String, String)> = self.databases.iter().flat_map(names).collect();
        for (database, name) in names {
            self.work_on(&database, &name, pace).await;
        }
    }

    async fn work_on(&mut self, database: &str, name: &str, pace: Pace) {
        let now = Instant::now();
        let (sorts, has_l0) = (self.line.sorts(), self.line.has_l0());
        let Some(collection) = self.collection(database, name) else { return };
        let (id, fields) = (collection.id, collection.fields());
        let level_zero = is_due(&mut collection.timers.level_zero, now, pace.level_zero) && has_l0;
        let mix = is_due(&mut collection.timers.mix, now, pace.mix);
        let growing = collection.oldest_growing();
        let mut segments = std::mem::take(&mut collection.segments);
        for segment in &mut segments {
            segment.store(now, sorts.then_some(pace));
        }
        let mut segments = self.sort(id, &fields, segments, now).await;
        if level_zero {
            let unstored = segments.iter().filter(|segment| segment.stored_at.is_some()).flat_map(|s| &s.rows);
            let oldest = unstored.map(|row| row.timestamp).chain(growing).min().unwrap_or(u64::MAX);
            segments = self.compact_level_zero(id, segments, oldest).await;
        }
        if mix {
            segments = self.mix(id, &fields, segments).await;
        }
        if let Some(collection) = self.collection(database, name) {
            collection.segments = segments;
        }
    }

    /// Replaces what is due by sorted segments of new ids (`SaveStatsResultSegment` in `internal/datacoord/meta.go`, 2.5).
    async fn sort(&mut self, id: i64, fields: &[i64], segments: Vec<Segment>, now: Instant) -> Vec<Segment> {
        let mut sorted = Vec::with_capacity(segments.len());
        for segment in segments {
            match segment.sort_at {
                Some(at) if at <= now => sorted.extend(self.rewrite(id, fields, &[segment]).await),
                _ => sorted.push(segment),
            }
        }
        sorted
    }

    /// Brings the deletes of L0 segments into the delta logs of the segments whose rows they delete
    /// (`internal/datacoord/compaction_policy_l0.go` and `compaction_task_l0.go`). L0 segments whose deletes may be of
    /// rows that aren't stored yet wait (`earliestGrowingSegmentPos` in `compaction_l0_view.go`).
    async fn compact_level_zero(&mut self, id: i64, segments: Vec<Segment>, oldest_unstored: u64) -> Vec<Segment> {
        let is_ready = |segment: &Segment| {
            let latest = segment.deltas.iter().map(|delete| delete.timestamp).max().unwrap_or_default();
            segment.level == SegmentLevel::L0 && segment.stored_at.is_none() && latest < oldest_unstored
        };
        let (ready, mut others): (Vec<_>, Vec<_>) = segments.into_iter().partition(is_ready);
        if ready.is_empty() {
            return others;
        }
        for segment in others.iter_mut().filter(|segment| segment.is_data() && segment.stored_at.is_none()) {
            let deletes = ready.iter().filter(|l0| l0.partition < 0 || l0.partition == segment.partition);
            let deletes: HashMap<i64, u64> = latest(deletes.flat_map(|l0| &l0.deltas));
            let theirs: Vec<Event> = segment
                .rows
                .iter()
                .filter_map(|row| deletes.get(&row.key).map(|at| Event { key: row.key, timestamp: *at }))
                .collect();
            if !theirs.is_empty() {
                self.add_delta(id, segment, &theirs).await;
            }
        }
        others
    }

    /// Merges small segments and applies the deletes in delta logs (`completeMixCompactionMutation` in
    /// `internal/datacoord/meta.go`): segments of new ids, without the rows that are deleted.
    async fn mix(&mut self, id: i64, fields: &[i64], segments: Vec<Segment>) -> Vec<Segment> {
        let is_ready = |s: &Segment| s.is_data() && s.stored_at.is_none() && s.sort_at.is_none();
        let (mut ready, mut left): (Vec<_>, Vec<_>) = segments.into_iter().partition(is_ready);
        ready.sort_by_key(|segment| segment.partition);
        let mut group: Vec<Segment> = Vec::new();
        let mut groups = Vec::new();
        for segment in ready {
            let rows: usize = group.iter().map(|member| member.rows.len()).sum();
            let fits = group.last().is_none_or(|last| last.partition == segment.partition && rows < SMALL);
            if !fits || segment.rows.len() >= SMALL {
                groups.push(std::mem::take(&mut group));
            }
            group.push(segment);
        }
        groups.push(group);
        for group in groups {
            if group.len() > 1 || group.iter().any(|segment| !segment.deltas.is_empty()) {
                left.extend(self.rewrite(id, fields, &group).await);
            } else {
                left.extend(group);
            }
        }
        left
    }

    /// A new segment with the rows of these that their own delta logs don't delete. Their objects stay in the bucket.
    async fn rewrite(&mut self, id: i64, fields: &[i64], of: &[Segment]) -> Option<Segment> {
        let live = |segment: &Segment| {
            let deleted = latest(&segment.deltas);
            let is_live = move |row: &&Event| deleted.get(&row.key).is_none_or(|at| *at < row.timestamp);
            segment.rows.iter().filter(is_live).copied().collect::<Vec<_>>()
        };
        let rows: Vec<Event> = of.iter().flat_map(live).collect();
        let first = of.first().filter(|_| !rows.is_empty())?;
        let place = Place { collection: id, fields, partition: first.partition };
        let segment = self.write(place, SegmentLevel::L1, &rows).await;
        // A merge of sorted segments is sorted (`internal/datanode/compactor/merge_sort.go`, 2.5).
        Some(Segment { level: first.level, is_sorted: self.line.sorts(), ..segment })
    }
}

impl Segment {
    /// Stores the segment if its time has come, and plans its sorting at this pace.
    fn store(&mut self, now: Instant, sorting: Option<Pace>) {
        let Some(at) = self.stored_at.filter(|at| *at <= now) else { return };
        self.stored_at = None;
        self.state = SegmentState::Flushed;
        self.sort_at = sorting.filter(|_| self.is_data()).map(|pace| at + pace.sort);
    }
}
