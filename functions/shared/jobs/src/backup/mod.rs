//! The backup job: FLUSH, PLAN, COPY, VERIFY, PUBLISH, each in a module of its own.

mod capture;
mod clean;
mod copy;
mod create;
mod explain;
mod flush;
mod inspection;
mod metadata;
pub(crate) mod object_lock;
mod page_copy;
mod patience;
mod plan;
mod publish;
mod source;
mod survey;
mod verify;
mod work;

use milvault_model::{
    Backup, BackupId, BackupPhase, BackupState, Ending, Instance, InstanceId, JobRef, SourceStorage, Time,
};

pub use create::{CreateBackup, create};
pub(crate) use create::{create_with, gate};
pub use page_copy::copy_page;
pub(crate) use plan::{DELTA, INSERT, Log, log_of};
pub(crate) use source::check_source;
pub use source::{SourceData, Specimen, find_data, missing};
pub use verify::verify;

use crate::{
    Error, Jobs, SliceEnd,
    slice::{self, Halt, Held, Job, Step, WorkEnd},
};
use milvault_ports::{Bucket, Deadline, ObjectsError};
use tracing::Instrument;
use work::Work;

/// Works on a backup until it is over or the time is.
///
/// # Errors
/// [`Error::BackupNotFound`]; what isn't the job's fault, such as a catalog that fails. The job goes on later.
pub async fn run(jobs: &Jobs, instance: &InstanceId, backup: &BackupId, deadline: Deadline) -> Result<SliceEnd, Error> {
    let record = find(jobs, instance, backup).await?;
    if !matches!(record.state, BackupState::Pending | BackupState::Running(_)) {
        return Ok(SliceEnd::Ended);
    }
    let job = JobRef::Backup { instance_id: instance.clone(), backup_id: backup.clone() };
    let work = async |held: &Held| {
        let mut work = Work::begin(held, backup, deadline).await?;
        slice::drive(held, deadline, &mut work).await
    };
    // What is logged from here on has it all, errors too.
    let span = tracing::error_span!("backup", %instance, %backup, phase = tracing::field::Empty);
    slice::run(jobs, &job, work).instrument(span).await
}

pub(crate) async fn find(jobs: &Jobs, instance: &InstanceId, backup: &BackupId) -> Result<Backup, Error> {
    let found = jobs.ports.catalog.backup(instance, backup).await?;
    found.map(|found| found.value).ok_or_else(|| Error::BackupNotFound(instance.clone(), backup.to_string()))
}

impl Job for Work<'_> {
    async fn advance(&mut self) -> Step<Option<WorkEnd>> {
        if self.backup.cancel_requested_at.is_some() && !matches!(self.run.phase, BackupPhase::Clean(_)) {
            return Err(Halt::CancelRequested);
        }
        slice::require_time(self.deadline, self.jobs.ports.clock.now())?;
        tracing::Span::current().record("phase", self.run.phase.name());
        self.hold_garbage().await;
        match self.run.phase.clone() {
            // On the heap: these two nest deeper than the compiler lays futures out.
            BackupPhase::Flush(flushing) => Box::pin(flush::flush(self, flushing)).await?,
            BackupPhase::Plan(planning) => Box::pin(plan::plan(self, planning)).await?,
            BackupPhase::Copy(copying) => copy::copy(self, copying).await?,
            BackupPhase::Verify(verifying) => publish::verify(self, verifying).await?,
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

    async fn turn_back(&mut self, ending: Ending) -> Result<Option<WorkEnd>, Error> {
        let phase = self.run.phase.name();
        // There is no other way out of CLEAN than through: what can't be removed now is removed later.
        if matches!(self.run.phase, BackupPhase::Clean(_)) {
            tracing::error!(?ending, backup = %self.backup.id, "the clean-up waits for the next sweep");
            return Ok(Some(WorkEnd::LeaveToSweep));
        }
        tracing::warn!(?ending, backup = %self.backup.id, phase, "the backup ends without a result");
        self.enter(BackupPhase::Clean(ending)).await?;
        Ok(None)
    }
}

/// Where an instance's data comes from.
///
/// # Errors
/// When it is registered without its object storage.
fn source(instance: &Instance) -> Result<(Bucket, SourceStorage), Error> {
    let storage = instance.storage.as_ref().ok_or_else(|| ObjectsError::Bucket {
        bucket: "(none)".to_owned(),
        reason: "the instance is registered without its object storage".to_owned(),
    })?;
    let (region, bucket, root_path) = (instance.region.clone(), storage.bucket.clone(), storage.root_path.clone());
    let source = SourceStorage { region: region.clone(), bucket: bucket.clone(), root_path };
    Ok((Bucket { region, name: bucket }, source))
}
