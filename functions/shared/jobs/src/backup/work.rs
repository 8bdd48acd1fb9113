//! A worker's view of the backup that it works on, and its checkpoints.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use milvault_model::{
    Again, Backup, BackupId, BackupPhase, BackupRun, BackupState, Ending, Failure, FailureCode, Flushing, Instance,
    Notice, Planning, Progress, SourceStorage, Unexplained,
};
use milvault_ports::{Bucket, CatalogError, Deadline, Expect, GarbageHold, Lease, Milvus, Write};

use super::{
    flush,
    patience::{Patience, Verdict},
};
use crate::{
    Error, Jobs, layout,
    pages::Folder,
    slice::{self, Halt, Held, MAX_SLICES, Step, fatal},
    snapshot,
};

/// The fewest rounds before a backup gives up on what changes under it: each may take hours, and workers may be missing in
/// between.
const FEWEST_ROUNDS: u32 = 8;

/// How long a second round of captures waits; it doubles with each further one, up to 32 times as long.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(2);

/// After so many invocations that got it no further, and ten times as long as the stall limit, a backup fails: whatever
/// keeps ending them will go on to.
const MAX_IDLE_SLICES: u32 = 50;

/// The longest that a job waits for a worker: a sweep runs every fifteen minutes.
const NEXT_SLICE: Duration = Duration::from_secs(20 * 60);

pub(crate) struct Work<'a> {
    pub(crate) held: &'a Held,
    pub(crate) jobs: &'a Jobs,
    pub(crate) lease: &'a Lease,
    pub(crate) deadline: Deadline,
    pub(crate) instance: Instance,
    pub(crate) backup: Backup,
    /// Where its snapshot is kept.
    pub(crate) bucket: &'a Bucket,
    pub(crate) run: BackupRun,
    version: u64,
    /// How the server's garbage collection stands, once it was asked.
    garbage: Option<GarbageHold>,
}

impl<'a> Work<'a> {
    /// Reads the records and writes down that this slice begins.
    pub(crate) async fn begin(held: &'a Held, backup: &BackupId, deadline: Deadline) -> Result<Self, Error> {
        let Held { jobs, lease, .. } = held;
        let instance_id = &lease.instance_id;
        let instance = jobs.ports.catalog.instance(instance_id).await?;
        let instance = instance.ok_or_else(|| Error::InstanceNotFound(instance_id.clone()))?.value;
        let found = jobs.ports.catalog.backup(instance_id, backup).await?;
        let found = found.ok_or_else(|| Error::BackupNotFound(instance_id.clone(), backup.to_string()))?;
        let now = jobs.ports.clock.now();
        let mut run = match &found.value.state {
            BackupState::Running(run) => (**run).clone(),
            // The job is the instance's, so it isn't over: it is pending.
            _ => BackupRun::begin(now),
        };
        run.slices += 1;
        let clean = matches!(run.phase, BackupPhase::Clean(_));
        if run.slices > MAX_SLICES && !clean {
            let message = format!("the job isn't over after {MAX_SLICES} invocations");
            run.phase = BackupPhase::Clean(Ending::Failed(Failure::new(FailureCode::Stalled, message)));
        } else if run.slices - run.advanced_in > MAX_IDLE_SLICES
            && run.is_stalled(now, jobs.settings.stall * 10)
            && !clean
        {
            let message = format!("the job got no further in {MAX_IDLE_SLICES} invocations");
            run.phase = BackupPhase::Clean(Ending::Failed(Failure::new(FailureCode::Stalled, message)));
        }
        let bucket = jobs.settings.snapshots.in_region(&found.value.region)?;
        let mut work = Self {
            held,
            jobs,
            lease,
            deadline,
            instance,
            backup: found.value,
            bucket,
            run,
            version: found.version,
            garbage: None,
        };
        work.save().await?;
        Ok(work)
    }

