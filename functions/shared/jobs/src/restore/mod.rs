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

use milvault_model::{Ending, FailureCode, InstanceId, JobRef, Restore, RestoreId, RestorePhase, RestoreState, Time};

pub use create::{BackupSelector, CreateRestore, DamagedBackup, create};
pub use requests::{cancel, rollback};

use crate::{
    Error, Jobs, SliceEnd,
    ports::{Deadline, Versioned},
    slice::{self, Halt, Held, Job, Step, WorkEnd, fatal},
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
    let work = async |held: &Held| {
        let mut work = Work::begin(held, restore, deadline).await?;
        slice::drive(jobs, deadline, &mut work).await
    };
    slice::run(jobs, &job, work).await
}

pub(crate) async fn find(jobs: &Jobs, instance: &InstanceId, restore: &RestoreId) -> Result<Versioned<Restore>, Error> {
    let found = jobs.ports.catalog.restore(instance, restore).await?;
    found.ok_or_else(|| Error::RestoreNotFound(instance.clone(), restore.to_string()))
}

impl Job for Work<'_> {
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

    fn is_stalled(&self, now: Time) -> bool {
        self.run.is_stalled(now, self.jobs.settings.stall)
    }

    async fn turn_back(&mut self, ending: Ending) -> Result<Option<WorkEnd>, Error> {
        match &self.run.phase {
            // There is no other way out of these than through.
            RestorePhase::Undo(_) | RestorePhase::Rollback { .. } | RestorePhase::Clean => {
                tracing::error!(?ending, restore = %self.restore.id, "the clean-up waits for the next sweep");
                let now = self.jobs.ports.clock.now();
                let ended = self.is_stalled(now) && self.give_up_cleaning(now).await?;
                Ok(Some(if ended { WorkEnd::Over } else { WorkEnd::LeaveToSweep }))
            }
            phase => {
                tracing::warn!(?ending, restore = %self.restore.id, phase = phase.name(), "the restore is undone");
                self.enter(RestorePhase::Undo(ending)).await?;
                Ok(None)
            }
        }
    }
}

/// Several collections' reasons as one failure, in the ledger's order.
fn together(code: FailureCode, mut reasons: Vec<String>) -> Halt {
    reasons.sort();
    fatal(code, reasons.join("; "))
}
