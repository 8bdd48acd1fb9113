//! A worker's view of the restore that it works on: its record, its ledger, and its checkpoints.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use futures::{
    StreamExt,
    future::{Either, select},
    stream,
};
use milvault_model::{
    CollectionCapture, CollectionName, CollectionRestore, CollectionStage, DatabaseCapture, Ending, Failure,
    FailureCode, ImportProgress, Instance, Loaded, Manifest, Progress, Restore, RestoreId, RestorePhase, RestoreRun,
    RestoreState, Time, previous_name, rebuilt_name,
};

use crate::{
    Error, Jobs,
    pages::Folder,
    slice::{self, Halt, Held, MAX_SLICES, SHOW_PROGRESS, Step, Verdict, fatal},
    snapshot,
};
use milvault_ports::{
    Bucket, CatalogError, Deadline, Expect, Lease, Milvus, MilvusError, Pace, Page, PageRequest, Versioned, Write,
};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

/// Collections worked on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtOnce {
    /// Most of the time they wait for the server.
    Many,
    /// The server renames one at a time: others would come between the two renames of each.
    One,
    /// The same, and none after one that fails, or that has to be tried again: its name may be vacant meanwhile.
    OneUntilFailure,
}

impl AtOnce {
    fn collections(self) -> usize {
        match self {
            Self::Many => 16,
            Self::One | Self::OneUntilFailure => 1,
        }
    }
}

/// After so many invocations that got it no further, and ten times as long as the stall limit, a restore is undone.
const MAX_IDLE_SLICES: u32 = 50;

/// The most warnings that a restore keeps.
const WARNINGS: usize = 100;

/// Collections whose logs are read at once.
const LOGS_READ: usize = 3;

/// Lines of the ledger in memory at once.
const LINES: usize = 100;

/// How often a wait asks whether what it waits for has come.
pub(crate) const POLL: Duration = Duration::from_millis(500);

pub(crate) struct Work<'a> {
    pub(crate) held: &'a Held,
    pub(crate) jobs: &'a Jobs,
    pub(crate) lease: &'a Lease,
    pub(crate) deadline: Deadline,
    pub(crate) instance: Instance,
    pub(crate) restore: Restore,
    pub(crate) run: RestoreRun,
    /// The collections, by number, that only wait for what may pass, and for what.
    pub(super) stuck: Vec<(u32, Failure)>,
    version: u64,
    /// When this slice began: no worker's time counts as a stalled server's.
    began_at: Time,
}

/// What the work on several collections at once shares.
pub(crate) struct Shared<'a> {
    pub(crate) held: &'a Held,
    pub(crate) jobs: &'a Jobs,
    pub(crate) lease: &'a Lease,
    pub(crate) deadline: Deadline,
    /// How long the slice may take from its beginning to its deadline.
    pub(super) slice: TimeDelta,
    pub(crate) restore: Restore,
    pub(crate) milvus: Arc<dyn Milvus>,
    advanced_at: Mutex<Time>,
    imports: Semaphore,
    /// How far the imports are.
    imported: Mutex<ImportProgress>,
    warnings: Mutex<Vec<String>>,
    /// The page of the manifest's collections that was read last: lines are in its order.
    captures: tokio::sync::Mutex<Option<(u32, Vec<CollectionCapture>)>>,
    manifest: OnceCell<Manifest>,
    /// The logs of so many collections are in memory at once.
    pub(super) reading_logs: Semaphore,
}

/// What a wait found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// What it waits for has come.
    Over,
    /// Not yet; the number changes when it gets further.
    Further(u64),
}

impl From<Pace> for Wait {
    fn from(pace: Pace) -> Self {
        match pace {
            Pace::Done => Self::Over,
            Pace::At(number) => Self::Further(number),
        }
    }
}

