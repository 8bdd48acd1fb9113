//! An instance's fenced lease: a worker takes it, renews it while it works, and releases it or lets it expire.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::{Either, select};
use milvault_model::{InstanceId, Time};
use milvault_ports::{Deadline, HeldError, Lease, LeasePurpose, Tenure, Write, commit_held};

use super::{
    halt::{Step, require_time},
    watched::Watched,
};
use crate::{Error, Jobs};

/// An instance's lease, and the ports that its holder uses.
pub(crate) struct Held {
    /// The jobs' ports and settings. Object storage is [`Watched`].
    pub(crate) jobs: Jobs,
    pub(crate) lease: Lease,
    pub(crate) objects: Arc<Watched>,
    /// When the worker asked for the lease: the lease's duration starts then.
    taken_at: Time,
}

impl Held {
    /// Takes the instance's lease; returns `None` if another worker holds it.
    pub(super) async fn take(
        jobs: &Jobs,
        instance: &InstanceId,
        purpose: &LeasePurpose,
    ) -> Result<Option<Self>, Error> {
        let now = jobs.now();
        let lease = jobs.ports.catalog.acquire(instance, purpose, now, jobs.settings.lease).await?;
        let (jobs, objects) = Watched::wrap(jobs);
        Ok(lease.map(|lease| Self { jobs, lease, objects, taken_at: now }))
    }

    /// Commits all of the writes, or none if the lease is lost or a condition doesn't hold.
    pub(crate) async fn commit(
        &self,
        tenure: Tenure,
        writes: impl IntoIterator<Item = Write>,
    ) -> Result<(), HeldError> {
        commit_held(self.jobs.ports.catalog.as_ref(), &self.lease, tenure, writes).await
    }

    /// Returns when no failed request can take effect any more: a third of the lease's duration after the last failure,
    /// the same time that [`keep`] leaves to a worker that lost its lease.
    fn drained_at(&self) -> Option<Time> {
        self.objects.failed_at().map(|failed| failed + self.jobs.settings.lease / 3)
    }

    /// Waits until no failed request can take effect any more. Called before a removal that such a request could undo,
    /// and before another worker or attempt does something that it could overwrite.
    ///
    /// # Errors
    /// [`Halt::OutOfTime`] at the deadline.
    pub(crate) async fn drain(&self, deadline: Deadline) -> Step {
        while let Some(drained) = self.drained_at() {
            let now = self.jobs.now();
            if now >= drained {
                break;
            }
            require_time(deadline, now)?;
            let wait = (drained - now).to_std().unwrap_or_default();
            self.jobs.ports.clock.sleep(wait.min(deadline.left(now))).await;
        }
        Ok(())
    }

    /// Releases the lease and keeps the job, which the sweep resumes from `due` on. While a failed request may still
    /// take effect, the lease is left to expire instead.
    pub(super) async fn release(&self, due: Time) -> Result<(), Error> {
        let now = self.jobs.now();
        if self.drained_at().is_some_and(|drained| now < drained) {
            return Ok(());
        }
        Ok(self.jobs.ports.catalog.release(&self.lease, due).await?)
    }
}

/// Runs `work` while renewing the lease, and stops it when the lease is lost.
///
/// The lease counts as lost a third of its duration before it expires: a request that is in flight at that moment has
/// arrived, or never will, before another worker can take the lease.
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
            match run_until(jobs, Deadline::at(safe_until), renewal).await {
                Some(Ok(true)) => safe_until = now + safe,
                Some(Ok(false)) | None => return,
                Some(Err(error)) => {
                    tracing::warn!(%error, instance = %lease.instance_id, "the lease could not be renewed");
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

/// Runs `work` until the deadline. Returns its result, or `None` if the deadline came first; then `work` is dropped.
pub(crate) async fn run_until<T>(jobs: &Jobs, deadline: Deadline, work: impl Future<Output = T>) -> Option<T> {
    let left = deadline.left(jobs.now());
    match select(pin!(work), pin!(jobs.ports.clock.sleep(left))).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(((), _)) => None,
    }
}
