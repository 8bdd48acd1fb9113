//! What waits until a job of an instance is over: an instance has at most one job at a time.

use milvault_model::{AutoRun, AutoRunState, InstanceId, Time};
use milvault_ports::Versioned;

use crate::{Jobs, engine::slice::SliceEnd, events};

/// Once a job is over, begins the automatic backup that waits for its turn, and publishes the instance's events. Whatever
/// fails here is left to the sweep.
pub(crate) async fn after(jobs: &Jobs, instance: &InstanceId, end: SliceEnd) {
    if end == SliceEnd::Ended {
        begin_waiting(jobs, instance).await;
        events::publish_or_leave_to_sweep(jobs, instance).await;
    }
}

/// Has the backups' function begin a run. It alone reaches Milvus.
pub(crate) async fn begin_run(jobs: &Jobs, instance: &InstanceId, scheduled_for: Time) {
    if let Err(error) = jobs.ports.continuation.begin_run(instance, scheduled_for).await {
        tracing::warn!(%error, %instance, "the next sweep begins the run");
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
        Err(error) => tracing::warn!(%error, %instance, "the sweep begins what waits"),
    }
}
