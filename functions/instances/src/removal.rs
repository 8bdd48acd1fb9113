//! Removal of an instance's registration.

use milvault_gateway::Answer;
use milvault_jobs::{
    Error, Jobs, retry_on_conflict,
    schedule::{self, SchedulerUpdate},
};
use milvault_model::InstanceId;
use milvault_ports::Write;
use milvault_wire::InstanceView;

use crate::backups::refuse_with_backups;

/// Removes an instance that has no job and no backups, and returns it as it was.
pub(crate) async fn remove(jobs: &Jobs, id: &InstanceId) -> Result<Answer, Error> {
    retry_on_conflict(async || {
        // The order matters: a backup that begins between these reads changes the record, so the commit fails.
        let found = jobs.instance(id).await?;
        jobs.require_idle(id).await?;
        refuse_with_backups(jobs, id).await?;
        let mut writes = vec![Write::RemoveInstance(id.clone(), found.version)];
        let (automatic, update) = schedule::removal_writes(jobs, id).await?;
        writes.extend(automatic);
        jobs.ports.catalog.commit(writes).await?;
        if update == SchedulerUpdate::Confirmed {
            schedule::remove_schedule(jobs, id).await;
        }
        Ok(Answer::ok(InstanceView::new(&found.value)))
    })
    .await
}
