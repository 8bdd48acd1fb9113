//! Captures a collection at its point in time, with everything needed to rebuild it.
//!
//! Milvus takes names, and a name may lead to another collection a moment later. So every answer is checked against the
//! id from the survey, and a collection is looked up by its id when its name no longer leads to it.

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
    survey::CaptureTarget,
    work::Work,
};
use crate::{Error, Jobs, engine::halt::backoff, sample};

/// The number of collections flushed at once: each flush waits seconds for the server, which handles flushes in
/// parallel.
pub(super) const FLUSHES_IN_FLIGHT: usize = 8;

/// How long a collection that can't be captured is retried while the server answers: for some seconds, a server that is
/// starting doesn't find collections that it has.
const PATIENCE: TimeDelta = TimeDelta::seconds(30);

/// After a pause of this length between two tries, [`PATIENCE`] starts over: the slice ended, or the network failed.
const PATIENCE_RESET: TimeDelta = TimeDelta::seconds(20);

/// How long a collection is flushed again because compactions may have removed rows during its flush.
const COMPACTION_PATIENCE: TimeDelta = TimeDelta::seconds(180);

/// A listing of files this soon after the listing of their segments is complete: no server removes the files of a
/// dropped segment sooner (`dataCoord.gc.dropTolerance`, three hours by default).
const PROMPT_LISTING: TimeDelta = TimeDelta::seconds(5);

/// The first pause between two checks of a flush; it doubles up to [`LONGEST_FLUSH_PAUSE`].
const FLUSH_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_FLUSH_PAUSE: Duration = Duration::from_secs(1);

/// How many times in a row a collection is captured again under a new name.
const RENAMES: u32 = 5;

/// The outcome of a capture.
pub(super) enum Captured {
    /// The collection was captured, under the name that it had at its point in time.
    Whole(Box<CollectionCapture>),
    /// The collection was dropped before its flush.
    Dropped,
    /// The collection exists but can't be captured, for this reason.
    Trouble(Failure),
}

/// Captures collections of one server, for one slice.
pub(super) struct Capturer<'a> {
    jobs: &'a Jobs,
    milvus: &'a dyn Milvus,
    /// The bucket in which the server keeps its files.
    bucket: Bucket,
    root: String,
    /// Collections that can't be captured for now, by id.
    troubled: Mutex<BTreeMap<i64, CaptureTrouble>>,
    /// When a pending flush last made progress.
    progressed_at: Mutex<Option<Time>>,
}

impl<'a> Capturer<'a> {
    pub(super) fn new(work: &Work<'a>, milvus: &'a dyn Milvus, troubled: &[CaptureTrouble]) -> Result<Self, Error> {
        let (bucket, source) = work.source()?;
        Ok(Self {
            jobs: work.jobs,
            milvus,
            bucket,
            root: source.root_path.prefix(),
            troubled: Mutex::new(troubled.iter().map(|of| (of.collection, of.clone())).collect()),
            progressed_at: Mutex::default(),
        })
    }

