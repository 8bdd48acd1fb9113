//! Work that has to wait for the end of an instance's job, because an instance has at most one job at a time.

use milvault_model::{AutoRun, AutoRunState, InstanceId, Time};
use milvault_ports::Versioned;

use crate::{Jobs, engine::slice::SliceEnd, events};

/// After a job has ended, begins the automatic backup that is waiting and publishes the instance's notices. If that
/// fails, the sweep does it.
pub(crate) async fn after_slice(jobs: &Jobs, instance: &InstanceId, end: SliceEnd) {
    if end == SliceEnd::Ended {
        begin_waiting(jobs, instance).await;
        events::publish_or_leave_to_sweep(jobs, instance).await;
    }
}

/// Asks the backup function to begin a run, because only that function has access to Milvus.
pub(crate) async fn begin_run(jobs: &Jobs, instance: &InstanceId, scheduled_for: Time) {
    if let Err(error) = jobs.ports.continuation.begin_run(instance, scheduled_for).await {
        tracing::warn!(%error, %instance, "the next sweep will begin the run");
    }
}

async fn begin_waiting(jobs: &Jobs, instance: &InstanceId) {
    match jobs.ports.catalog.auto_backup(instance).await {
        Ok(Some(Versioned { value: record, .. })) => {
            if let Some(AutoRun { scheduled_for, state: AutoRunState::Waiting { .. } }) = record.last_run {
                begin_run(jobs, instance, scheduled_for).await;
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, %instance, "the sweep will begin the waiting run"),
    }
}
