//! A collection at its point in time, with everything needed to rebuild it.
//!
//! Milvus is asked by names, and a name may stand for another collection a moment later. So each answer is checked against
//! the id that the survey found, and a collection is looked up by its id when its name doesn't lead to it any more.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use futures::TryStreamExt;
use milvault_model::{
    CaptureTrouble, CollectionCapture, CollectionName, Failure, FailureCode, Loaded, ObjectKey, SegmentCapture,
    SegmentLevel, StorageVersion, TIME_TO_LIVE, Time, Written,
};
use milvault_ports::{Bucket, CollectionDescription, FlushResult, Milvus, MilvusError, OnRateLimit, Segment, objects};

use super::{
    assembly::{Counted, assemble},
    logs::{DELTA, Log, log_of},
    moment::{Moment, Trace, with_rows},
    survey::Wanted,
    work::Work,
};
use crate::{Error, Jobs, engine::halt::backoff, sample};

/// Collections flushed at once: each flush waits seconds for the server, which works on them side by side.
pub(super) const FLUSHES_IN_FLIGHT: usize = 8;

/// How long a collection is tried that can't be captured though the server answers: one that is starting says of
/// collections that it has that it doesn't, for some seconds.
const PATIENCE: TimeDelta = TimeDelta::seconds(30);

/// After so long without a try, [`PATIENCE`] begins anew: the slice ended meanwhile, or the network failed.
const FORGIVEN: TimeDelta = TimeDelta::seconds(20);

/// How long a collection is flushed again because compactions may have removed rows while it was.
const UNSETTLED: TimeDelta = TimeDelta::seconds(180);

/// Files that are listed so soon after their segments are all there: no server removes those of a dropped segment within
/// so long (`dataCoord.gc.dropTolerance`, three hours by default).
const PROMPT: TimeDelta = TimeDelta::seconds(5);

/// The first pause between two looks at a flush; it doubles up to the longest.
const FLUSH_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_FLUSH_PAUSE: Duration = Duration::from_secs(1);

/// How many times in a row a collection is followed to another name.
const RENAMES: u32 = 5;

/// What became of a collection.
pub(super) enum Captured {
    /// It was captured, under the name that it had at its point in time.
    Whole(Box<CollectionCapture>),
    /// It was dropped before its flush.
    Dropped,
    /// It is there, and can't be captured, for this reason.
    Trouble(Failure),
}

/// Captures collections of one server, for one slice.
pub(super) struct Capturing<'a> {
    jobs: &'a Jobs,
    milvus: &'a dyn Milvus,
    /// Where the server keeps its files.
    bucket: Bucket,
    root: String,
    /// Collections that can't be captured for now, by id.
    troubled: Mutex<BTreeMap<i64, CaptureTrouble>>,
    /// When a flush that is waited for got further, if one did.
    moved_at: Mutex<Option<Time>>,
}

impl<'a> Capturing<'a> {
    pub(super) fn new(work: &Work<'a>, milvus: &'a dyn Milvus, troubled: &[CaptureTrouble]) -> Result<Self, Error> {
        let (bucket, source) = work.source()?;
        Ok(Self {
            jobs: work.jobs,
            milvus,
            bucket,
            root: source.root_path.prefix(),
            troubled: Mutex::new(troubled.iter().map(|of| (of.collection, of.clone())).collect()),
            moved_at: Mutex::default(),
        })
    }

