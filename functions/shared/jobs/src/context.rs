//! The context of every operation: the ports, the settings, and the lookups that every operation needs.

use std::sync::Arc;

use milvault_model::{Backup, BackupId, Instance, InstanceId, Restore, RestoreId, Time};
use milvault_ports::{
    Catalog, Clock, Connector, Continuation, CopyWorkers, Events, IdSource, Objects, Schedules, Versioned,
};

use crate::{Error, Settings};

/// The ports to everything outside the process.
#[derive(Clone)]
pub struct Ports {
    /// The records.
    pub catalog: Arc<dyn Catalog>,
    /// Object storage.
    pub objects: Arc<dyn Objects>,
    /// Connections to Milvus servers.
    pub milvus: Arc<dyn Connector>,
    /// Starts further invocations.
    pub continuation: Arc<dyn Continuation>,
    /// Other invocations that copy for a backup.
    pub copy_workers: Arc<dyn CopyWorkers>,
    /// The scheduler that starts automatic backups.
    pub schedules: Arc<dyn Schedules>,
    /// Publishes notices to users.
    pub events: Arc<dyn Events>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Makes new ids.
    pub ids: Arc<dyn IdSource>,
}

/// The ports and the settings that the jobs run on.
#[derive(Clone)]
pub struct Jobs {
    /// The ports.
    pub ports: Ports,
    /// The deployment's settings.
    pub settings: Settings,
}

impl Jobs {
    /// Returns the present time.
    pub fn now(&self) -> Time {
        self.ports.clock.now()
    }

    /// Reads an instance's record.
    ///
    /// # Errors
    /// [`Error::InstanceNotFound`]; when the catalog fails.
    pub async fn instance(&self, id: &InstanceId) -> Result<Versioned<Instance>, Error> {
        self.ports.catalog.instance(id).await?.ok_or_else(|| Error::InstanceNotFound(id.clone()))
    }

    /// Reads a backup's record.
    ///
    /// # Errors
    /// [`Error::BackupNotFound`], [`Error::InstanceNotFound`]; when the catalog fails.
    pub async fn backup(&self, instance: &InstanceId, id: &BackupId) -> Result<Versioned<Backup>, Error> {
        if let Some(found) = self.ports.catalog.backup(instance, id).await? {
            return Ok(found);
        }
        self.instance(instance).await?;
        Err(Error::BackupNotFound(instance.clone(), id.to_string()))
    }

    /// Reads a restore's record.
    ///
    /// # Errors
    /// [`Error::RestoreNotFound`], [`Error::InstanceNotFound`]; when the catalog fails.
    pub async fn restore(&self, instance: &InstanceId, id: &RestoreId) -> Result<Versioned<Restore>, Error> {
        if let Some(found) = self.ports.catalog.restore(instance, id).await? {
            return Ok(found);
        }
        self.instance(instance).await?;
        Err(Error::RestoreNotFound(instance.clone(), id.to_string()))
    }

    /// Checks that an instance has no job.
    ///
    /// # Errors
    /// [`Error::BackupInProgress`], [`Error::RestoreInProgress`]; when the catalog fails.
    pub async fn require_idle(&self, instance: &InstanceId) -> Result<(), Error> {
        match self.ports.catalog.job(instance).await? {
            Some(job) => Err(Error::occupied(job)),
            None => Ok(()),
        }
    }
}
