//! Further rounds of a backup whose source changes while it runs, and the limits on them.

use chrono::TimeDelta;
use milvault_model::{BackupPhase, FailureCode, Flushing, Pass, Planning, Unexplained};

use super::{
    changes,
    patience::{Patience, Verdict},
    recapture,
    work::Work,
};
use crate::engine::halt::{Halt, Step, fatal, require_time};

/// The fewest rounds before a backup gives up on a changing source: each round may take hours, and there may be times
/// without a worker in between.
const FEWEST_ROUNDS: u32 = 8;

/// The pause before the second round of captures; it doubles with each further round, up to 32 times this length.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(2);

impl Work<'_> {
    /// Captures, plans and copies some collections again, because their source differs from the plan.
    pub(crate) async fn begin_again(&mut self, mut again: Pass) -> Step {
        let names = recapture::names(&self.folder(), &again).await?;
        let reason = format!("files of {} were gone before they were copied", names.join(", "));
        let (now, patience) = (self.jobs.now(), self.patience());
        for collection in std::mem::take(&mut again.collections) {
            match patience.judge(&mut self.run.gone, collection, now) {
                Verdict::Again => drop(again.collections.insert(collection)),
                Verdict::GiveUp(lasted) => {
                    let seconds = lasted.num_seconds();
                    let reason =
                        format!("its files were repeatedly gone before they were copied, for {seconds} seconds");
                    again.unexplained.push(Unexplained { collection, code: FailureCode::SourceChanged, reason });
                }
            }
        }
        // New collections are no longer added, unless they have the name of a dropped one.
        let flushing = Flushing { again: Some(again), reconciled: changes::ADDITIONS, ..Flushing::default() };
        self.enter_round(BackupPhase::Flush(flushing), reason).await
    }

    /// Plans all captured collections again.
    pub(crate) async fn plan_again(&mut self, planning: Planning, reason: String) -> Step {
        let (now, patience) = (self.jobs.now(), self.patience());
        let lasted = now - *self.run.unsettled_since.get_or_insert(now);
        if self.run.repeated_plans >= patience.rounds && lasted > patience.lasts {
            let message = format!("planned repeatedly for {} seconds: {reason}", lasted.num_seconds());
            return Err(fatal(FailureCode::SourceChanged, message));
        }
        self.enter_round(BackupPhase::Plan(planning), reason).await
    }

    /// The limit on captures that are repeated because files were gone before they were copied.
    fn patience(&self) -> Patience {
        Patience { rounds: FEWEST_ROUNDS, lasts: self.jobs.settings.stall * 2 }
    }

    /// Waits before collections are captured again, so that the source can settle: not at all the first time, then
    /// longer each time.
    ///
    /// # Errors
    /// [`Halt::OutOfTime`] at the deadline.
    pub(crate) async fn pause_before_round(&self) -> Step {
        let rounds = self.run.repeated_plans.saturating_sub(1).min(6);
        let until = match rounds {
            0 => return Ok(()),
            // A pause takes at most a tenth of the patience, so that pauses alone don't exhaust it.
            rounds => self.run.advanced_at + (FIRST_PAUSE * (1 << (rounds - 1))).min(self.patience().lasts / 10),
        };
        let clock = &self.jobs.ports.clock;
        let wait = (until - clock.now()).to_std().unwrap_or_default();
        clock.sleep(wait.min(self.deadline.left(clock.now()))).await;
        require_time(self.deadline, clock.now())
    }

    /// Continues with another round, from this phase, in the next slice.
    pub(crate) async fn enter_round(&mut self, phase: BackupPhase, reason: String) -> Step {
        tracing::info!(reason, backup = %self.backup.id, "planning again");
        self.run.repeated_plans += 1;
        self.enter(phase).await?;
        // The new round's pages need another fence than this round's, so the next slice continues.
        Err(Halt::OutOfTime)
    }
}
