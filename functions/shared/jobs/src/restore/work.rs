//! A worker's view of its restore: the record and its checkpoints.

use std::sync::Arc;

use chrono::TimeDelta;
use milvault_model::{
    Ending, Failure, Instance, Manifest, Progress, Restore, RestoreId, RestorePhase, RestoreRun, RestoreState, Time,
};
use milvault_ports::{Bucket, Deadline, Expect, Milvus, Versioned, Write};

use crate::{
    Error, Jobs,
    engine::{
        halt::{Halt, Step, require_time},
        lease::Held,
        record::{JobRecord, Run, WriteOutcome},
    },
    snapshot::pages::Folder,
};

/// The most warnings that a restore keeps.
const WARNINGS: usize = 100;

/// A restore, as the worker that holds the lease runs it.
pub(crate) struct Work<'a> {
    pub(crate) held: &'a Held,
    pub(crate) jobs: &'a Jobs,
    pub(crate) deadline: Deadline,
    pub(crate) instance: Instance,
    pub(crate) restore: JobRecord<'a, Restore>,
    pub(crate) run: RestoreRun,
    /// The collections, by number, that met a temporary fault, and the fault.
    pub(super) stuck: Vec<(u32, Failure)>,
    /// When this slice began: time in which no worker ran doesn't count as a stall.
    pub(super) began_at: Time,
}

impl<'a> Work<'a> {
    /// Reads the records, and records that this slice begins.
    pub(crate) async fn begin(held: &'a Held, restore: &RestoreId, deadline: Deadline) -> Result<Self, Error> {
        let Held { jobs, lease, .. } = held;
        let instance_id = &lease.instance_id;
        let instance = jobs.instance(instance_id).await?.value;
        let restore: JobRecord<'_, Restore> = JobRecord::read(held, restore).await?;
        let now = jobs.now();
        let mut run = match &restore.state {
            RestoreState::Running(run) => run.clone(),
            // The restore is the instance's job, so it isn't over: it is pending.
            _ => RestoreRun::begin(now),
        };
        run.slices += 1;
        let is_ending =
            matches!(run.phase, RestorePhase::Undo(_) | RestorePhase::Rollback { .. } | RestorePhase::Clean);
        if !is_ending && let Some(failure) = run.exhausted(now, jobs.settings.stall) {
            run.phase = RestorePhase::Undo(Ending::Failed(failure));
        }
        let mut work = Self { held, jobs, deadline, instance, restore, run, stuck: Vec::new(), began_at: now };
        work.save().await?;
        Ok(work)
    }

    /// Saves the run as it is now.
    pub(super) async fn save(&mut self) -> Result<(), Error> {
        self.restore.state = RestoreState::Running(self.run.clone());
        self.restore.write().await
    }

    /// Enters a phase, durably.
    pub(crate) async fn enter(&mut self, phase: RestorePhase) -> Result<(), Error> {
        self.run.phase = phase;
        self.run.progress = Progress::default();
        self.checkpoint().await
    }

    /// Enters the phase SWAP, unless the caller has asked to cancel: from SWAP on, it is too late to cancel.
    pub(crate) async fn begin_swap(&mut self) -> Step {
        loop {
            self.restore.reload().await?;
            if self.restore.cancel_requested_at.is_some() {
                return Err(Halt::CancelRequested);
            }
            self.run.phase = RestorePhase::Swap;
            self.run.progress = Progress::default();
            self.mark_advanced(self.jobs.now());
            self.restore.state = RestoreState::Running(self.run.clone());
            match self.restore.write_if_unchanged().await? {
                WriteOutcome::Written => return Ok(()),
                // The caller may have asked to cancel: check again.
                WriteOutcome::Conflict => self.run.phase = RestorePhase::Verify,
            }
        }
    }

    /// Records that the job made progress at this time.
    pub(super) fn mark_advanced(&mut self, at: Time) {
        if at > self.run.advanced_at {
            self.run.advanced_at = at;
            self.run.advanced_in = self.run.slices;
        }
    }