impl<'a> Work<'a> {
    /// Reads the records and writes down that this slice begins.
    pub(crate) async fn begin(held: &'a Held, restore: &RestoreId, deadline: Deadline) -> Result<Self, Error> {
        let Held { jobs, lease, .. } = held;
        let instance_id = &lease.instance_id;
        let instance = jobs.ports.catalog.instance(instance_id).await?;
        let instance = instance.ok_or_else(|| Error::InstanceNotFound(instance_id.clone()))?.value;
        let Versioned { value: restore, version } = super::find(jobs, instance_id, restore).await?;
        let now = jobs.ports.clock.now();
        let mut run = match &restore.state {
            RestoreState::Running(run) => run.clone(),
            // The job is the instance's, so it isn't over: it is pending.
            _ => RestoreRun::begin(now),
        };
        run.slices += 1;
        let ending = matches!(run.phase, RestorePhase::Undo(_) | RestorePhase::Rollback { .. } | RestorePhase::Clean);
        if run.slices > MAX_SLICES && !ending {
            let message = format!("the job isn't over after {MAX_SLICES} invocations");
            run.phase = RestorePhase::Undo(Ending::Failed(Failure::new(FailureCode::Stalled, message)));
        }
        if is_idle(&run, now, jobs.settings.stall) && !ending {
            let message = format!("the job got no further in {MAX_IDLE_SLICES} invocations");
            run.phase = RestorePhase::Undo(Ending::Failed(Failure::new(FailureCode::Stalled, message)));
        }
        let mut work =
            Self { held, jobs, lease, deadline, instance, restore, run, stuck: Vec::new(), version, began_at: now };
        work.save().await?;
        Ok(work)
    }

