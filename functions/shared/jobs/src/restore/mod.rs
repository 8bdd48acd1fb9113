//! The restore job: STAGE, BUILD, IMPORT, VERIFY, SWAP, CLEAN, each in a module of its own, and the ways back.
//!
//! Until SWAP no live collection is touched. From SWAP on, what each collection's renames are about to do is in the
//! ledger before they are done, with the ids of what they move: whoever comes next sees from the ids what was done.

mod build;
mod clean;
mod create;
mod give_up;
mod grants;
mod groups;
mod import;
mod requests;
mod stage;
mod swap;
mod undo;
mod verify;
mod witnesses;
mod work;

use milvault_model::{
    Ending, Failure, FailureCode, InstanceId, JobRef, Restore, RestoreId, RestorePhase, RestoreState, RollbackStep,
    Time,
};

pub use create::{BackupSelector, CreateRestore, DamagedBackup, create};
pub use requests::{cancel, rollback};

use crate::{
    Error, Jobs, SliceEnd,
    slice::{self, Halt, Held, Job, Step, WorkEnd, fatal},
};
use milvault_ports::{Deadline, Versioned};
use tracing::Instrument;
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
        slice::drive(held, deadline, &mut work).await
    };
    // What is logged from here on has it all, errors too.
    let span = tracing::error_span!("restore", %instance, %restore, phase = tracing::field::Empty);
    slice::run(jobs, &job, work).instrument(span).await
}

pub(crate) async fn find(jobs: &Jobs, instance: &InstanceId, restore: &RestoreId) -> Result<Versioned<Restore>, Error> {
    let found = jobs.ports.catalog.restore(instance, restore).await?;
    found.ok_or_else(|| Error::RestoreNotFound(instance.clone(), restore.to_string()))
}

impl Job for Work<'_> {
    async fn advance(&mut self) -> Step<Option<WorkEnd>> {
        slice::require_time(self.deadline, self.jobs.ports.clock.now())?;
        self.stuck.clear();
        let phase = self.run.phase.clone();
        let stoppable = matches!(
            phase,
            RestorePhase::Stage { .. } | RestorePhase::Build | RestorePhase::Import | RestorePhase::Verify
        );
        if stoppable && self.restore.cancel_requested_at.is_some() {
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

    async fn turn_back(&mut self, ending: Ending) -> Result<Option<WorkEnd>, Error> {
        let restore = self.restore.id.clone();
        let is_over = match self.run.phase.clone() {
            // The collections are in their places: what is left to tidy up is the sweep's.
            RestorePhase::Clean => {
                tracing::error!(why = why(&ending), %restore, "completed, but not tidied up");
                if let Ending::Failed(failure) = &ending {
                    self.warn(format!("the collections are in place, but not all is tidied up: {}", failure.message));
                }
                clean::complete(self, Some(self.jobs.ports.clock.now())).await?;
                true
            }
            RestorePhase::Rollback { completed_at, until, step } => {
                tracing::error!(why = why(&ending), %restore, "the rollback stops");
                let stuck = match ending {
                    Ending::Failed(failure) => failure,
                    Ending::Cancelled => Failure::new(FailureCode::Stalled, "it was to stop"),
                };
                // A name may have no collection at this moment: that isn't left so before many tries.
                let (now, stall) = (self.jobs.ports.clock.now(), self.jobs.settings.stall);
                let is_over = step == RollbackStep::Prepare || self.is_stalled_for(now, stall * 10);
                if is_over {
                    undo::stop_rollback(self, &stuck, completed_at, until).await?;
                }
                is_over
            }
            RestorePhase::Undo(first) => {
                tracing::error!(why = why(&ending), %restore, "the undoing waits for the next sweep");
                undo::give_up(self, first, ending).await?
            }
            _ if ending != Ending::Cancelled && self.give_up_stuck().await? => return Ok(None),
            phase => {
                tracing::warn!(why = why(&ending), %restore, phase = phase.name(), "the restore is undone");
                self.enter(RestorePhase::Undo(ending)).await?;
                return Ok(None);
            }
        };
        Ok(Some(if is_over { WorkEnd::Over } else { WorkEnd::LeaveToSweep }))
    }
}

/// What is logged of why a restore ends: its message is in the record, for its caller, because what the server says of an
/// import may quote rows.
fn why(ending: &Ending) -> String {
    match ending {
        Ending::Cancelled => "Cancelled".to_owned(),
        Ending::Failed(failure) => format!("{:?}", failure.code),
    }
}

/// The most reasons that a failure names.
const REASONS: usize = 20;

/// The most things that a warning names.
const NAMED: usize = 20;

/// What a warning names.
fn named(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Several collections' reasons as one failure, in the order of their names.
fn together(code: FailureCode, mut reasons: Vec<String>) -> Halt {
    reasons.sort();
    if let Some(more) = reasons.len().checked_sub(REASONS).filter(|more| *more > 0) {
        reasons.truncate(REASONS);
        reasons.push(format!("and {more} more"));
    }
    fatal(code, reasons.join("; "))
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::DateTime;
    use milvault_model::{CollectionCapture, CollectionName, Loaded, RowCount};

    use super::*;

    /// Of an empty collection.
    pub(crate) fn capture() -> CollectionCapture {
        CollectionCapture {
            name: CollectionName::new("default", "items"),
            id: 1,
            schema: String::new(),
            primary_key: "id".to_owned(),
            fields: Vec::new(),
            delta_logs: None,
            shards: 1,
            consistency_level: 0,
            properties: Vec::new(),
            partitions: Vec::new(),
            has_partition_key: false,
            indexes: Vec::new(),
            aliases: Vec::new(),
            loaded: Loaded::No,
            flush_timestamp: 0,
            point_in_time: DateTime::UNIX_EPOCH,
            rows: RowCount::AtMost { rows: 0 },
            sample: Vec::new(),
            size_bytes: 0,
            segments: Vec::new(),
        }
    }

    #[test]
    fn a_failure_names_some_of_many_reasons() {
        let reasons = (0..16_000).map(|number| format!("c{number:05}: gone")).collect();
        let Halt::Fatal(failure) = together(FailureCode::ImportFailed, reasons) else { panic!("it is fatal") };
        assert!(failure.message.starts_with("c00000: gone; c00001: gone; "));
        assert!(failure.message.ends_with("; and 15980 more"));
    }
}
