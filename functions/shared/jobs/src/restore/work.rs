//! A worker's view of the restore that it works on: its record, its ledger, and its checkpoints.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use milvault_model::{
    CollectionCapture, CollectionName, CollectionRestore, CollectionStage, Ending, Failure, FailureCode, Instance,
    Manifest, Progress, Restore, RestoreId, RestorePhase, RestoreRun, RestoreState, Time, previous_name, rebuilt_name,
};

use crate::{
    Error, Jobs,
    pages::Folder,
    ports::{Bucket, CatalogError, Deadline, Expect, Lease, Milvus, Page, PageRequest, Versioned, Write},
    slice::{Halt, Held, MAX_SLICES, SHOW_PROGRESS, Step, fatal},
    snapshot,
};

/// Collections worked on at once, each with a call or an import job of its own at the server.
const COLLECTIONS_IN_FLIGHT: usize = 4;

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
    version: u64,
}

/// What the work on several collections at once shares.
#[derive(Clone)]
pub(crate) struct Shared<'a> {
    pub(crate) jobs: &'a Jobs,
    pub(crate) lease: &'a Lease,
    pub(crate) deadline: Deadline,
    pub(crate) restore: Arc<Restore>,
    pub(crate) milvus: Arc<dyn Milvus>,
    advanced_at: Arc<Mutex<Time>>,
}