    async fn save(&mut self) -> Result<(), Error> {
        self.restore.state = RestoreState::Running(self.run.clone());
        loop {
            let put = Write::Restore(Box::new(self.restore.clone()), Expect::Version(self.version));
            match self.jobs.ports.catalog.commit(vec![Write::HoldLease(self.lease.clone()), put]).await {
                Ok(()) => {
                    self.version += 1;
                    return Ok(());
                }
                Err(CatalogError::Conflict(0)) => return Err(Error::LeaseLost),
                Err(CatalogError::Conflict(_)) => self.take_over_request().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// While we have the lease, only a caller's request to stop changes the record.
    async fn take_over_request(&mut self) -> Result<(), Error> {
        let stored = super::find(self.jobs, &self.instance.id, &self.restore.id).await?;
        self.version = stored.version;
        self.restore.cancel_requested_at = stored.value.cancel_requested_at;
        Ok(())
    }

    /// Goes on with this phase, durably.
    pub(crate) async fn enter(&mut self, phase: RestorePhase) -> Result<(), Error> {
        self.run.phase = phase;
        self.run.progress = Progress::default();
        self.checkpoint().await
    }

    /// Goes on with the swap, unless the caller has asked to stop: from there on it is too late for that.
    pub(crate) async fn begin_swap(&mut self) -> Step {
        loop {
            self.take_over_request().await?;
            if self.restore.cancel_requested_at.is_some() {
                return Err(Halt::CancelRequested);
            }
            self.run.phase = RestorePhase::Swap;
            self.run.progress = Progress::default();
            self.advanced(self.jobs.ports.clock.now());
            self.restore.state = RestoreState::Running(self.run.clone());
            let put = Write::Restore(Box::new(self.restore.clone()), Expect::Version(self.version));
            match self.jobs.ports.catalog.commit(vec![Write::HoldLease(self.lease.clone()), put]).await {
                Ok(()) => {
                    self.version += 1;
                    return Ok(());
                }
                Err(CatalogError::Conflict(0)) => return Err(Error::LeaseLost.into()),
                // A request to stop, perhaps: look again.
                Err(CatalogError::Conflict(_)) => self.run.phase = RestorePhase::Verify,
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn advanced(&mut self, at: Time) {
        if at > self.run.advanced_at {
            self.run.advanced_at = at;
            self.run.advanced_in = self.run.slices;
        }
    }

    /// Whether it got no further for longer than `limit`, though a worker was at it, or many.
    pub(crate) fn is_stalled_for(&self, now: Time, limit: TimeDelta) -> bool {
        now - self.run.advanced_at.max(self.began_at) > limit || is_idle(&self.run, now, limit)
    }

    /// Whether the caller, or the deadline, ends this slice here.
    pub(crate) fn require_time(&self) -> Step {
        if self.restore.cancel_requested_at.is_some() {
            return Err(Halt::CancelRequested);
        }
        slice::require_time(self.deadline, self.jobs.ports.clock.now())
    }

    /// Writes down that the job got further.
    pub(crate) async fn checkpoint(&mut self) -> Result<(), Error> {
        self.advanced(self.jobs.ports.clock.now());
        tracing::info!(
            instance = %self.instance.id, restore = %self.restore.id, phase = self.run.phase.name(),
            percent = self.run.progress.percent(), "checkpoint"
        );
        self.save().await
    }

    /// Ends the job: the record in its last state, and the backup free to be deleted.
    pub(crate) async fn end(&mut self, state: RestoreState) -> Result<(), Error> {
        self.restore.state = state;
        loop {
            let mut writes = vec![
                Write::ReleaseJob(self.lease.clone()),
                Write::Restore(Box::new(self.restore.clone()), Expect::Version(self.version)),
            ];
            writes.extend(unpin(self.jobs, &self.restore).await?);
            let notice = milvault_model::Notice::restore_ended(&self.restore, self.jobs.ports.clock.now());
            writes.extend(notice.map(|notice| Write::Notice(Box::new(notice))));
            match self.jobs.ports.catalog.commit(writes).await {
                Ok(()) => return Ok(()),
                Err(CatalogError::Conflict(0)) => return Err(Error::LeaseLost),
                Err(CatalogError::Conflict(_)) => self.take_over_request().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) async fn lines(&self, after: Option<String>) -> Result<Page<CollectionRestore>, Error> {
        lines(self.jobs, &self.restore.id, after).await
    }

    /// Reads the whole ledger, see [`read_lines`].
    pub(crate) async fn read_lines(&self, each: impl FnMut(CollectionRestore)) -> Result<(), Error> {
        read_lines(self.jobs, &self.restore.id, each).await
    }

    /// Does `step` to every line of the ledger, several at once; progress counts lines.
    ///
    /// A line that fails doesn't keep the others from going on, unless it is meant to; afterwards the job fails with
    /// every line's reason.
    pub(crate) async fn each_line<F>(&mut self, at_once: AtOnce, step: F) -> Step
    where
        F: AsyncFn(&Shared<'a>, CollectionRestore) -> Step,
    {
        let shared = self.shared().await?;
        let begun_at = shared.advanced_at();
        let mut failed: Vec<Failure> = Vec::new();
        let (objects_total, imports) = (u64::from(self.restore.collections), self.run.progress.imports.take());
        self.run.progress = Progress { objects_total, imports, ..Progress::default() };
        let mut shown_at = Time::MIN_UTC;
        let mut after = None;
        loop {
            let page = self.lines(after).await?;
            after = page.items.last().map(line_key);
            // Those of a worker that died before it wrote the restore's record.
            for line in &page.items {
                add_warnings(&mut self.restore.warnings, line.warnings.iter().cloned());
            }
            let mut results = stream::iter(page.items)
                .map(async |line| {
                    shared.require_time()?;
                    let target = line.target.clone();
                    step(&shared, line).await.map_err(|halt| of_line(halt, at_once, &target))
                })
                .buffer_unordered(at_once.collections());
            let mut halt = None;
            loop {
                let pause = shared.jobs.ports.clock.sleep(SHOW_PROGRESS.to_std().unwrap_or_default());
                let next = match select(results.next(), pause).await {
                    Either::Left((Some(next), _)) => next,
                    Either::Left((None, _)) => break,
                    // Jobs of imports end meanwhile.
                    Either::Right(_) => {
                        self.show_progress(&shared, &mut shown_at).await?;
                        continue;
                    }
                };
                match next {
                    Ok(()) => {
                        self.run.progress.objects_done += 1;
                        self.show_progress(&shared, &mut shown_at).await?;
                    }
                    Err(Halt::Fatal(failure)) => {
                        failed.push(failure);
                        if at_once == AtOnce::OneUntilFailure {
                            break;
                        }
                    }
                    // The others come to their own ends before this one is acted on.
                    Err(other) => {
                        halt = Some(graver(halt, other));
                        if at_once == AtOnce::OneUntilFailure {
                            break;
                        }
                    }
                }
            }
            drop(results);
            self.take_warnings(&shared);
            // That a slice begins gets nothing further.
            if shared.advanced_at() > begun_at {
                self.advanced(shared.advanced_at());
            }
            self.save().await?;
            if let Some(halt) = halt {
                return Err(halt);
            }
            if !page.more || (at_once == AtOnce::OneUntilFailure && !failed.is_empty()) {
                break;
            }
        }
        match failed.first().map(|failure| failure.code) {
            None => Ok(()),
            Some(code) => Err(super::together(code, failed.into_iter().map(|failure| failure.message).collect())),
        }
    }

    /// Writes down how far it is, if that is something new and was last done a while ago.
    async fn show_progress(&mut self, shared: &Shared<'_>, shown_at: &mut Time) -> Result<(), Error> {
        let imports = self.run.progress.imports.map(|_| *shared.imported());
        let progress = Progress { imports, ..self.run.progress };
        let now = self.jobs.ports.clock.now();
        let is_shown = matches!(&self.restore.state, RestoreState::Running(run) if run.progress == progress);
        if is_shown || now - *shown_at <= SHOW_PROGRESS {
            return Ok(());
        }
        *shown_at = now;
        self.run.progress = progress;
        self.save().await
    }

    /// Takes over what the user should know.
    pub(crate) fn take_warnings(&mut self, shared: &Shared<'_>) {
        add_warnings(&mut self.restore.warnings, shared.take_warnings());
    }

    /// Tells the user, with the next write of the restore.
    pub(crate) fn warn(&mut self, warning: String) {
        add_warnings(&mut self.restore.warnings, [warning]);
    }

    pub(crate) async fn shared(&self) -> Result<Shared<'a>, Error> {
        Ok(Shared {
            held: self.held,
            jobs: self.jobs,
            lease: self.lease,
            deadline: self.deadline,
            slice: self.deadline.time() - self.began_at,
            restore: self.restore.clone(),
            milvus: self.milvus().await?,
            advanced_at: Mutex::new(self.run.advanced_at.max(self.began_at)),
            imports: Semaphore::new(self.jobs.settings.imports_in_flight),
            imported: Mutex::new(self.run.progress.imports.unwrap_or_default()),
            warnings: Mutex::default(),
            captures: tokio::sync::Mutex::default(),
            manifest: OnceCell::new(),
            reading_logs: Semaphore::new(LOGS_READ),
        })
    }

    pub(crate) async fn milvus(&self) -> Result<Arc<dyn Milvus>, Error> {
        Ok(self.jobs.ports.milvus.connect(&self.instance).await?)
    }

    /// The source backup's documents.
    pub(crate) fn snapshot(&self) -> Result<Folder<'a>, Error> {
        snapshot_of(self.jobs, &self.restore)
    }

    pub(crate) async fn manifest(&self) -> Result<Manifest, Error> {
        manifest_of(self.jobs, &self.restore).await
    }

    /// The instance's own bucket, where data is staged: Milvus imports from nowhere else.
    pub(crate) fn own_bucket(&self) -> Step<Bucket> {
        match &self.instance.storage {
            Some(storage) => Ok(Bucket { region: self.instance.region.clone(), name: storage.bucket.clone() }),
            None => Err(fatal(
                FailureCode::StorageUnreachable,
                "the instance is registered without its object storage, which a restore stages its data in",
            )),
        }
    }
}

/// Adds warnings that aren't there yet, as far as there is room.
fn add_warnings(to: &mut Vec<String>, warnings: impl IntoIterator<Item = String>) {
    for warning in warnings {
        if to.len() < WARNINGS && !to.contains(&warning) {
            to.push(warning);
        }
    }
}

/// Whether many invocations in a row got it no further.
fn is_idle(run: &RestoreRun, now: Time, stall: TimeDelta) -> bool {
    run.slices - run.advanced_in > MAX_IDLE_SLICES && run.is_stalled(now, stall * 10)
}

/// Of what stops two lines, that which this worker has to act on. A line whose commit failed may still be written: were the
/// worker to go on because another line can be tried again, the late commit would put the line back to where it was.
fn graver(before: Option<Halt>, halt: Halt) -> Halt {
    let ends_worker =
        |halt: &Halt| matches!(halt, Halt::Error(error) if matches!(slice::verdict(error), Verdict::Stop));
    before.filter(ends_worker).unwrap_or(halt)
}

/// What the server refuses to one of many collections is told of that one, and doesn't keep the others from going on.
pub(super) fn of_line(halt: Halt, at_once: AtOnce, target: &CollectionName) -> Halt {
    match halt {
        Halt::Error(error) if at_once == AtOnce::Many => match slice::verdict(&error) {
            Verdict::Fail(failure) => fatal(failure.code, format!("{target}: {}", failure.message)),
            Verdict::Retry(_) | Verdict::Stop => Halt::Error(error),
        },
        halt => halt,
    }
}

/// A rollback can do without: the backup may be deleted by then.
async fn manifest_of(jobs: &Jobs, restore: &Restore) -> Result<Manifest, Error> {
    let (source, backup) = (&restore.source_instance_id, &restore.backup_id);
    let bucket = jobs.settings.snapshots.in_region(&restore.backup_region)?;
    snapshot::manifest(jobs.ports.objects.as_ref(), bucket, source, backup).await
}

fn snapshot_of<'a>(jobs: &'a Jobs, restore: &Restore) -> Result<Folder<'a>, Error> {
    let bucket = jobs.settings.snapshots.in_region(&restore.backup_region)?;
    Ok(snapshot::folder(jobs.ports.objects.as_ref(), bucket, &restore.source_instance_id, &restore.backup_id))
}

impl Shared<'_> {
    /// Goes on with this stage of a line, durably.
    pub(super) async fn enter(&self, line: &mut CollectionRestore, stage: CollectionStage) -> Result<(), Error> {
        line.enter(stage, self.now());
        self.save(line).await
    }

    /// Writes a line of the ledger down, with the warnings that the restore's record doesn't have yet.
    pub(crate) async fn save(&self, line: &CollectionRestore) -> Result<(), Error> {
        let mut line = line.clone();
        add_warnings(&mut line.warnings, self.warnings().iter().cloned());
        let put = Write::LedgerLine(self.restore.id.clone(), Box::new(line));
        match self.jobs.ports.catalog.commit(vec![Write::HoldLease(self.lease.clone()), put]).await {
            Ok(()) => {
                self.advanced();
                Ok(())
            }
            Err(CatalogError::Conflict(_)) => Err(Error::LeaseLost),
            Err(error) => Err(error.into()),
        }
    }

    fn advanced(&self) {
        *self.advanced_at.lock().unwrap_or_else(PoisonError::into_inner) = self.jobs.ports.clock.now();
    }

    pub(super) fn advanced_at(&self) -> Time {
        *self.advanced_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a call that changes something at the server. One that got lost may take effect for a while yet:
    /// nothing more is done before that is over, see [`Held::settle`].
    pub(crate) fn sure<T>(&self, result: Result<T, MilvusError>) -> Step<T> {
        if matches!(result, Err(MilvusError::Unreachable(_) | MilvusError::NotReady(_))) {
            self.held.objects.note(self.jobs.ports.clock.now());
        }
        Ok(result?)
    }

    pub(crate) fn now(&self) -> Time {
        self.jobs.ports.clock.now()
    }

    /// Sees that the slice's time isn't over.
    pub(super) fn require_time(&self) -> Step {
        slice::require_time(self.deadline, self.now())
    }

    /// Tells the user, with the next write of the restore.
    pub(crate) fn warn(&self, warning: String) {
        self.warnings().push(warning);
    }

    fn warnings(&self) -> MutexGuard<'_, Vec<String>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the user is to be told.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings())
    }

    /// Waits until so many segments may be imported beside the others'; they may until this is dropped.
    pub(crate) async fn import_turn(&self, segments: usize) -> Option<SemaphorePermit<'_>> {
        let segments = self.turn_of(segments);
        // An error would mean that it was closed, which it never is.
        self.imports.acquire_many(segments).await.ok()
    }

    /// The same, if they may at once.
    pub(crate) fn import_turn_now(&self, segments: usize) -> Option<SemaphorePermit<'_>> {
        let segments = self.turn_of(segments);
        self.imports.try_acquire_many(segments).ok()
    }

    /// More than may be imported at once are imported alone.
    fn turn_of(&self, segments: usize) -> u32 {
        u32::try_from(segments.min(self.jobs.settings.imports_in_flight)).unwrap_or_default()
    }

    /// How far the imports are.
    pub(crate) fn imported(&self) -> MutexGuard<'_, ImportProgress> {
        self.imported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads a collection, and waits until it is loaded; `shown` is what people call it.
    pub(crate) async fn load(&self, name: &CollectionName, how: &Loaded, shown: &CollectionName) -> Step {
        self.sure(self.milvus.load(name, how).await)?;
        let what = format!("loading {shown}");
        self.wait_until(&what, async || Ok(self.milvus.loading(name).await?.into())).await
    }

    /// Asks `condition` again and again until it holds; a request to stop, or the stall limit, ends that.
    pub(crate) async fn wait_until<C>(&self, what: &str, mut condition: C) -> Step
    where
        C: AsyncFnMut() -> Step<Wait>,
    {
        let clock = &self.jobs.ports.clock;
        let mut last = None;
        let mut further_at = clock.now();
        for asked in 1_u32.. {
            let wait = condition().await?;
            if wait == Wait::Over {
                break;
            }
            let now = clock.now();
            if last.replace(wait).is_some_and(|last| last != wait) {
                further_at = now;
                self.advanced();
            }
            slice::require_time(self.deadline, now)?;
            if now - further_at > self.jobs.settings.stall {
                let limit = self.jobs.settings.stall.num_seconds();
                return Err(fatal(FailureCode::Stalled, format!("{what}: no progress for {limit} s")));
            }
            // A request to stop is looked for every other second, unless it is what led here.
            if asked.is_multiple_of(4) && self.restore.cancel_requested_at.is_none() {
                let stored = super::find(self.jobs, &self.restore.instance_id, &self.restore.id).await?;
                if stored.value.cancel_requested_at.is_some() {
                    return Err(Halt::CancelRequested);
                }
            }
            clock.sleep(POLL).await;
        }
        Ok(())
    }

    /// The source backup's documents.
    pub(super) fn snapshot(&self) -> Result<Folder<'_>, Error> {
        snapshot_of(self.jobs, &self.restore)
    }

    pub(super) async fn manifest(&self) -> Result<&Manifest, Error> {
        self.manifest.get_or_try_init(async || manifest_of(self.jobs, &self.restore).await).await
    }

    /// The backup's databases.
    pub(crate) async fn databases(&self) -> Result<&[DatabaseCapture], Error> {
        Ok(&self.manifest().await?.databases)
    }

    /// What the backup says of the line's collection.
    pub(crate) async fn capture(&self, line: &CollectionRestore) -> Result<CollectionCapture, Error> {
        let folder = self.snapshot()?;
        let missing = || folder.bad("collections/", format!("has no {}", line.source));
        let mut read = self.captures.lock().await;
        let captures = match read.take() {
            Some((page, captures)) if page == line.capture_page => captures,
            _ => {
                let manifest = self.manifest().await?;
                let page = manifest.collection_pages.get(line.capture_page as usize).ok_or_else(missing)?;
                folder.read_named(page).await?
            }
        };
        let (_, captures) = read.insert((line.capture_page, captures));
        captures.iter().find(|capture| capture.name == line.source).cloned().ok_or_else(missing)
    }

    /// The name of the collection being rebuilt for a line.
    pub(crate) fn rebuilt(&self, line: &CollectionRestore) -> CollectionName {
        rebuilt_name(&line.target, &self.restore.id)
    }

    /// The name under which what was live is kept.
    pub(crate) fn previous(&self, line: &CollectionRestore) -> CollectionName {
        previous_name(&line.target, &self.restore.id)
    }
}

/// The change that lets the source backup be deleted again, unless another restore's has.
pub(crate) async fn unpin(jobs: &Jobs, restore: &Restore) -> Result<Option<Write>, Error> {
    let found = jobs.ports.catalog.backup(&restore.source_instance_id, &restore.backup_id).await?;
    Ok(found.and_then(|Versioned { mut value, version }| {
        value.pins.remove(&restore.id).then(|| Write::Backup(Box::new(value), Expect::Version(version)))
    }))
}

/// The state of a restore that ends without a result.
pub(crate) fn ended(ending: Ending, started_at: Time, ended_at: Time, leftovers_since: Option<Time>) -> RestoreState {
    let started_at = Some(started_at);
    match ending {
        Ending::Failed(failure) => RestoreState::Failed { started_at, ended_at, failure, leftovers_since },
        Ending::Cancelled => RestoreState::Cancelled { started_at, ended_at, leftovers_since },
    }
}

async fn lines(jobs: &Jobs, restore: &RestoreId, after: Option<String>) -> Result<Page<CollectionRestore>, Error> {
    Ok(jobs.ports.catalog.ledger(restore, PageRequest { after, limit: LINES }).await?)
}

/// Reads a whole ledger, a page of it in memory at a time.
pub(super) async fn read_lines(
    jobs: &Jobs,
    restore: &RestoreId,
    mut each: impl FnMut(CollectionRestore),
) -> Result<(), Error> {
    let mut after = None;
    loop {
        let page = lines(jobs, restore, after).await?;
        after = page.items.last().map(line_key);
        page.items.into_iter().for_each(&mut each);
        if !page.more {
            return Ok(());
        }
    }
}

pub(crate) fn line_key(line: &CollectionRestore) -> String {
    key_of(line.number)
}

pub(super) fn key_of(number: u32) -> String {
    format!("{number:010}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_whose_commit_failed_stops_whatever_another_line_waits_for() {
        let commit = || Halt::from(CatalogError::Unavailable("no answer in time".to_owned()));
        let server = || Halt::from(MilvusError::Unreachable("it is starting".to_owned()));
        let is_commit = |halt| matches!(halt, Halt::Error(Error::Catalog(_)));
        for halt in [server(), Halt::OutOfTime, Halt::CancelRequested] {
            assert!(is_commit(graver(Some(commit()), halt)));
        }
        assert!(is_commit(graver(Some(server()), commit())));
        assert!(is_commit(graver(None, commit())));
    }
}
