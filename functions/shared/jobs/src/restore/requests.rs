//! The requests about an existing restore: to cancel it, or to roll it back.

use milvault_model::{
    InstanceId, JobRef, Previous, Restore, RestoreId, RestorePhase, RestoreRun, RestoreState, RollbackStep,
};
use milvault_ports::{CatalogError, Expect, Versioned, Write};

use crate::{Error, IdempotencyKey, Jobs, engine::slice};

/// Cancels a restore: records the request and starts a worker. A restore that has begun its swap can't be cancelled.
///
/// # Errors
/// [`Error::RestoreState`] if the restore is over or swapping.
pub async fn cancel(jobs: &Jobs, instance: &InstanceId, restore: &RestoreId) -> Result<Restore, Error> {
    loop {
        let Versioned { value: mut record, version } = jobs.restore(instance, restore).await?;
        let stoppable = match &record.state {
            RestoreState::Pending => true,
            RestoreState::Running(run) => run.phase.can_be_cancelled(),
            _ => false,
        };
        if record.cancel_requested_at.is_none() {
            if !stoppable {
                return Err(Error::RestoreState(match &record.state {
                    RestoreState::Running(_) => {
                        "the restore has begun to swap its collections in and will be over in a moment; then it can be \
                         rolled back"
                    }
                    _ => "the restore is over; a completed restore can be rolled back",
                }
                .to_owned()));
            }
            record.cancel_requested_at = Some(jobs.now());
            let put = Write::Restore(Box::new(record.clone()), Expect::Version(version));
            match jobs.ports.catalog.commit(vec![put]).await {
                Ok(()) => {}
                Err(CatalogError::Conflict(_)) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        let job = JobRef::Restore { instance_id: instance.clone(), restore_id: restore.clone() };
        // If its worker is alive, this invocation finds the lease taken and ends at once.
        if let Err(error) = jobs.ports.continuation.resume(&job).await {
            tracing::warn!(%error, %restore, "the sweep will resume the cancelled job");
        }
        return Ok(record);
    }
}

/// Makes a completed restore the instance's job again, to put the previous collections back. Does not start it. A
/// repeated request returns the restore's current record, even if the restore couldn't be rolled back.
///
/// # Errors
/// [`Error::RestoreState`] if there is nothing to roll back to; the in-progress errors while a job runs;
/// [`Error::InstanceNotFound`] if the instance has been removed.
pub async fn rollback(
    jobs: &Jobs,
    instance: &InstanceId,
    restore: &RestoreId,
    idempotency: Option<&IdempotencyKey>,
) -> Result<Restore, Error> {
    let catalog = jobs.ports.catalog.as_ref();
    let scope = format!("rollback#{instance}");
    loop {
        let Versioned { value: mut record, version } = jobs.restore(instance, restore).await?;
        if let Some(key) = idempotency
            && key.earlier(catalog, &scope).await?.is_some()
        {
            return Ok(record);
        }
        let registered = jobs.instance(instance).await?;
        let now = jobs.now();
        let (started_at, completed_at, until) = match &record.state {
            // The rollback was requested before.
            RestoreState::Running(RestoreRun { phase: RestorePhase::Rollback { .. }, .. })
            | RestoreState::RolledBack { .. } => {
                if let Some(key) = idempotency {
                    key.remember(jobs, scope, restore.to_string()).await?;
                }
                return Ok(record);
            }
            RestoreState::Pending | RestoreState::Running(_) => return Err(Error::RestoreInProgress(restore.clone())),
            RestoreState::Completed { started_at, completed_at, previous: Previous::Kept { until }, .. }
                if *until > now =>
            {
                (*started_at, *completed_at, *until)
            }
            RestoreState::Completed { .. } => {
                return Err(Error::RestoreState("the previous collections are no longer kept".to_owned()));
            }
            RestoreState::Failed { .. } | RestoreState::Cancelled { .. } => {
                return Err(Error::RestoreState(
                    "the restore did not complete: the live collections are unchanged".to_owned(),
                ));
            }
        };
        let mut run =
            RestoreRun::resume(now, RestorePhase::Rollback { completed_at, until, step: RollbackStep::Prepare });
        run.started_at = started_at;
        record.state = RestoreState::Running(run);
        let job = JobRef::Restore { instance_id: instance.clone(), restore_id: restore.clone() };
        let mut writes = vec![
            Write::ClaimJob(job.clone(), now + slice::HANDOVER_TIMEOUT),
            Write::Restore(Box::new(record.clone()), Expect::Version(version)),
            // Conflicts if the instance is being removed or moved at this moment.
            Write::Instance(Box::new(registered.value), Expect::Version(registered.version)),
        ];
        if let Some(key) = idempotency {
            writes.push(Write::Idempotency(key.record(scope.clone(), restore.to_string(), now)));
        }
        match catalog.commit(writes).await {
            Ok(()) => return Ok(record),
            Err(CatalogError::Conflict(_)) => match catalog.job(instance).await? {
                // If the job is this restore, a concurrent request was faster: the next turn returns its record.
                Some(other) if other != job => return Err(Error::occupied(other)),
                _ => {}
            },
            Err(error) => return Err(error.into()),
        }
    }
}