impl<'a> Work<'a> {
    /// Reads the records and writes down that this slice begins.
    pub(crate) async fn begin(held: &'a Held, restore: &RestoreId, deadline: Deadline) -> Result<Self, Error> {
        let Held { jobs, lease, .. } = held;
        let instance_id = &lease.instance_id;
        let instance = jobs.ports.catalog.instance(instance_id).await?;
        let instance = instance.ok_or_else(|| Error::InstanceNotFound(instance_id.clone()))?.value;
        let Versioned { value: restore, version } = super::find(jobs, instance_id, restore).await?;
        let mut run = match &restore.state {
            RestoreState::Running(run) => run.clone(),
            // The job is the instance's, so it isn't over: it is pending.
            _ => RestoreRun::begin(jobs.ports.clock.now()),
        };
        run.slices += 1;
        let ending = matches!(run.phase, RestorePhase::Undo(_) | RestorePhase::Rollback { .. } | RestorePhase::Clean);
        if run.slices > MAX_SLICES && !ending {
            let message = format!("the job isn't over after {MAX_SLICES} invocations");
            run.phase = RestorePhase::Undo(Ending::Failed(Failure::new(FailureCode::Stalled, message)));
        }
        let mut work = Self { held, jobs, lease, deadline, instance, restore, run, version };
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
            self.run.advanced_at = self.jobs.ports.clock.now();
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

    /// Writes down that the job got further.
    pub(crate) async fn checkpoint(&mut self) -> Result<(), Error> {
        self.run.advanced_at = self.jobs.ports.clock.now();
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
            match self.jobs.ports.catalog.commit(writes).await {
                Ok(()) => return Ok(()),
                Err(CatalogError::Conflict(0)) => return Err(Error::LeaseLost),
                Err(CatalogError::Conflict(_)) => self.take_over_request().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A stalled clean-up must not keep the instance's job for ever: if every live collection is in its place, the
    /// restore ends, and the sweep removes the rest later.
    pub(crate) async fn give_up_cleaning(&mut self, now: Time) -> Result<bool, Error> {
        let RestorePhase::Undo(ending) = self.run.phase.clone() else { return Ok(false) };
        let mut swapping = false;
        let mut after = None;
        loop {
            let page = self.lines(after).await?;
            swapping |= page
                .items
                .iter()
                .any(|line| matches!(line.stage, CollectionStage::Swapping(_) | CollectionStage::Swapped(_)));
            after = page.items.last().map(line_key);
            if !page.more {
                break;
            }
        }
        if swapping {
            return Ok(false);
        }
        let state = ended(ending, self.run.started_at, now, Some(now));
        self.end(state).await?;
        Ok(true)
    }

    pub(crate) async fn lines(&self, after: Option<String>) -> Result<Page<CollectionRestore>, Error> {
        let request = PageRequest { after, limit: LINES };
        Ok(self.jobs.ports.catalog.ledger(&self.restore.id, request).await?)
    }

    /// Does `step` to every line of the ledger, several at once; progress counts lines.
    ///
    /// A line that fails doesn't keep the others from going on; afterwards the job fails with every line's reason.
    pub(crate) async fn each_line<F>(&mut self, step: F) -> Step
    where
        F: AsyncFn(&Shared<'a>, CollectionRestore) -> Step,
    {
        let shared = self.shared().await?;
        let mut failed: Vec<Failure> = Vec::new();
        self.run.progress = Progress { objects_total: u64::from(self.restore.collections), ..Progress::default() };
        let mut shown_at = Time::MIN_UTC;
        let mut after = None;
        loop {
            let page = self.lines(after).await?;
            after = page.items.last().map(line_key);
            let mut results =
                stream::iter(page.items).map(|line| step(&shared, line)).buffer_unordered(COLLECTIONS_IN_FLIGHT);
            let mut halt = None;
            while let Some(result) = results.next().await {
                match result {
                    Ok(()) => {
                        self.run.progress.objects_done += 1;
                        let now = self.jobs.ports.clock.now();
                        if now - shown_at > SHOW_PROGRESS {
                            shown_at = now;
                            self.save().await?;
                        }
                    }
                    Err(Halt::Fatal(failure)) => failed.push(failure),
                    // The others come to their own ends before this one is acted on.
                    Err(other) => halt = Some(other),
                }
            }
            self.run.advanced_at = shared.advanced_at();
            if let Some(halt) = halt {
                return Err(halt);
            }
            self.save().await?;
            if !page.more {
                break;
            }
        }
        match failed.first().map(|failure| failure.code) {
            None => Ok(()),
            Some(code) => Err(super::together(code, failed.into_iter().map(|failure| failure.message).collect())),
        }
    }

    async fn shared(&self) -> Result<Shared<'a>, Error> {
        Ok(Shared {
            jobs: self.jobs,
            lease: self.lease,
            deadline: self.deadline,
            restore: Arc::new(self.restore.clone()),
            milvus: self.milvus().await?,
            advanced_at: Arc::new(Mutex::new(self.run.advanced_at)),
        })
    }

    pub(crate) async fn milvus(&self) -> Result<Arc<dyn Milvus>, Error> {
        Ok(self.jobs.ports.milvus.connect(&self.instance).await?)
    }

    /// The source backup's documents.
    pub(crate) fn snapshot(&self) -> Folder<'a> {
        snapshot_of(self.jobs, &self.restore)
    }

    pub(crate) async fn manifest(&self) -> Result<Manifest, Error> {
        let folder = self.snapshot();
        let (source, backup) = (&self.restore.source_instance_id, &self.restore.backup_id);
        snapshot::manifest(folder.objects, folder.bucket, source, backup).await
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

fn snapshot_of<'a>(jobs: &'a Jobs, restore: &Restore) -> Folder<'a> {
    let bucket = &jobs.settings.snapshot_bucket;
    snapshot::folder(jobs.ports.objects.as_ref(), bucket, &restore.source_instance_id, &restore.backup_id)
}

impl Shared<'_> {
    /// Writes a line of the ledger down.
    pub(crate) async fn save(&self, line: &CollectionRestore) -> Result<(), Error> {
        let put = Write::LedgerLine(self.restore.id.clone(), Box::new(line.clone()));
        match self.jobs.ports.catalog.commit(vec![Write::HoldLease(self.lease.clone()), put]).await {
            Ok(()) => {
                *self.advanced_at.lock().unwrap_or_else(PoisonError::into_inner) = self.jobs.ports.clock.now();
                Ok(())
            }
            Err(CatalogError::Conflict(_)) => Err(Error::LeaseLost),
            Err(error) => Err(error.into()),
        }
    }

    fn advanced_at(&self) -> Time {
        *self.advanced_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks `condition` again and again until it holds; a request to stop, or the stall limit, ends that.
    pub(crate) async fn wait_until<C>(&self, what: &str, mut condition: C) -> Step
    where
        C: AsyncFnMut() -> Step<bool>,
    {
        let clock = &self.jobs.ports.clock;
        let mut asked = 0_u32;
        while !condition().await? {
            let now = clock.now();
            if self.deadline.is_over(now) {
                return Err(Halt::OutOfTime);
            }
            if now - self.advanced_at() > self.jobs.settings.stall {
                let limit = self.jobs.settings.stall.num_seconds();
                return Err(fatal(FailureCode::Stalled, format!("{what}: no progress for {limit} s")));
            }
            // A request to stop is looked for every other second.
            asked += 1;
            if asked.is_multiple_of(4) {
                let stored = super::find(self.jobs, &self.restore.instance_id, &self.restore.id).await?;
                if stored.value.cancel_requested_at.is_some() {
                    return Err(Halt::CancelRequested);
                }
            }
            clock.sleep(POLL).await;
        }
        Ok(())
    }

    /// What the backup says of the line's collection.
    pub(crate) async fn capture(&self, line: &CollectionRestore) -> Result<CollectionCapture, Error> {
        let folder = snapshot_of(self.jobs, &self.restore);
        let manifest = snapshot::manifest(
            folder.objects,
            folder.bucket,
            &self.restore.source_instance_id,
            &self.restore.backup_id,
        )
        .await?;
        let missing = || folder.bad("collections/", format!("has no {}", line.source));
        let page = manifest.collection_pages.get(line.capture_page as usize).ok_or_else(missing)?;
        let collections: Vec<CollectionCapture> = folder.read_named(page).await?;
        collections.into_iter().find(|capture| capture.name == line.source).ok_or_else(missing)
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

pub(crate) fn line_key(line: &CollectionRestore) -> String {
    format!("{:010}", line.number)
}