    /// Returns whether the job made no progress for longer than `limit`, although one or more workers ran.
    pub(crate) fn is_stalled_for(&self, now: Time, limit: TimeDelta) -> bool {
        now - self.run.advanced_at.max(self.began_at) > limit || self.run.is_idle(now, limit)
    }

    /// Checks that the caller hasn't asked to cancel, and that the slice has time left.
    pub(crate) fn require_time(&self) -> Step {
        if self.restore.cancel_requested_at.is_some() {
            return Err(Halt::CancelRequested);
        }
        require_time(self.deadline, self.jobs.now())
    }

    /// Saves the run, and records that the job made progress.
    pub(crate) async fn checkpoint(&mut self) -> Result<(), Error> {
        self.mark_advanced(self.jobs.now());
        tracing::info!(
            instance = %self.instance.id, restore = %self.restore.id, phase = self.run.phase.name(),
            percent = self.run.progress.percent(), "checkpoint"
        );
        self.save().await
    }

    /// Ends the job: writes the record in its final state, and unpins the backup so that it can be deleted.
    pub(crate) async fn end(&mut self, state: RestoreState) -> Result<(), Error> {
        self.restore.state = state;
        loop {
            let unpinned = unpin(self.jobs, &self.restore).await?.into_iter().collect();
            match self.restore.end(Restore::clone(&self.restore), unpinned).await? {
                WriteOutcome::Written => return Ok(()),
                WriteOutcome::Conflict => self.restore.reload().await?,
            }
        }
    }

    /// Adds a warning to the record, which the next write saves.
    pub(crate) fn warn(&mut self, warning: String) {
        add_warnings(&mut self.restore.warnings, [warning]);
    }

    pub(crate) async fn milvus(&self) -> Result<Arc<dyn Milvus>, Error> {
        Ok(self.jobs.ports.milvus.connect(&self.instance).await?)
    }

    /// Returns the folder of the source backup's documents.
    pub(crate) fn snapshot(&self) -> Result<Folder<'a>, Error> {
        snapshot_of(self.jobs, &self.restore)
    }

    /// Reads the source backup's manifest. A rollback must not need it: the backup may have been deleted.
    pub(crate) async fn manifest(&self) -> Result<Manifest, Error> {
        self.snapshot()?.manifest().await
    }

    /// Returns the instance's own bucket, where data is staged: Milvus can't import from another bucket.
    pub(crate) fn own_bucket(&self) -> Step<Bucket> {
        Ok(Bucket::of_data(&self.instance)?.0)
    }
}

/// Adds the warnings that aren't in the list yet, up to [`WARNINGS`].
pub(super) fn add_warnings(to: &mut Vec<String>, warnings: impl IntoIterator<Item = String>) {
    for warning in warnings {
        if to.len() < WARNINGS && !to.contains(&warning) {
            to.push(warning);
        }
    }
}

/// Returns the folder of the source backup's documents.
pub(super) fn snapshot_of<'a>(jobs: &'a Jobs, restore: &Restore) -> Result<Folder<'a>, Error> {
    let bucket = jobs.settings.snapshots.in_region(&restore.backup_region)?;
    Ok(Folder::new(jobs.ports.objects.as_ref(), bucket, &restore.source_instance_id, &restore.backup_id))
}

/// Returns the write that removes the restore's pin from the source backup, if the pin is still there.
pub(crate) async fn unpin(jobs: &Jobs, restore: &Restore) -> Result<Option<Write>, Error> {
    let found = jobs.ports.catalog.backup(&restore.source_instance_id, &restore.backup_id).await?;
    Ok(found.and_then(|Versioned { mut value, version }| {
        value.pins.remove(&restore.id).then(|| Write::Backup(Box::new(value), Expect::Version(version)))
    }))
}

/// Returns the state of a restore that ends without a result.
pub(crate) fn ended_state(
    ending: Ending,
    started_at: Time,
    ended_at: Time,
    leftovers_since: Option<Time>,
) -> RestoreState {
    let started_at = Some(started_at);
    match ending {
        Ending::Failed(failure) => RestoreState::Failed { started_at, ended_at, failure, leftovers_since },
        Ending::Cancelled => RestoreState::Cancelled { started_at, ended_at, leftovers_since },
    }
}
