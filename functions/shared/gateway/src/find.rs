//! Records by id, or the error that says which one isn't there.

use milvault_jobs::{Error, Jobs};
use milvault_model::{Backup, BackupId, Instance, InstanceId, Restore, RestoreId};
use milvault_ports::Versioned;

/// An instance.
///
/// # Errors
/// [`Error::InstanceNotFound`].
pub async fn instance(jobs: &Jobs, id: &InstanceId) -> Result<Versioned<Instance>, Error> {
    jobs.ports.catalog.instance(id).await?.ok_or_else(|| Error::InstanceNotFound(id.clone()))
}

/// A backup.
///
/// # Errors
/// [`Error::InstanceNotFound`], [`Error::BackupNotFound`].
pub async fn backup(jobs: &Jobs, instance: &InstanceId, id: &BackupId) -> Result<Backup, Error> {
    if let Some(found) = jobs.ports.catalog.backup(instance, id).await? {
        return Ok(found.value);
    }
    self::instance(jobs, instance).await?;
    Err(Error::BackupNotFound(instance.clone(), id.to_string()))
}

/// A restore.
///
/// # Errors
/// [`Error::InstanceNotFound`], [`Error::RestoreNotFound`].
pub async fn restore(jobs: &Jobs, instance: &InstanceId, id: &RestoreId) -> Result<Restore, Error> {
    if let Some(found) = jobs.ports.catalog.restore(instance, id).await? {
        return Ok(found.value);
    }
    self::instance(jobs, instance).await?;
    Err(Error::RestoreNotFound(instance.clone(), id.to_string()))
}
