//! Waits for what the server does, until it has done it or gets no further.

use std::time::Duration;

use milvault_model::{CollectionName, FailureCode, Loaded};
use milvault_ports::Pace;

use super::shared::Shared;
use crate::engine::halt::{Halt, Step, fatal, require_time};

/// How often a wait asks whether what it waits for has come.
pub(crate) const POLL: Duration = Duration::from_millis(500);

/// What a wait found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// What it waits for has come.
    Over,
    /// Not yet; the number changes when it gets further.
    Further(u64),
}

impl From<Pace> for Wait {
    fn from(pace: Pace) -> Self {
        match pace {
            Pace::Done => Self::Over,
            Pace::At(number) => Self::Further(number),
        }
    }
}

impl Shared<'_> {
    /// Loads a collection, and waits until it is loaded; `shown` is what people call it.
    pub(crate) async fn load(&self, name: &CollectionName, how: &Loaded, shown: &CollectionName) -> Step {
        self.sure(self.milvus.load(name, how).await)?;
        let what = format!("loading {shown}");
        self.wait_until(&what, async || Ok(self.milvus.loading(name).await?.into())).await
    }

    /// Asks `condition` again and again until it holds; a request to stop, or the stall limit, ends that.
    pub(crate) async fn wait_until<C>(&self, what: &str, mut condition: C) -> Step
    where
        C: AsyncFnMut() -> Step<Wait>,
    {
        let clock = &self.jobs.ports.clock;
        let mut last = None;
        let mut further_at = clock.now();
        for asked in 1_u32.. {
            let wait = condition().await?;
            if wait == Wait::Over {
                break;
            }
            let now = clock.now();
            if last.replace(wait).is_some_and(|last| last != wait) {
                further_at = now;
                self.advanced();
            }
            require_time(self.deadline, now)?;
            if now - further_at > self.jobs.settings.stall {
                let limit = self.jobs.settings.stall.num_seconds();
                return Err(fatal(FailureCode::Stalled, format!("{what}: no progress for {limit} s")));
            }
            // A request to stop is looked for every other second, unless it is what led here.
            if asked.is_multiple_of(4) && self.restore.cancel_requested_at.is_none() {
                let stored = self.jobs.restore(&self.restore.instance_id, &self.restore.id).await?;
                if stored.value.cancel_requested_at.is_some() {
                    return Err(Halt::CancelRequested);
                }
            }
            clock.sleep(POLL).await;
        }
        Ok(())
    }
}
