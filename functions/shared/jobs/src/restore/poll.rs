//! Polls the server until an operation completes or makes no progress.

use std::time::Duration;

use milvault_model::{CollectionName, FailureCode, Loaded};
use milvault_ports::Pace;

use super::shared::Shared;
use crate::engine::halt::{Halt, Step, fatal, require_time};

/// How long to wait between two polls.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The state of an operation that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poll {
    /// The operation is complete.
    Done,
    /// The operation isn't complete; the number changes when it makes progress.
    Pending(u64),
}

impl From<Pace> for Poll {
    fn from(pace: Pace) -> Self {
        match pace {
            Pace::Done => Self::Done,
            Pace::At(number) => Self::Pending(number),
        }
    }
}

impl Shared<'_> {
    /// Loads a collection, and waits until it is loaded; messages call it `shown`.
    pub(crate) async fn load(&self, name: &CollectionName, how: &Loaded, shown: &CollectionName) -> Step {
        self.watch(self.milvus.load(name, how).await)?;
        let what = format!("loading {shown}");
        self.wait_until(&what, async || Ok(self.milvus.loading(name).await?.into())).await
    }

    /// Calls `poll` until the operation is done; messages call it `what`. A request to cancel, the deadline or the
    /// stall limit ends the wait.
    pub(crate) async fn wait_until<P>(&self, what: &str, mut poll: P) -> Step
    where
        P: AsyncFnMut() -> Step<Poll>,
    {
        let clock = &self.jobs.ports.clock;
        let mut last = None;
        let mut advanced_at = clock.now();
        for polls in 1_u32.. {
            let state = poll().await?;
            if state == Poll::Done {
                break;
            }
            let now = clock.now();
            if last.replace(state).is_some_and(|last| last != state) {
                advanced_at = now;
                self.mark_advanced();
            }
            require_time(self.deadline, now)?;
            if now - advanced_at > self.jobs.settings.stall {
                let limit = self.jobs.settings.stall.num_seconds();
                return Err(fatal(FailureCode::Stalled, format!("{what}: no progress for {limit} s")));
            }
            // A request to cancel is looked for every other second, unless this wait is part of the cancellation.
            if polls.is_multiple_of(4) && self.restore.cancel_requested_at.is_none() {
                let stored = self.jobs.restore(&self.restore.instance_id, &self.restore.id).await?;
                if stored.value.cancel_requested_at.is_some() {
                    return Err(Halt::CancelRequested);
                }
            }
            clock.sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}
