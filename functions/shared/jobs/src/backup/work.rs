//! The state of a worker on a backup, and its checkpoints.

use std::{sync::Arc, time::Duration};

use milvault_model::{
    Backup, BackupId, BackupPhase, BackupRun, BackupState, Ending, Instance, Progress, SourceStorage,
};
use milvault_ports::{Bucket, Deadline, GarbageHold, Lease, Milvus, Write};

use super::source::registered_source;
use crate::{
    Error, Jobs,
    engine::{
        halt::{Halt, Step},
        lease::Held,
        record::{JobRecord, Run, WriteOutcome},
    },
    snapshot::{layout, pages::Folder},
};

/// The longest time that a job waits for a worker: a sweep runs every fifteen minutes.
const NEXT_SLICE: Duration = Duration::from_secs(20 * 60);

pub(crate) struct Work<'a> {
    pub(crate) held: &'a Held,
    pub(crate) jobs: &'a Jobs,
    pub(crate) lease: &'a Lease,
    pub(crate) deadline: Deadline,
    pub(crate) instance: Instance,
    pub(crate) backup: JobRecord<'a, Backup>,
    /// The bucket that the snapshot is stored in.
    pub(crate) bucket: &'a Bucket,
    pub(crate) run: BackupRun,
    /// The hold on the server's garbage collection, once it was requested.
    garbage: Option<GarbageHold>,
}

impl<'a> Work<'a> {
    /// Reads the records, and records that this slice has begun.
    pub(crate) async fn begin(held: &'a Held, backup: &BackupId, deadline: Deadline) -> Result<Self, Error> {
        let Held { jobs, lease, .. } = held;
        let instance_id = &lease.instance_id;
        let instance = jobs.instance(instance_id).await?.value;
        let backup: JobRecord<'_, Backup> = JobRecord::read(held, backup).await?;
        let now = jobs.now();
        let mut run = match &backup.state {
            BackupState::Running(run) => (**run).clone(),
            // The backup is the instance's job, so it hasn't ended: it is pending.
            _ => BackupRun::begin(now),
        };
        run.slices += 1;
        if !matches!(run.phase, BackupPhase::Clean(_))
            && let Some(failure) = run.exhausted(now, jobs.settings.stall)
        {
            run.phase = BackupPhase::Clean(Ending::Failed(failure));
        }
        let bucket = jobs.settings.snapshots.in_region(&backup.region)?;
        let mut work = Self { held, jobs, lease, deadline, instance, backup, bucket, run, garbage: None };
        work.save().await?;
        Ok(work)
    }

    /// Saves the present state of the run.
    async fn save(&mut self) -> Result<(), Error> {
        self.backup.state = BackupState::Running(Box::new(self.run.clone()));
        self.backup.write().await
    }

    /// Enters a phase, durably.
    pub(crate) async fn enter(&mut self, phase: BackupPhase) -> Result<(), Error> {
        self.advance_to(phase, Progress::default()).await
    }

    /// Enters a phase with this progress, durably.
    pub(crate) async fn advance_to(&mut self, phase: BackupPhase, progress: Progress) -> Result<(), Error> {
        self.run.phase = phase;
        self.run.progress = progress;
        self.checkpoint().await
    }

    /// Saves state that the next slice needs and that doesn't count as progress. Does nothing if it is saved already.
    pub(crate) async fn note(&mut self, phase: BackupPhase) -> Result<(), Error> {
        if self.run.phase == phase {
            return Ok(());
        }
        self.run.phase = phase;
        self.save().await
    }

    /// Saves the state and records progress.
    pub(crate) async fn checkpoint(&mut self) -> Result<(), Error> {
        self.run.advanced_at = self.jobs.now();
        self.run.advanced_in = self.run.slices;
        tracing::info!(
            instance = %self.instance.id, backup = %self.backup.id, phase = self.run.phase.name(),
            percent = self.run.progress.percent(), "checkpoint"
        );
        self.save().await
    }

    /// Ends the job: writes the backup's last state, with `extra_writes` in the same commit.
    ///
    /// # Errors
    /// [`Halt::CancelRequested`] if the backup would become available, but the caller has just asked to cancel it.
    pub(crate) async fn end(&mut self, state: BackupState, extra_writes: Vec<Write>) -> Step {
        loop {
            if self.backup.cancel_requested_at.is_some() && matches!(state, BackupState::Available(_)) {
                return Err(Halt::CancelRequested);
            }
            let ended = Backup { state: state.clone(), ..Backup::clone(&self.backup) };
            match self.backup.end(ended, extra_writes.clone()).await? {
                WriteOutcome::Written => return Ok(()),
                WriteOutcome::Conflict => self.backup.reload().await?,
            }
        }
    }

    /// Makes the server keep the files of dropped segments until everything is copied, if it supports that.
    ///
    /// Otherwise it keeps them for hours by default, and a missing file is detected.
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
                tracing::warn!(%error, backup = %self.backup.id, "holding or releasing garbage collection failed");
            }
        }
    }

    /// Holds garbage collection for this slice, and until the next one renews the hold, even if a sweep has to start
    /// it.
    async fn hold(&self) -> Result<Option<GarbageHold>, Error> {
        let duration = self.deadline.left(self.jobs.now()) + NEXT_SLICE;
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
        Folder::new(self.jobs.ports.objects.as_ref(), self.bucket, &self.instance.id, &self.backup.id)
    }

    /// The prefix of the instance's data objects in the snapshot bucket.
    pub(crate) fn data_prefix(&self) -> String {
        layout::data(&self.instance.id)
    }

    /// The bucket and root path of the server's data.
    pub(crate) fn source(&self) -> Result<(Bucket, SourceStorage), Error> {
        registered_source(&self.instance)
    }
}
