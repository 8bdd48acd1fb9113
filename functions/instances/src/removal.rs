//! Removing an instance's registration.

use milvault_gateway::{Answer, find};
use milvault_jobs::{
    Error, Jobs,
    auto_backup::{self, Told},
    decided,
};
use milvault_model::InstanceId;
use milvault_ports::Write;
use milvault_wire::InstanceView;

use crate::{refuse_while_occupied, refuse_with_backups};

/// Removes an instance that has no job and no backups, and shows it as it was.
pub(crate) async fn remove(jobs: &Jobs, id: &InstanceId) -> Result<Answer, Error> {
    decided(async || {
        // In this order: a backup that begins between the looks has changed the record by the time of the commit.
        let found = find::instance(jobs, id).await?;
        refuse_while_occupied(jobs, id).await?;
        refuse_with_backups(jobs, id).await?;
        let mut writes = vec![Write::RemoveInstance(id.clone(), found.version)];
        let (automatic, told) = auto_backup::removal(jobs, id).await?;
        writes.extend(automatic);
        jobs.ports.catalog.commit(writes).await?;
        if told == Told::Yes {
            auto_backup::forget(jobs, id).await;
        }
        Ok(Answer::ok(InstanceView::of(&found.value)))
    })
    .await
}
