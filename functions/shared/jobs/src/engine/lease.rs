//! An instance's fenced lease: taken by a worker, renewed while it works, and given up or left to run out.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::{Either, select};
use milvault_model::{InstanceId, Time};
use milvault_ports::{Deadline, HeldError, Lease, LeasePurpose, Tenure, Write, commit_held};

use super::{
    halt::{Step, require_time},
    watched::Watched,
};
use crate::{Error, Jobs};

/// The instance's lease, with the world that a worker has under it.
pub(crate) struct Held {
    /// Its object storage is watched.
    pub(crate) jobs: Jobs,
    pub(crate) lease: Lease,
    pub(crate) objects: Arc<Watched>,
    /// When it was asked for: its time runs from then.
    taken_at: Time,
}

impl Held {
    /// Takes the instance's lease, if it is free.
    pub(super) async fn take(
        jobs: &Jobs,
        instance: &InstanceId,
        purpose: &LeasePurpose,
    ) -> Result<Option<Self>, Error> {
        let now = jobs.now();
        let lease = jobs.ports.catalog.acquire(instance, purpose, now, jobs.settings.lease).await?;
        let (jobs, objects) = Watched::over(jobs);
        Ok(lease.map(|lease| Self { jobs, lease, objects, taken_at: now }))
    }

    /// Commits all of the writes, or none: none without the lease.
    pub(crate) async fn commit(
        &self,
        tenure: Tenure,
        writes: impl IntoIterator<Item = Write>,
    ) -> Result<(), HeldError> {
        commit_held(self.jobs.ports.catalog.as_ref(), &self.lease, tenure, writes).await
    }

    /// When every request has arrived, or never will: as for a worker that is gone, see [`keep`].
    fn settled_at(&self) -> Option<Time> {
        self.objects.failed_at().map(|failed| failed + self.jobs.settings.lease / 3)
    }

    /// Waits until nothing of what failed can take effect any more: before things are removed that it could bring back,
    /// and before others do what it could undo.
    ///
    /// # Errors
    /// [`Halt::OutOfTime`] at the deadline.
    pub(crate) async fn settle(&self, deadline: Deadline) -> Step {
        while let Some(settled) = self.settled_at() {
            let now = self.jobs.now();
            if now >= settled {
                break;
            }
            require_time(deadline, now)?;
            let wait = (settled - now).to_std().unwrap_or_default();
            self.jobs.ports.clock.sleep(wait.min(deadline.left(now))).await;
        }
        Ok(())
    }

    /// Gives the lease up, keeping the job, which the sweep drives from `due` on. With something unsettled it is left to
    /// run out instead.
    pub(super) async fn release(&self, due: Time) -> Result<(), Error> {
        let now = self.jobs.now();
        if self.settled_at().is_some_and(|settled| now < settled) {
            return Ok(());
        }
        Ok(self.jobs.ports.catalog.release(&self.lease, due).await?)
    }
}

/// Does `work` while renewing the lease; stops it when the lease is lost.
///
/// It counts as lost a third of its time before it ends: a request that is on its way by then has arrived, or never
/// will, before another worker can take the lease.
pub(super) async fn keep<T>(held: &Held, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let Held { jobs, lease, taken_at, .. } = held;
    let renewing = async {
        let third = (jobs.settings.lease / 3).to_std().unwrap_or(Duration::from_secs(1));
        let safe = jobs.settings.lease * 2 / 3;
        let mut safe_until = *taken_at + safe;
        loop {
            jobs.ports.clock.sleep(third).await;
            let now = jobs.now();
            let renewal = jobs.ports.catalog.renew(lease, now + jobs.settings.lease);
            match before(jobs, Deadline::at(safe_until), renewal).await {
                Some(Ok(true)) => safe_until = now + safe,
                Some(Ok(false)) | None => return,
                Some(Err(error)) => {
                    tracing::warn!(%error, instance = %lease.instance_id, "the lease couldn't be renewed");
                    if jobs.now() >= safe_until {
                        return;
                    }
                }
            }
        }
    };
    match select(pin!(work), pin!(renewing)).await {
        Either::Left((result, _)) => result,
        Either::Right(((), _)) => Err(Error::LeaseLost),
    }
}

/// What `work` gives if it is done before the deadline; `None` otherwise, and then it isn't done any further.
pub(crate) async fn before<T>(jobs: &Jobs, deadline: Deadline, work: impl Future<Output = T>) -> Option<T> {
    let left = deadline.left(jobs.now());
    match select(pin!(work), pin!(jobs.ports.clock.sleep(left))).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(((), _)) => None,
    }
}