    /// When a flush that is waited for last got further, if one did.
    pub(super) fn moved_at(&self) -> Option<Time> {
        *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The collections that can't be captured for now: the next slice goes on waiting from there.
    pub(super) fn troubled(&self) -> Vec<CaptureTrouble> {
        self.troubles().values().cloned().collect()
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<i64, CaptureTrouble>> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when a collection that can't be captured now couldn't be.
    fn troubled_since(&self, id: i64, now: Time) -> Time {
        let mut troubles = self.troubles();
        let trouble = troubles.entry(id).or_insert(CaptureTrouble { collection: id, since: now, tried: now });
        if now - trouble.tried > FORGIVEN {
            trouble.since = now;
        }
        trouble.tried = now;
        trouble.since
    }

    /// Captures the collection with this id.
    ///
    /// # Errors
    /// When the server or its object storage doesn't answer at all.
    pub(super) async fn capture(&self, wanted: &Wanted) -> Result<Captured, Error> {
        let mut attempt = 0;
        loop {
            let error = match self.capture_now(wanted).await {
                Ok(captured) => {
                    self.troubles().remove(&wanted.id);
                    return Ok(captured);
                }
                Err(Error::Milvus(error)) => error,
                Err(error) => return Err(error),
            };
            let passes = match &error {
                // No answer says nothing about the collection.
                MilvusError::Unreachable(_) => return Err(error.into()),
                MilvusError::NotReady(_) | MilvusError::RateLimited(_) => true,
                _ => false,
            };
            // Nor does what a server says that is of no use to anybody.
            if let Err(error) = self.milvus.databases().await {
                self.troubles().clear();
                return Err(error.into());
            }
            let now = self.jobs.now();
            if !passes || now - self.troubled_since(wanted.id, now) > PATIENCE {
                self.troubles().remove(&wanted.id);
                let reason = match error {
                    MilvusError::NotReady(reason) => reason,
                    error => error.to_string(),
                };
                return Ok(Captured::Trouble(Failure::new(FailureCode::MilvusRefused, reason)));
            }
            tracing::warn!(%error, collection = %wanted.name, id = wanted.id, "a collection can't be captured for now");
            self.jobs.ports.clock.sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// Captures the collection under the name that it has.
    async fn capture_now(&self, wanted: &Wanted) -> Result<Captured, Error> {
        let mut name = wanted.name.clone();
        for _ in 0..RENAMES {
            match self.capture_as(wanted.id, &name).await {
                Ok(capture) => return Ok(Captured::Whole(Box::new(capture))),
                Err(Short::Trouble(failure)) => return Ok(Captured::Trouble(failure)),
                Err(Short::Error(error)) => return Err(error),
                Err(Short::Elsewhere) => match self.name_of(wanted.id, &name.database).await? {
                    Some(now) if now == name => {
                        let reason = format!("{name} is listed, but isn't found under its name");
                        return Err(MilvusError::NotReady(reason).into());
                    }
                    Some(now) => name = now,
                    None => return Ok(Captured::Dropped),
                },
            }
        }
        Err(MilvusError::NotReady(format!("{} is renamed again and again", wanted.name)).into())
    }

    /// Whether a collection has this name.
    pub(super) async fn is_taken(&self, name: &CollectionName) -> Result<bool, MilvusError> {
        Ok(self.milvus.collection_id(name).await?.is_some())
    }

    /// The name that a collection has, most likely in this database.
    pub(super) async fn name_of(&self, id: i64, database: &str) -> Result<Option<CollectionName>, MilvusError> {
        let mut databases = self.milvus.databases().await?;
        databases.sort_by_key(|name| name != database);
        for database in databases {
            let listed = self.milvus.collections(&database).await?;
            if let Some((name, _)) = listed.into_iter().find(|(_, listed)| *listed == id) {
                return Ok(Some(CollectionName::new(database, name)));
            }
        }
        Ok(None)
    }

    async fn capture_as(&self, id: i64, name: &CollectionName) -> Result<CollectionCapture, Short> {
        let began = self.jobs.now();
        let mut attempt = 0;
        loop {
            if let Some(capture) = self.describe_and_flush(id, name).await? {
                return Ok(capture);
            }
            if self.jobs.now() - began > UNSETTLED {
                return Err(Short::Trouble(Failure::new(
                    FailureCode::SourceChanged,
                    format!("its segments were compacted during each flush for {} seconds", UNSETTLED.num_seconds()),
                )));
            }
            self.jobs.ports.clock.sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// Captures the collection; `None` if its segments may lack rows of its point in time: then it has to be flushed
    /// again.
    async fn describe_and_flush(&self, id: i64, name: &CollectionName) -> Result<Option<CollectionCapture>, Short> {
        let mut description = self.describe(id, name).await?;
        let first = self.flush(id, name, OnRateLimit::Wait).await?;
        // Rows that end by themselves leave no trace when they do.
        let ends = description.properties.iter().any(|(key, _)| key == TIME_TO_LIVE);
        let countable = !ends && matches!(description.loaded, Loaded::Whole { .. });
        let (mut moment, before) = match countable {
            true => self.count_and_flush_again(id, name, first).await,
            false => (first, None),
        };
        let mut deletes = self.delta_logs(id, name, &mut moment).await?;
        let Some(segments) = moment.segments().map(<[Segment]>::to_vec) else { return Ok(None) };
        // Once more, for every field and partition that the flush found. One that lost its name since is what it was.
        match self.describe(id, name).await {
            Ok(later) => description = later,
            Err(Short::Elsewhere) => {}
            Err(error) => return Err(error),
        }
        if !are_described(&segments, &description) {
            return Ok(None);
        }
        let mut counted = match before {
            Some(before) => match self.count(name, &before, &moment.flush, &segments).await {
                Ok(counted) => counted,
                // Whatever it is, the rows are captured without it.
                Err(error) => {
                    tracing::info!(%error, collection = %name, "rows can't be counted");
                    None
                }
            },
            None => None,
        };
        // The segments say whose they are; a count is this collection's if it still has the name.
        if counted.is_some() && self.milvus.collection_id(name).await? != Some(id) {
            counted = None;
        }
        let segments: Vec<Segment> = segments
            .into_iter()
            .filter(|segment| match segment.level {
                SegmentLevel::Data => segment.is_flushed && segment.rows > 0,
                // Deletes after the point in time are cut off when they are imported, and deletes that are in the rows'
                // own delta logs by now may well be applied twice.
                SegmentLevel::L0 => segment.is_flushed,
            })
            .collect();
        for segment in &segments {
            if let (SegmentLevel::Data, StorageVersion::Other(version)) = (segment.level, segment.storage) {
                return Err(Short::Trouble(Failure::new(
                    FailureCode::EngineVersionUnsupported,
                    format!(
                        "segment {} is in Milvus's storage version {version}, whose logs can't be imported: only \
                         versions 1 and 2 can be backed up",
                        segment.id
                    ),
                )));
            }
        }
        let needed = &moment.trace.needed;
        let segments = segments.into_iter().map(|segment| SegmentCapture {
            id: segment.id,
            partition_id: segment.partition_id,
            rows: match segment.level {
                SegmentLevel::Data => segment.rows,
                SegmentLevel::L0 => 0,
            },
            level: segment.level,
            storage: segment.storage,
            written: if needed.contains(&segment.id) { Written::Before } else { Written::Unknown },
            delta_logs: deletes.remove(&segment.id).unwrap_or_default(),
        });
        Ok(Some(assemble(description, moment.flush.timestamp, segments.collect(), counted)))
    }

    /// The delta logs of the moment's segments: of one that is dropped later, some may be gone before the others, and
    /// nothing else says how many there were.
    async fn delta_logs(
        &self,
        id: i64,
        name: &CollectionName,
        moment: &mut Moment,
    ) -> Result<HashMap<i64, Vec<i64>>, Short> {
        let clock = &self.jobs.ports.clock;
        let began = clock.now();
        loop {
            let found = self.list_delta_logs(id).await?;
            if clock.now() - moment.listed_at <= PROMPT {
                return Ok(found);
            }
            let (listed_at, listed) = (clock.now(), self.segments(id, name).await?);
            let there: HashSet<i64> = listed.iter().map(|segment| segment.id).collect();
            if moment.listed.iter().all(|segment| there.contains(&segment.id)) {
                return Ok(found);
            }
            if clock.now() - began > UNSETTLED {
                return Err(Short::Trouble(Failure::new(
                    FailureCode::SourceChanged,
                    format!(
                        "segments were compacted whenever its deletes were listed, for {} s",
                        UNSETTLED.num_seconds()
                    ),
                )));
            }
            moment.trace.follow(&listed);
            (moment.listed_at, moment.listed) = (listed_at, listed);
        }
    }

    async fn list_delta_logs(&self, id: i64) -> Result<HashMap<i64, Vec<i64>>, Error> {
        let prefix = format!("{}{DELTA}/{id}/", self.root);
        let mut found: HashMap<i64, Vec<i64>> = HashMap::new();
        let mut listing = pin!(objects(self.jobs.ports.objects.as_ref(), &self.bucket, &prefix));
        while let Some(object) = listing.try_next().await? {
            let key = ObjectKey::from_source(&object.key[self.root.len()..]);
            if let Some((segment, Log::Delta(log))) = key.and_then(|key| log_of(&key, DELTA)) {
                found.entry(segment).or_default().push(log);
            }
        }
        Ok(found)
    }

    /// Flushes, waits until that is over, and follows what becomes of the segments meanwhile.
    async fn flush(&self, id: i64, name: &CollectionName, on_limit: OnRateLimit) -> Result<Moment, Short> {
        let clock = &self.jobs.ports.clock;
        let mut trace = Trace::begin(&self.segments(id, name).await?);
        let flush = self.milvus.flush(name, on_limit).await?;
        trace.needed.extend(&flush.sealed);
        let (mut moved_at, mut unseen) = (clock.now(), trace.unseen());
        let (mut pause, mut is_over) = (FLUSH_PAUSE, false);
        loop {
            let is_flushed = is_over || self.milvus.is_flushed(name, &flush).await?;
            let listed_at = clock.now();
            let listed = self.segments(id, name).await?;
            trace.follow(&listed);
            let unflushed = || listed.iter().filter(|segment| !segment.is_flushed).map(|segment| segment.id);
            if is_flushed && !is_over {
                // A write that was under way has its timestamp from before the flush, and may have come into a segment
                // that was made after it: 2.3.5 gives a write its timestamp first (`internal/proxy/task_insert.go`).
                trace.needed.extend(unflushed());
                is_over = true;
            }
            if is_over && !unflushed().any(|id| trace.needed.contains(&id)) {
                return Ok(Moment { flush, listed_at, listed, trace });
            }
            if trace.unseen() != unseen {
                (moved_at, unseen) = (clock.now(), trace.unseen());
                *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(moved_at);
            }
            let limit = self.jobs.settings.stall;
            if clock.now() - moved_at > limit {
                let reason = format!("its flush got no further for {} s", limit.num_seconds());
                return Err(Short::Trouble(Failure::new(FailureCode::MilvusRefused, reason)));
            }
            clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_FLUSH_PAUSE);
        }
    }

    /// Counts the rows after a flush, and flushes once more.
    ///
    /// From 2.3.9 on, a server takes one flush in ten seconds of each collection by default. Nobody has to wait for an
    /// exact count: if the server won't have the second flush yet, the first one is the point in time, and an upper bound
    /// is known.
    async fn count_and_flush_again(
        &self,
        id: i64,
        name: &CollectionName,
        first: Moment,
    ) -> (Moment, Option<Observation>) {
        // One that is loading, or whose query node is gone, can't be counted, and can be backed up.
        let Ok(rows) = self.milvus.count(name).await else { return (first, None) };
        match self.flush(id, name, OnRateLimit::GiveUp).await {
            Ok(second) if second.segments().is_some() || first.segments().is_none() => {
                let segments = first.trace.before.iter().copied().chain(first.flush.named()).collect();
                (second, Some(Observation { rows, segments }))
            }
            // Nobody has to go without a backup for a count.
            Ok(_) | Err(_) => (first, None),
        }
    }

    /// The rows at the point in time, if that can be known: Milvus counts only the present.
    ///
    /// Of three flushes around the two counts, the later ones name no segment that the first didn't, or that wasn't there
    /// before: so nothing was inserted from the first to the last, and equal counts mean that nothing was deleted between
    /// them, with the point in time in their middle. What is found by then was there at the point in time too. A flush that
    /// seals nothing costs a tenth of a second.
    async fn count(
        &self,
        name: &CollectionName,
        before: &Observation,
        flush: &FlushResult,
        listed: &[Segment],
    ) -> Result<Option<Counted>, MilvusError> {
        let names_no_more = |flush: &FlushResult| flush.named().all(|id| before.segments.contains(&id));
        let lists_no_more = with_rows(listed).all(|segment| before.segments.contains(&segment.id));
        if !names_no_more(flush) || !lists_no_more || self.milvus.count(name).await? != before.rows {
            return Ok(None);
        }
        let sample = self.milvus.some_keys(name, sample::MAX_KEYS).await?;
        // What it names is all that matters: nobody has to wait until it is over.
        match self.milvus.flush(name, OnRateLimit::GiveUp).await {
            Ok(after) => {
                let counted = Counted { rows: before.rows, sample: sample::first(sample) };
                Ok(names_no_more(&after).then_some(counted))
            }
            Err(MilvusError::RateLimited(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn describe(&self, id: i64, name: &CollectionName) -> Result<CollectionDescription, Short> {
        let description = self.milvus.describe(name).await?;
        if description.id == id { Ok(description) } else { Err(Short::Elsewhere) }
    }

    /// The collection's segments; of none, the name says whose they aren't.
    async fn segments(&self, id: i64, name: &CollectionName) -> Result<Vec<Segment>, Short> {
        let segments = self.milvus.segments(name).await?;
        let is_ours = match segments.is_empty() {
            true => self.milvus.collection_id(name).await? == Some(id),
            false => segments.iter().all(|segment| segment.collection_id == id),
        };
        if is_ours { Ok(segments) } else { Err(Short::Elsewhere) }
    }
}

/// Why a collection isn't captured under a name.
enum Short {
    /// The name doesn't stand for it, or doesn't any more.
    Elsewhere,
    /// It can't be captured at all.
    Trouble(Failure),
    Error(Error),
}

impl From<MilvusError> for Short {
    fn from(error: MilvusError) -> Self {
        match error {
            MilvusError::NoCollection(_) => Self::Elsewhere,
            error => Self::Error(error.into()),
        }
    }
}

impl From<Error> for Short {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Whether no partition was made since the description, with rows in it that couldn't be brought back.
fn are_described(segments: &[Segment], description: &CollectionDescription) -> bool {
    let data = segments.iter().filter(|segment| segment.level == SegmentLevel::Data && segment.rows > 0);
    data.map(|s| s.partition_id).all(|id| description.partitions.iter().any(|partition| partition.id == id))
}

/// Rows that queries saw after a flush, and the segments that there were by then.
struct Observation {
    rows: u64,
    segments: HashSet<i64>,
}
