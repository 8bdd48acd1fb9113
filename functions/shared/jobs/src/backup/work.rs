//! A worker's view of the backup that it works on, and its checkpoints.

use std::{sync::Arc, time::Duration};

use milvault_model::{
    Backup, BackupId, BackupPhase, BackupRun, BackupState, Ending, Instance, Progress, SourceStorage,
};
use milvault_ports::{Bucket, Deadline, GarbageHold, Lease, Milvus, Write};

use super::source::source;
use crate::{
    Error, Jobs,
    engine::{
        halt::{Halt, Step},
        lease::Held,
        record::{JobRecord, Run, WriteOutcome},
    },
    snapshot::{self, layout, pages::Folder},
};

/// The longest that a job waits for a worker: a sweep runs every fifteen minutes.
const NEXT_SLICE: Duration = Duration::from_secs(20 * 60);

pub(crate) struct Work<'a> {
    pub(crate) held: &'a Held,
    pub(crate) jobs: &'a Jobs,
    pub(crate) lease: &'a Lease,
    pub(crate) deadline: Deadline,
    pub(crate) instance: Instance,
    pub(crate) backup: JobRecord<'a, Backup>,
    /// Where its snapshot is kept.
    pub(crate) bucket: &'a Bucket,
    pub(crate) run: BackupRun,
    /// How the server's garbage collection stands, once it was asked.
    garbage: Option<GarbageHold>,
}

impl<'a> Work<'a> {
    /// Reads the records and writes down that this slice begins.
    pub(crate) async fn begin(held: &'a Held, backup: &BackupId, deadline: Deadline) -> Result<Self, Error> {
        let Held { jobs, lease, .. } = held;
        let instance_id = &lease.instance_id;
        let instance = jobs.instance(instance_id).await?.value;
        let backup: JobRecord<'_, Backup> = JobRecord::read(held, backup).await?;
        let now = jobs.now();
        let mut run = match &backup.state {
            BackupState::Running(run) => (**run).clone(),
            // The job is the instance's, so it isn't over: it is pending.
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

    /// Writes the run down as it now is.
    async fn save(&mut self) -> Result<(), Error> {
        self.backup.state = BackupState::Running(Box::new(self.run.clone()));
        self.backup.write().await
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

    /// Writes down that the job got further.
    pub(crate) async fn checkpoint(&mut self) -> Result<(), Error> {
        self.run.advanced_at = self.jobs.now();
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
            let ended = Backup { state: state.clone(), ..Backup::clone(&self.backup) };
            match self.backup.end(ended, more.clone()).await? {
                WriteOutcome::Written => return Ok(()),
                WriteOutcome::Conflict => self.backup.reload().await?,
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
        snapshot::folder(self.jobs.ports.objects.as_ref(), self.bucket, &self.instance.id, &self.backup.id)
    }

    /// The prefix of the instance's data objects in the snapshot bucket.
    pub(crate) fn data_prefix(&self) -> String {
        layout::data(&self.instance.id)
    }

    /// Where the data comes from.
    pub(crate) fn source(&self) -> Result<(Bucket, SourceStorage), Error> {
        source(&self.instance)
    }
}
