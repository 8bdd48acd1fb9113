//! Runs the restore job: its phases in order, and its undoing.

use milvault_model::{
    Ending, Failure, FailureCode, InstanceId, JobRef, RestoreId, RestorePhase, RestoreState, RollbackStep, Time,
};
use milvault_ports::Deadline;
use tracing::Instrument;

use super::{build, clean, import, stage, swap, undo, verify, work::Work};
use crate::{
    Error, Jobs,
    engine::{
        halt::{Halt, Step, require_time},
        lease::Held,
        slice::{self, Job, SliceEnd, WorkEnd},
    },
    waiting_runs,
};

/// Runs a restore until it is over or the slice's time is. For a finished restore, removes what is no longer needed.
///
/// # Errors
/// [`Error::RestoreNotFound`]; faults that the job didn't cause, such as a failing catalog. The job continues later.
pub async fn run(
    jobs: &Jobs,
    instance: &InstanceId,
    restore: &RestoreId,
    deadline: Deadline,
) -> Result<SliceEnd, Error> {
    let record = jobs.restore(instance, restore).await?.value;
    if !matches!(record.state, RestoreState::Pending | RestoreState::Running(_)) {
        return clean::remove_leftovers(jobs, record).await;
    }
    let job = JobRef::Restore { instance_id: instance.clone(), restore_id: restore.clone() };
    let work = async |held: &Held| {
        let mut work = Work::begin(held, restore, deadline).await?;
        slice::drive(held, deadline, &mut work).await
    };
    // Every event from here on has the span's fields, errors too.
    let span = tracing::error_span!("restore", %instance, %restore, phase = tracing::field::Empty);
    let end = slice::run(jobs, &job, work).instrument(span).await?;
    waiting_runs::after_slice(jobs, instance, end).await;
    Ok(end)
}

impl Job for Work<'_> {
    async fn advance(&mut self) -> Step<Option<WorkEnd>> {
        require_time(self.deadline, self.jobs.now())?;
        self.stuck.clear();
        let phase = self.run.phase.clone();
        if phase.can_be_cancelled() && self.restore.cancel_requested_at.is_some() {
            return Err(Halt::CancelRequested);
        }
        tracing::Span::current().record("phase", phase.name());
        match phase {
            RestorePhase::Stage { next: None } => stage::write_ledger(self).await?,
            RestorePhase::Stage { next: Some(next) } => stage::stage(self, next).await?,
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
            RestorePhase::Rollback { completed_at, until, step: RollbackStep::Prepare } => {
                let is_ready = undo::prepare_rollback(self, completed_at, until).await?;
                return Ok((!is_ready).then_some(WorkEnd::Over));
            }
            RestorePhase::Rollback { completed_at, until, step: RollbackStep::PutBack } => {
                undo::roll_back(self, completed_at, until).await?;
                return Ok(Some(WorkEnd::Over));
            }
        }
        Ok(None)
    }

    fn is_stalled(&self, now: Time) -> bool {
        self.is_stalled_for(now, self.jobs.settings.stall)
    }

    async fn abort(&mut self, ending: Ending) -> Result<Option<WorkEnd>, Error> {
        let restore = self.restore.id.clone();
        let is_over = match self.run.phase.clone() {
            // The collections are in place: the sweep finishes the cleanup.
            RestorePhase::Clean => {
                tracing::error!(why = logged_reason(&ending), %restore, "completed, but not cleaned up");
                if let Ending::Failed(failure) = &ending {
                    self.warn(format!("the collections are in place, but the cleanup failed: {}", failure.message));
                }
                clean::complete(self, Some(self.jobs.now())).await?;
                true
            }
            RestorePhase::Rollback { completed_at, until, step } => {
                tracing::error!(why = logged_reason(&ending), %restore, "the rollback stops");
                let stuck = match ending {
                    Ending::Failed(failure) => failure,
                    Ending::Cancelled => Failure::new(FailureCode::Stalled, "it was cancelled"),
                };
                // A name may have no collection at this moment: the rollback isn't ended before ten times the stall
                // limit.
                let (now, stall) = (self.jobs.now(), self.jobs.settings.stall);
                let is_over = step == RollbackStep::Prepare || self.is_stalled_for(now, stall * 10);
                if is_over {
                    undo::stop_rollback(self, &stuck, completed_at, until).await?;
                }
                is_over
            }
            RestorePhase::Undo(first) => {
                tracing::error!(why = logged_reason(&ending), %restore, "the undoing waits for the next sweep");
                undo::end_stalled_undo(self, first, ending).await?
            }
            _ if ending != Ending::Cancelled && self.give_up_stuck().await? => return Ok(None),
            phase => {
                tracing::warn!(why = logged_reason(&ending), %restore, phase = phase.name(), "undoing the restore");
                self.enter(RestorePhase::Undo(ending)).await?;
                return Ok(None);
            }
        };
        Ok(Some(if is_over { WorkEnd::Over } else { WorkEnd::LeaveToSweep }))
    }
}

/// Returns the reason for a restore's end as it is logged, without the failure's message: the server's message about an
/// import may quote rows, and is only for the caller, in the record.
fn logged_reason(ending: &Ending) -> String {
    match ending {
        Ending::Cancelled => "CANCELLED".to_owned(),
        Ending::Failed(failure) => failure.code.to_string(),
    }
}