    /// When a pending flush last made progress; `None` if none did.
    pub(super) fn progressed_at(&self) -> Option<Time> {
        *self.progressed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The collections that can't be captured for now: the next slice continues their [`PATIENCE`].
    pub(super) fn troubled(&self) -> Vec<CaptureTrouble> {
        self.troubles().values().cloned().collect()
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<i64, CaptureTrouble>> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failed capture; returns when the collection's captures began to fail.
    fn note_trouble(&self, id: i64, now: Time) -> Time {
        let mut troubles = self.troubles();
        let trouble = troubles.entry(id).or_insert(CaptureTrouble { collection: id, since: now, tried: now });
        if now - trouble.tried > PATIENCE_RESET {
            trouble.since = now;
        }
        trouble.tried = now;
        trouble.since
    }

    /// Captures a collection.
    ///
    /// # Errors
    /// If the server or its object storage doesn't answer at all.
    pub(super) async fn capture(&self, target: &CaptureTarget) -> Result<Captured, Error> {
        let mut attempt = 0;
        loop {
            let error = match self.capture_now(target).await {
                Ok(captured) => {
                    self.troubles().remove(&target.id);
                    return Ok(captured);
                }
                Err(Error::Milvus(error)) => error,
                Err(error) => return Err(error),
            };
            let may_pass = match &error {
                // Without an answer, nothing is known about the collection.
                MilvusError::Unreachable(_) => return Err(error.into()),
                MilvusError::NotReady(_) | MilvusError::RateLimited(_) => true,
                _ => false,
            };
            // A server that answers no request at all says nothing about the collection either.
            if let Err(error) = self.milvus.databases().await {
                self.troubles().clear();
                return Err(error.into());
            }
            let now = self.jobs.now();
            if !may_pass || now - self.note_trouble(target.id, now) > PATIENCE {
                self.troubles().remove(&target.id);
                let reason = match error {
                    MilvusError::NotReady(reason) => reason,
                    error => error.to_string(),
                };
                return Ok(Captured::Trouble(Failure::new(FailureCode::MilvusRefused, reason)));
            }
            tracing::warn!(%error, collection = %target.name, id = target.id, "a collection cannot be captured now");
            self.jobs.ports.clock.sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// Captures a collection once, under its present name.
    async fn capture_now(&self, target: &CaptureTarget) -> Result<Captured, Error> {
        let mut name = target.name.clone();
        for _ in 0..RENAMES {
            match self.capture_as(target.id, &name).await {
                Ok(capture) => return Ok(Captured::Whole(Box::new(capture))),
                Err(CaptureError::Trouble(failure)) => return Ok(Captured::Trouble(failure)),
                Err(CaptureError::Error(error)) => return Err(error),
                Err(CaptureError::NotFound) => match self.name_of(target.id, &name.database).await? {
                    Some(now) if now == name => {
                        let reason = format!("{name} is listed, but is not found under its name");
                        return Err(MilvusError::NotReady(reason).into());
                    }
                    Some(now) => name = now,
                    None => return Ok(Captured::Dropped),
                },
            }
        }
        Err(MilvusError::NotReady(format!("{} is renamed repeatedly", target.name)).into())
    }

    /// Returns whether a collection has this name.
    pub(super) async fn is_name_taken(&self, name: &CollectionName) -> Result<bool, MilvusError> {
        Ok(self.milvus.collection_id(name).await?.is_some())
    }

    /// Returns a collection's present name. Looks in this database first.
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

    async fn capture_as(&self, id: i64, name: &CollectionName) -> Result<CollectionCapture, CaptureError> {
        let began = self.jobs.now();
        let mut attempt = 0;
        loop {
            if let Some(capture) = self.describe_and_flush(id, name).await? {
                return Ok(capture);
            }
            if self.jobs.now() - began > COMPACTION_PATIENCE {
                return Err(CaptureError::Trouble(Failure::new(
                    FailureCode::SourceChanged,
                    format!(
                        "its segments were compacted during each flush for {} seconds",
                        COMPACTION_PATIENCE.num_seconds()
                    ),
                )));
            }
            self.jobs.ports.clock.sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// Captures the collection. Returns `None` if its segments may lack rows of its point in time: then it has to be
    /// flushed again.
    async fn describe_and_flush(
        &self,
        id: i64,
        name: &CollectionName,
    ) -> Result<Option<CollectionCapture>, CaptureError> {
        let mut description = self.describe(id, name).await?;
        let first = self.flush(id, name, OnRateLimit::Wait).await?;
        // Rows that expire leave no trace.
        let expires = description.properties.iter().any(|(key, _)| key == TIME_TO_LIVE);
        let is_countable = !expires && matches!(description.loaded, Loaded::Whole { .. });
        let (mut moment, before) = match is_countable {
            true => self.count_and_flush_again(id, name, first).await,
            false => (first, None),
        };
        let mut deletes = self.delta_logs(id, name, &mut moment).await?;
        let Some(segments) = moment.segments().map(<[Segment]>::to_vec) else { return Ok(None) };
        // Described again, for fields and partitions added before the flush. If the collection has lost its name since,
        // the first description stands.
        match self.describe(id, name).await {
            Ok(later) => description = later,
            Err(CaptureError::NotFound) => {}
            Err(error) => return Err(error),
        }
        if !are_described(&segments, &description) {
            return Ok(None);
        }
        let mut counted = match before {
            Some(before) => match self.count(name, &before, &moment.flush, &segments).await {
                Ok(counted) => counted,
                // Whatever the error is, the rows are captured without a count.
                Err(error) => {
                    tracing::info!(%error, collection = %name, "the rows cannot be counted");
                    None
                }
            },
            None => None,
        };
        // Segments name their collection; a count is this collection's only if it still has the name.
        if counted.is_some() && self.milvus.collection_id(name).await? != Some(id) {
            counted = None;
        }
        let segments: Vec<Segment> = segments
            .into_iter()
            .filter(|segment| match segment.level {
                SegmentLevel::Data => segment.is_flushed && segment.rows > 0,
                // The import cuts off deletes after the point in time. Deletes that a compaction has also moved to the
                // rows' own delta logs may be applied twice.
                SegmentLevel::L0 => segment.is_flushed,
            })
            .collect();
        for segment in &segments {
            if let (SegmentLevel::Data, StorageVersion::Other(version)) = (segment.level, segment.storage) {
                return Err(CaptureError::Trouble(Failure::new(
                    FailureCode::EngineVersionUnsupported,
                    format!(
                        "segment {} uses Milvus storage version {version}, whose logs cannot be imported: only \
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

    /// Lists the delta logs of the moment's segments. Nothing else records their number, and garbage collection removes
    /// those of a dropped segment one by one.
    async fn delta_logs(
        &self,
        id: i64,
        name: &CollectionName,
        moment: &mut Moment,
    ) -> Result<HashMap<i64, Vec<i64>>, CaptureError> {
        let clock = &self.jobs.ports.clock;
        let began = clock.now();
        loop {
            let found = self.list_delta_logs(id).await?;
            if clock.now() - moment.listed_at <= PROMPT_LISTING {
                return Ok(found);
            }
            let (listed_at, listed) = (clock.now(), self.segments(id, name).await?);
            let there: HashSet<i64> = listed.iter().map(|segment| segment.id).collect();
            if moment.listed.iter().all(|segment| there.contains(&segment.id)) {
                return Ok(found);
            }
            if clock.now() - began > COMPACTION_PATIENCE {
                return Err(CaptureError::Trouble(Failure::new(
                    FailureCode::SourceChanged,
                    format!(
                        "its segments were compacted during each listing of its delta logs for {} seconds",
                        COMPACTION_PATIENCE.num_seconds()
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

    /// Flushes the collection, waits until the flush is complete, and tracks the segments during the flush.
    async fn flush(&self, id: i64, name: &CollectionName, on_limit: OnRateLimit) -> Result<Moment, CaptureError> {
        let clock = &self.jobs.ports.clock;
        let mut trace = Trace::begin(&self.segments(id, name).await?);
        let flush = self.milvus.flush(name, on_limit).await?;
        trace.needed.extend(&flush.sealed);
        let (mut progressed_at, mut unseen) = (clock.now(), trace.unseen());
        let (mut pause, mut is_over) = (FLUSH_PAUSE, false);
        loop {
            let is_flushed = is_over || self.milvus.is_flushed(name, &flush).await?;
            let listed_at = clock.now();
            let listed = self.segments(id, name).await?;
            trace.follow(&listed);
            let unflushed = || listed.iter().filter(|segment| !segment.is_flushed).map(|segment| segment.id);
            if is_flushed && !is_over {
                // A write in progress may have a timestamp from before the flush and be in a segment created after it:
                // 2.3.5 gives a write its timestamp first (`internal/proxy/task_insert.go`).
                trace.needed.extend(unflushed());
                is_over = true;
            }
            if is_over && !unflushed().any(|id| trace.needed.contains(&id)) {
                return Ok(Moment { flush, listed_at, listed, trace });
            }
            if trace.unseen() != unseen {
                (progressed_at, unseen) = (clock.now(), trace.unseen());
                *self.progressed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(progressed_at);
            }
            let limit = self.jobs.settings.stall;
            if clock.now() - progressed_at > limit {
                let reason = format!("its flush made no progress for {} seconds", limit.num_seconds());
                return Err(CaptureError::Trouble(Failure::new(FailureCode::MilvusRefused, reason)));
            }
            clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_FLUSH_PAUSE);
        }
    }

    /// Counts the rows after a flush, and flushes once more.
    ///
    /// From 2.3.9 on, a server accepts by default one flush in ten seconds for each collection. The backup doesn't wait
    /// for an exact count: if the server refuses the second flush, the first one is the point in time, and only an
    /// upper bound is known.
    async fn count_and_flush_again(
        &self,
        id: i64,
        name: &CollectionName,
        first: Moment,
    ) -> (Moment, Option<Observation>) {
        // A collection that is loading, or whose query node is gone, can't be counted but can be backed up.
        let Ok(rows) = self.milvus.count(name).await else { return (first, None) };
        match self.flush(id, name, OnRateLimit::GiveUp).await {
            Ok(second) if second.segments().is_some() || first.segments().is_none() => {
                let segments = first.trace.before.iter().copied().chain(first.flush.named()).collect();
                (second, Some(Observation { rows, segments }))
            }
            // No backup fails because of a count.
            Ok(_) | Err(_) => (first, None),
        }
    }

    /// Counts the rows at the point in time. Returns `None` if the count may be wrong: Milvus counts only the present
    /// rows.
    ///
    /// There are three flushes around two counts, and the point in time is between the counts. If the later flushes
    /// name only segments that the first one named or that existed before, nothing was inserted from the first flush to
    /// the last. Equal counts then mean that nothing was deleted between them, so the rows found now were there at the
    /// point in time too. A flush that seals nothing takes a tenth of a second.
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
        // Only the segments that this flush names matter: it needn't be complete.
        match self.milvus.flush(name, OnRateLimit::GiveUp).await {
            Ok(after) => {
                let counted = Counted { rows: before.rows, sample: sample::first(sample) };
                Ok(names_no_more(&after).then_some(counted))
            }
            Err(MilvusError::RateLimited(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn describe(&self, id: i64, name: &CollectionName) -> Result<CollectionDescription, CaptureError> {
        let description = self.milvus.describe(name).await?;
        if description.id == id { Ok(description) } else { Err(CaptureError::NotFound) }
    }

    /// Lists the collection's segments. If there are none, the collection's id is checked by its name instead.
    async fn segments(&self, id: i64, name: &CollectionName) -> Result<Vec<Segment>, CaptureError> {
        let segments = self.milvus.segments(name).await?;
        let is_ours = match segments.is_empty() {
            true => self.milvus.collection_id(name).await? == Some(id),
            false => segments.iter().all(|segment| segment.collection_id == id),
        };
        if is_ours { Ok(segments) } else { Err(CaptureError::NotFound) }
    }
}

/// Why a collection isn't captured under a name.
enum CaptureError {
    /// The name doesn't lead to the collection, or no longer does.
    NotFound,
    /// The collection can't be captured at all.
    Trouble(Failure),
    Error(Error),
}

impl From<MilvusError> for CaptureError {
    fn from(error: MilvusError) -> Self {
        match error {
            MilvusError::NoCollection(_) => Self::NotFound,
            error => Self::Error(error.into()),
        }
    }
}

impl From<Error> for CaptureError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Returns whether the description has the partitions of all rows: rows of a later partition couldn't be restored.
fn are_described(segments: &[Segment], description: &CollectionDescription) -> bool {
    let data = segments.iter().filter(|segment| segment.level == SegmentLevel::Data && segment.rows > 0);
    data.map(|s| s.partition_id).all(|id| description.partitions.iter().any(|partition| partition.id == id))
}

/// The number of rows that a query counted after a flush, and the segments that existed at that time.
struct Observation {
    rows: u64,
    segments: HashSet<i64>,
}