    /// Writes the run down as it now is.
    async fn save(&mut self) -> Result<(), Error> {
        self.backup.state = BackupState::Running(Box::new(self.run.clone()));
        loop {
            let put = Write::Backup(Box::new(self.backup.clone()), Expect::Version(self.version));
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
        let stored = self.jobs.ports.catalog.backup(&self.instance.id, &self.backup.id).await?;
        let stored =
            stored.ok_or_else(|| Error::BackupNotFound(self.instance.id.clone(), self.backup.id.to_string()))?;
        self.version = stored.version;
        self.backup.cancel_requested_at = stored.value.cancel_requested_at;
        Ok(())
    }

    /// Goes on with this phase, durably.
    pub(crate) async fn enter(&mut self, phase: BackupPhase) -> Result<(), Error> {
        self.advance_to(phase, Progress::default()).await
    }

    /// Goes on with this phase, this far, durably.
    pub(crate) async fn advance_to(&mut self, phase: BackupPhase, progress: Progress) -> Result<(), Error> {
        self.run.phase = phase;
        self.run.progress = progress;
        self.checkpoint().await
    }

    /// Writes down what the next slice has to know, which isn't progress; nothing if that is known.
    pub(crate) async fn note(&mut self, phase: BackupPhase) -> Result<(), Error> {
        if self.run.phase == phase {
            return Ok(());
        }
        self.run.phase = phase;
        self.save().await
    }

    /// Captures, plans and copies some collections again, because their source isn't what was planned.
    pub(crate) async fn begin_again(&mut self, mut again: Again) -> Step {
        let names = flush::names(&self.folder(), &again).await?;
        let reason = format!("files of {} were gone before they were copied", names.join(", "));
        let (now, patience) = (self.jobs.ports.clock.now(), self.patience());
        for collection in std::mem::take(&mut again.collections) {
            match patience.judge(&mut self.run.gone, collection, now) {
                Verdict::Again => drop(again.collections.insert(collection)),
                Verdict::GiveUp(lasted) => {
                    let seconds = lasted.num_seconds();
                    let reason =
                        format!("its files were gone before they were copied, again and again for {seconds} seconds");
                    again.unexplained.push(Unexplained { collection, code: FailureCode::SourceChanged, reason });
                }
            }
        }
        // What was made since isn't added any more, unless it has the name of one that was dropped.
        let flushing = Flushing { again: Some(again), reconciled: flush::ADDITIONS, ..Flushing::default() };
        self.enter_round(BackupPhase::Flush(flushing), reason).await
    }

    /// Plans all of what was captured again.
    pub(crate) async fn plan_again(&mut self, planning: Planning, reason: String) -> Step {
        let (now, patience) = (self.jobs.ports.clock.now(), self.patience());
        let lasted = now - *self.run.unsettled_since.get_or_insert(now);
        if self.run.replans >= patience.rounds && lasted > patience.lasts {
            let message = format!("again and again for {} seconds, {reason}", lasted.num_seconds());
            return Err(fatal(FailureCode::SourceChanged, message));
        }
        self.enter_round(BackupPhase::Plan(planning), reason).await
    }

    /// For how long files are tried again that are gone when they are to be copied.
    fn patience(&self) -> Patience {
        Patience { rounds: FEWEST_ROUNDS, lasts: self.jobs.settings.stall * 2 }
    }

    /// Lets the source come to rest before some of it is captured once more: the first time at once, then later and later.
    ///
    /// # Errors
    /// [`Halt::OutOfTime`] at the deadline.
    pub(crate) async fn pause_before_round(&self) -> Step {
        let rounds = self.run.replans.saturating_sub(1).min(6);
        let until = match rounds {
            0 => return Ok(()),
            // No pause takes so much of the patience that it alone decides how long that lasts.
            rounds => self.run.advanced_at + (FIRST_PAUSE * (1 << (rounds - 1))).min(self.patience().lasts / 10),
        };
        let clock = &self.jobs.ports.clock;
        let wait = (until - clock.now()).to_std().unwrap_or_default();
        clock.sleep(wait.min(self.deadline.left(clock.now()))).await;
        slice::require_time(self.deadline, clock.now())
    }

    /// Goes on with another round of this phase, in the next slice.
    pub(crate) async fn enter_round(&mut self, phase: BackupPhase, reason: String) -> Step {
        tracing::info!(reason, backup = %self.backup.id, "planning again");
        self.run.replans += 1;
        self.enter(phase).await?;
        // The pages of the new round need another fence than those of this one: the next slice goes on.
        Err(Halt::OutOfTime)
    }

    /// Writes down that the job got further.
    pub(crate) async fn checkpoint(&mut self) -> Result<(), Error> {
        self.run.advanced_at = self.jobs.ports.clock.now();
        self.run.advanced_in = self.run.slices;
        tracing::info!(
            instance = %self.instance.id, backup = %self.backup.id, phase = self.run.phase.name(),
            percent = self.run.progress.percent(), "checkpoint"
        );
        self.save().await
    }

    /// Ends the job: the record in its last state, with `more` that belongs to it.
    ///
    /// # Errors
    /// [`Halt::CancelRequested`] if it would become available, but the caller has just asked to stop it.
    pub(crate) async fn end(&mut self, state: BackupState, more: Vec<Write>) -> Step {
        loop {
            if self.backup.cancel_requested_at.is_some() && matches!(state, BackupState::Available(_)) {
                return Err(Halt::CancelRequested);
            }
            let ended = Backup { state: state.clone(), ..self.backup.clone() };
            let notice = Notice::backup_ended(&ended, self.jobs.ports.clock.now());
            let mut writes = vec![
                Write::ReleaseJob(self.lease.clone()),
                Write::Backup(Box::new(ended), Expect::Version(self.version)),
            ];
            writes.extend(notice.map(|notice| Write::Notice(Box::new(notice))));
            writes.extend(more.iter().cloned());
            match self.jobs.ports.catalog.commit(writes).await {
                Ok(()) => return Ok(()),
                Err(CatalogError::Conflict(0)) => return Err(Error::LeaseLost.into()),
                Err(CatalogError::Conflict(_)) => self.take_over_request().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sees to it that the server keeps the files of dropped segments until everything is copied, where it can.
    ///
    /// Without that, it keeps them for hours by default, and a file that vanishes all the same is noticed.
    pub(crate) async fn hold_garbage(&mut self) {
        let needs_source =
            matches!(self.run.phase, BackupPhase::Flush(_) | BackupPhase::Plan(_) | BackupPhase::Copy(_));
        let done = match (needs_source, &self.garbage) {
            (true, None) => self.hold().await,
            (false, Some(hold)) => self.release(hold).await,
            (true, Some(_)) | (false, None) => return,
        };
        match done {
            Ok(hold) => self.garbage = hold,
            Err(error) => {
                self.garbage = needs_source.then_some(GarbageHold::NotOffered);
                tracing::warn!(%error, backup = %self.backup.id, "the server's garbage collection isn't held as it should be");
            }
        }
    }

    /// For this slice, and until the next one begins even if a sweep has to start it: that one holds it anew.
    async fn hold(&self) -> Result<Option<GarbageHold>, Error> {
        let duration = self.deadline.left(self.jobs.ports.clock.now()) + NEXT_SLICE;
        Ok(Some(self.milvus().await?.hold_garbage(duration).await?))
    }

    async fn release(&self, hold: &GarbageHold) -> Result<Option<GarbageHold>, Error> {
        self.milvus().await?.release_garbage(hold).await?;
        Ok(None)
    }

    pub(crate) async fn milvus(&self) -> Result<Arc<dyn Milvus>, Error> {
        Ok(self.jobs.ports.milvus.connect(&self.instance).await?)
    }

    /// The backup's documents.
    pub(crate) fn folder(&self) -> Folder<'a> {
        snapshot::folder(self.jobs.ports.objects.as_ref(), self.bucket, &self.instance.id, &self.backup.id)
    }

    /// The prefix of the instance's data objects in the snapshot bucket.
    pub(crate) fn data_prefix(&self) -> String {
        layout::data(&self.instance.id)
    }

    /// Where the data comes from.
    pub(crate) fn source(&self) -> Result<(Bucket, SourceStorage), Error> {
        super::source(&self.instance)
    }
}
