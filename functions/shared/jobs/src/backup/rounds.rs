//! Further rounds of a backup whose source changes under it: what is captured, planned and copied once more, and for how
//! long.

use chrono::TimeDelta;
use milvault_model::{BackupPhase, FailureCode, Flushing, Pass, Planning, Unexplained};

use super::{
    changes,
    patience::{Patience, Verdict},
    recapture,
    work::Work,
};
use crate::engine::halt::{Halt, Step, fatal, require_time};

/// The fewest rounds before a backup gives up on what changes under it: each may take hours, and workers may be missing in
/// between.
const FEWEST_ROUNDS: u32 = 8;

/// How long a second round of captures waits; it doubles with each further one, up to 32 times as long.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(2);

impl Work<'_> {
    /// Captures, plans and copies some collections again, because their source isn't what was planned.
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
                        format!("its files were gone before they were copied, again and again for {seconds} seconds");
                    again.unexplained.push(Unexplained { collection, code: FailureCode::SourceChanged, reason });
                }
            }
        }
        // What was made since isn't added any more, unless it has the name of one that was dropped.
        let flushing = Flushing { again: Some(again), reconciled: changes::ADDITIONS, ..Flushing::default() };
        self.enter_round(BackupPhase::Flush(flushing), reason).await
    }

    /// Plans all of what was captured again.
    pub(crate) async fn plan_again(&mut self, planning: Planning, reason: String) -> Step {
        let (now, patience) = (self.jobs.now(), self.patience());
        let lasted = now - *self.run.unsettled_since.get_or_insert(now);
        if self.run.repeated_plans >= patience.rounds && lasted > patience.lasts {
            let message = format!("again and again for {} seconds, {reason}", lasted.num_seconds());
            return Err(fatal(FailureCode::SourceChanged, message));
        }
        self.enter_round(BackupPhase::Plan(planning), reason).await
    }

    /// For how long files are tried again that are gone when they are to be copied.
    fn patience(&self) -> Patience {
        Patience { rounds: FEWEST_ROUNDS, lasts: self.jobs.settings.stall * 2 }
    }

    /// Lets the source come to rest before some of it is captured once more: the first time at once, then later and later.
    ///
    /// # Errors
    /// [`Halt::OutOfTime`] at the deadline.
    pub(crate) async fn pause_before_round(&self) -> Step {
        let rounds = self.run.repeated_plans.saturating_sub(1).min(6);
        let until = match rounds {
            0 => return Ok(()),
            // No pause takes so much of the patience that it alone decides how long that lasts.
            rounds => self.run.advanced_at + (FIRST_PAUSE * (1 << (rounds - 1))).min(self.patience().lasts / 10),
        };
        let clock = &self.jobs.ports.clock;
        let wait = (until - clock.now()).to_std().unwrap_or_default();
        clock.sleep(wait.min(self.deadline.left(clock.now()))).await;
        require_time(self.deadline, clock.now())
    }

    /// Goes on with another round of this phase, in the next slice.
    pub(crate) async fn enter_round(&mut self, phase: BackupPhase, reason: String) -> Step {
        tracing::info!(reason, backup = %self.backup.id, "planning again");
        self.run.repeated_plans += 1;
        self.enter(phase).await?;
        // The pages of the new round need another fence than those of this one: the next slice goes on.
        Err(Halt::OutOfTime)
    }
}
