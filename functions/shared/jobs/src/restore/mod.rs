//! The restore job: STAGE, BUILD, IMPORT, VERIFY, SWAP, CLEAN, each in a module of its own, and the ways back.
//!
//! Until SWAP no live collection is touched. From SWAP on, what each collection's renames are about to do is in the
//! ledger before they are done, with the ids of what they move: whoever comes next sees from the ids what was done.

mod build;
mod clean;
mod create;
mod import;
mod requests;
mod stage;
mod swap;
mod undo;
mod verify;
mod work;

use milvault_model::{Ending, FailureCode, InstanceId, JobRef, Restore, RestoreId, RestorePhase, RestoreState};

pub use create::{BackupSelector, CreateRestore, DamagedBackup, create};
pub use requests::{cancel, rollback};

use crate::{
    Error, Jobs, SliceEnd,
    ports::{Deadline, Lease, Versioned},
    slice::{self, Halt, Step, Verdict, WorkEnd, backoff, fatal, verdict},
};
use work::Work;

/// Works on a restore until it is over or the time is; removes what a finished one no longer needs.
///
/// # Errors
/// [`Error::RestoreNotFound`]; what isn't the job's fault, such as a catalog that fails. The job goes on later.
pub async fn run(
    jobs: &Jobs,
    instance: &InstanceId,
    restore: &RestoreId,
    deadline: Deadline,
) -> Result<SliceEnd, Error> {
    let record = find(jobs, instance, restore).await?.value;
    if !matches!(record.state, RestoreState::Pending | RestoreState::Running(_)) {
        return clean::leftovers(jobs, record).await;
    }
    let job = JobRef::Restore { instance_id: instance.clone(), restore_id: restore.clone() };
    slice::run(jobs, &job, async |lease| slice_of(jobs, lease, restore, deadline).await).await
}

pub(crate) async fn find(jobs: &Jobs, instance: &InstanceId, restore: &RestoreId) -> Result<Versioned<Restore>, Error> {
    let found = jobs.ports.catalog.restore(instance, restore).await?;
    found.ok_or_else(|| Error::RestoreNotFound(instance.clone(), restore.to_string()))
}

async fn slice_of(jobs: &Jobs, lease: &Lease, restore: &RestoreId, deadline: Deadline) -> Result<WorkEnd, Error> {
    let mut work = Work::begin(jobs, lease, restore, deadline).await?;
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
        let now = jobs.ports.clock.now();
        let stalled = work.run.is_stalled(now, jobs.settings.stall);
        let ending = match halt {
            Halt::OutOfTime => return Ok(WorkEnd::OutOfTime),
            Halt::CancelRequested => Ending::Cancelled,
            Halt::Fatal(failure) => Ending::Failed(failure),
            Halt::Error(error) => match verdict(&error) {
                Verdict::Stop => return Err(error),
                Verdict::Fail(failure) => Ending::Failed(failure),
                Verdict::Retry(failure) if stalled => Ending::Failed(failure),
                Verdict::Retry(_) => {
                    if deadline.is_over(now) {
                        return Ok(WorkEnd::OutOfTime);
                    }
                    tracing::warn!(%error, attempt, restore = %restore, "waiting before another try");
                    jobs.ports.clock.sleep(backoff(attempt).min(deadline.left(now))).await;
                    attempt += 1;
                    continue;
                }
            },
        };
        match &work.run.phase {
            // There is no other way out of these than through.
            RestorePhase::Undo(_) | RestorePhase::Rollback { .. } | RestorePhase::Clean => {
                tracing::error!(?ending, restore = %restore, "the clean-up waits for the next sweep");
                let ended = stalled && work.give_up_cleaning(now).await?;
                return Ok(if ended { WorkEnd::Over } else { WorkEnd::LeaveToSweep });
            }
            phase => {
                tracing::warn!(?ending, restore = %restore, phase = phase.name(), "the restore is undone");
                work.enter(RestorePhase::Undo(ending)).await?;
            }
        }
    }
}

impl Work<'_> {
    /// Does the next step; `Some` when the slice is over.
    async fn advance(&mut self) -> Step<Option<WorkEnd>> {
        if self.deadline.is_over(self.jobs.ports.clock.now()) {
            return Err(Halt::OutOfTime);
        }
        let phase = self.run.phase.clone();
        let stoppable = matches!(
            phase,
            RestorePhase::Stage { .. } | RestorePhase::Build | RestorePhase::Import | RestorePhase::Verify
        );
        if stoppable && self.restore.cancel_requested_at.is_some() {
            return Err(Halt::CancelRequested);
        }
        match phase {
            RestorePhase::Stage { next: None } => stage::write_ledger(self).await?,
            RestorePhase::Stage { next: Some(next) } => stage::stage_page(self, next).await?,
            RestorePhase::Build => build::build(self).await?,
            RestorePhase::Import => import::import(self).await?,
            RestorePhase::Verify => verify::verify(self).await?,
            RestorePhase::Swap => swap::swap(self).await?,
            RestorePhase::Clean => {
                clean::clean(self).await?;
                return Ok(Some(WorkEnd::Over));
            }
            RestorePhase::Undo(ending) => {
                undo::undo(self, ending).await?;
                return Ok(Some(WorkEnd::Over));
            }
            RestorePhase::Rollback { completed_at, until } => {
                undo::roll_back(self, completed_at, until).await?;
                return Ok(Some(WorkEnd::Over));
            }
        }
        Ok(None)
    }
}

/// Several collections' reasons as one failure, in the ledger's order.
fn together(code: FailureCode, mut reasons: Vec<String>) -> Halt {
    reasons.sort();
    fatal(code, reasons.join("; "))
}
