//! Runs a backup's phases one after the other.

use milvault_model::{BackupId, BackupPhase, BackupState, Ending, InstanceId, JobRef, Time};
use milvault_ports::Deadline;
use tracing::Instrument;

use super::{clean, copy, flush, plan, publish, verify, work::Work};
use crate::{
    Error, Jobs,
    engine::{
        halt::{Halt, Step, require_time},
        lease::Held,
        slice::{self, Job, SliceEnd, WorkEnd},
    },
    waiting_runs,
};

/// Works on a backup until it has ended or the time is over.
///
/// # Errors
/// [`Error::BackupNotFound`]; errors that aren't the job's fault, such as a failing catalog. The job continues later.
pub async fn run(jobs: &Jobs, instance: &InstanceId, backup: &BackupId, deadline: Deadline) -> Result<SliceEnd, Error> {
    let record = jobs.backup(instance, backup).await?.value;
    if !matches!(record.state, BackupState::Pending | BackupState::Running(_)) {
        return Ok(SliceEnd::Ended);
    }
    let job = JobRef::Backup { instance_id: instance.clone(), backup_id: backup.clone() };
    let work = async |held: &Held| {
        let mut work = Work::begin(held, backup, deadline).await?;
        slice::drive(held, deadline, &mut work).await
    };
    // At error level, so that the span's fields are in every log line.
    let span = tracing::error_span!("backup", %instance, %backup, phase = tracing::field::Empty);
    let end = slice::run(jobs, &job, work).instrument(span).await?;
    waiting_runs::after_slice(jobs, instance, end).await;
    Ok(end)
}

impl Job for Work<'_> {
    async fn advance(&mut self) -> Step<Option<WorkEnd>> {
        if self.backup.cancel_requested_at.is_some() && !matches!(self.run.phase, BackupPhase::Clean(_)) {
            return Err(Halt::CancelRequested);
        }
        require_time(self.deadline, self.jobs.now())?;
        tracing::Span::current().record("phase", self.run.phase.name());
        self.hold_garbage().await;
        match self.run.phase.clone() {
            // Boxed: these two futures nest deeper than the compiler can lay out.
            BackupPhase::Flush(flushing) => Box::pin(flush::flush(self, flushing)).await?,
            BackupPhase::Plan(planning) => Box::pin(plan::plan(self, planning)).await?,
            BackupPhase::Copy(copying) => copy::copy(self, copying).await?,
            BackupPhase::Verify(verifying) => verify::verify(self, verifying).await?,
            BackupPhase::Publish(publishing) => {
                publish::publish(self, publishing).await?;
                return Ok(Some(WorkEnd::Over));
            }
            BackupPhase::Clean(ending) => {
                clean::clean(self, ending).await?;
                return Ok(Some(WorkEnd::Over));
            }
        }
        Ok(None)
    }

    fn is_stalled(&self, now: Time) -> bool {
        self.run.is_stalled(now, self.jobs.settings.stall)
    }

    async fn abort(&mut self, ending: Ending) -> Result<Option<WorkEnd>, Error> {
        let phase = self.run.phase.name();
        // CLEAN always has to complete: objects that can't be removed now are removed later.
        if matches!(self.run.phase, BackupPhase::Clean(_)) {
            tracing::error!(?ending, backup = %self.backup.id, "the clean-up waits for the next sweep");
            return Ok(Some(WorkEnd::LeaveToSweep));
        }
        tracing::warn!(?ending, backup = %self.backup.id, phase, "the backup ends without a result");
        self.enter(BackupPhase::Clean(ending)).await?;
        Ok(None)
    }
}
