//! The check for backups, which prevent changes to an instance's record.

use std::pin::pin;

use futures::TryStreamExt;
use milvault_jobs::{Error, Jobs};
use milvault_model::{BackupState, InstanceId};
use milvault_ports::items;

/// Refuses the call while any backup of the instance has stored objects.
pub(crate) async fn refuse_with_backups(jobs: &Jobs, instance: &InstanceId) -> Result<(), Error> {
    let is_over = |state: &BackupState| {
        matches!(state, BackupState::Failed { .. } | BackupState::Cancelled { .. } | BackupState::Deleted { .. })
    };
    let mut backups = pin!(items(200, |page| jobs.ports.catalog.backups(instance, page)));
    while let Some(backup) = backups.try_next().await? {
        if !is_over(&backup.value.state) {
            return Err(Error::HasBackups(instance.clone()));
        }
    }
    Ok(())
}
