//! The backup job: FLUSH, PLAN, COPY, VERIFY, PUBLISH, each in a module of its own.

mod capture;
mod clean;
mod copy;
mod create;
mod flush;
mod inspection;
mod metadata;
mod page_copy;
mod plan;
mod publish;
mod verify;
mod work;

use milvault_model::{
    Backup, BackupId, BackupPhase, BackupState, Ending, Failure, FailureCode, Instance, InstanceId, JobRef,
    SourceStorage,
};

pub use create::{CreateBackup, create};
pub(crate) use create::{check_source, gate};
pub use page_copy::{CopyEnd, CopyReport, CopyTask, copy_page};
pub use verify::verify;

use crate::{
    Error, Jobs, SliceEnd,
    ports::{Bucket, Deadline, Lease, ObjectsError},
    slice::{self, Halt, Step, Verdict, WorkEnd, backoff, verdict},
};
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
    slice::run(jobs, &job, async |lease| slice_of(jobs, lease, backup, deadline).await).await
}

pub(crate) async fn find(jobs: &Jobs, instance: &InstanceId, backup: &BackupId) -> Result<Backup, Error> {
    let found = jobs.ports.catalog.backup(instance, backup).await?;
    found.map(|found| found.value).ok_or_else(|| Error::BackupNotFound(instance.clone(), backup.to_string()))
}

async fn slice_of(jobs: &Jobs, lease: &Lease, backup: &BackupId, deadline: Deadline) -> Result<WorkEnd, Error> {
    let mut work = Work::begin(jobs, lease, backup, deadline).await?;
    let mut attempt = 0;
    loop {
        let halt = match work.advance().await {
            Ok(Some(end)) => return Ok(end),
            Ok(None) => {
                attempt = 0;
                continue;
            }
            Err(halt) => halt,
        };
        let ending = match halt {
            Halt::OutOfTime => return Ok(WorkEnd::OutOfTime),
            Halt::CancelRequested => Ending::Cancelled,
            Halt::Fatal(failure) => Ending::Failed(failure),
            Halt::Error(error) => match verdict(&error) {
                Verdict::Stop => return Err(error),
                Verdict::Fail(failure) => Ending::Failed(failure),
                Verdict::Retry(failure) => {
                    let now = jobs.ports.clock.now();
                    if !work.run.is_stalled(now, jobs.settings.stall) {
                        if deadline.is_over(now) {
                            return Ok(WorkEnd::OutOfTime);
                        }
                        tracing::warn!(%error, attempt, backup = %backup, "waiting before another try");
                        jobs.ports.clock.sleep(backoff(attempt).min(deadline.left(now))).await;
                        attempt += 1;
                        continue;
                    }
                    Ending::Failed(failure)
                }
            },
        };
        // There is no other way out of CLEAN than through: what can't be removed now is removed later.
        if matches!(work.run.phase, BackupPhase::Clean(_)) {
            tracing::error!(?ending, backup = %backup, "the clean-up waits for the next sweep");
            return Ok(WorkEnd::LeaveToSweep);
        }
        tracing::warn!(?ending, backup = %backup, phase = work.run.phase.name(), "the backup ends without a result");
        work.enter(BackupPhase::Clean(ending)).await?;
    }
}

impl Work<'_> {
    /// Does the next step; `Some` when the slice is over.
    async fn advance(&mut self) -> Step<Option<WorkEnd>> {
        if self.backup.cancel_requested_at.is_some() && !matches!(self.run.phase, BackupPhase::Clean(_)) {
            return Err(Halt::CancelRequested);
        }
        if self.deadline.is_over(self.jobs.ports.clock.now()) {
            return Err(Halt::OutOfTime);
        }
        self.hold_garbage().await;
        match self.run.phase.clone() {
            BackupPhase::Flush(flushing) => flush::flush(self, flushing).await?,
            BackupPhase::Plan(planning) => plan::plan(self, planning).await?,
            BackupPhase::Copy(copying) => copy::copy(self, copying).await?,
            BackupPhase::Verify(verifying) => publish::verify(self, verifying).await?,
            BackupPhase::Publish => {
                publish::publish(self).await?;
                return Ok(Some(WorkEnd::Over));
            }
            BackupPhase::Clean(ending) => {
                clean::clean(self, ending).await?;
                return Ok(Some(WorkEnd::Over));
            }
        }
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

/// A failure that says the job used up its invocations.
fn too_many_slices() -> Failure {
    Failure::new(FailureCode::Stalled, format!("the job isn't over after {} invocations", slice::MAX_SLICES))
}
