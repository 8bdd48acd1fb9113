//! What can go wrong, as far as a caller can act on it.

use milvault_model::{BackupId, BackupName, BackupStatus, CollectionName, InstanceId, JobRef, Region, RestoreId};
use milvault_ports::{
    CatalogError, ContinuationError, EventsError, HeldError, MilvusError, ObjectsError, SchedulesError,
};

/// A field of a request that isn't right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON pointer into the request's body, or the name of a path or query parameter.
    pub pointer: String,
    /// What is wrong with it, for people.
    pub detail: String,
}

impl FieldError {
    /// A field error.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Why an operation wasn't done. Most variants are an answer to the caller; which, and which are faults of ours, is for
/// whoever answers to say.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request isn't right.
    #[error("the request is not valid")]
    Invalid(Vec<FieldError>),
    /// The API has nothing there.
    #[error("there is no {method} {path}")]
    RouteNotFound {
        /// The request's method.
        method: String,
        /// Its path.
        path: String,
    },
    /// No such instance.
    #[error("there is no instance '{0}'")]
    InstanceNotFound(InstanceId),
    /// No such backup; the caller's words, because what isn't an id can't be found either.
    #[error("instance '{0}' has no backup '{1}'")]
    BackupNotFound(InstanceId, String),
    /// No such restore, likewise.
    #[error("instance '{0}' has no restore '{1}'")]
    RestoreNotFound(InstanceId, String),
    /// Another backup has the name.
    #[error("the name '{0}' is taken by backup {1}")]
    NameTaken(BackupName, BackupId),
    /// The instance is being backed up.
    #[error("backup {0} of the instance is in progress")]
    BackupInProgress(BackupId),
    /// Data is being restored into the instance, or from the backup.
    #[error("restore {0} is in progress")]
    RestoreInProgress(RestoreId),
    /// The backup can't be used like this in the state it is in.
    #[error("backup {0} is {1:?}")]
    NotAvailable(BackupId, BackupStatus),
    /// The restore can't be rolled back or cancelled in the state it is in.
    #[error("{0}")]
    RestoreState(String),
    /// An instance can't be removed while it has backups.
    #[error("instance '{0}' has backups; delete them first")]
    HasBackups(InstanceId),
    /// The engine gate refused.
    #[error("{0}")]
    EngineUnsupported(String),
    /// A collection that the restore may not touch exists.
    #[error("collection {0} exists")]
    CollectionExists(CollectionName),
    /// The idempotency key came with another request before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// What the caller wanted to replace isn't what it has seen.
    #[error("what is to be replaced isn't what the request's condition says: read it again")]
    PreconditionFailed,
    /// Milvus doesn't answer, or not to us.
    #[error(transparent)]
    Milvus(#[from] MilvusError),
    /// A bucket doesn't answer, or not to us.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Another invocation couldn't be had.
    #[error(transparent)]
    Invocation(#[from] ContinuationError),
    /// The scheduler failed.
    #[error(transparent)]
    Schedules(#[from] SchedulesError),
    /// Users couldn't be told.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The deployment has no bucket where the backup is.
    #[error("the deployment has no snapshot bucket in {0} any more")]
    NoSnapshotBucket(Region),
    /// A stored document is missing or isn't what it was.
    #[error("stored document {key}: {reason}")]
    Document {
        /// Its key in the snapshot bucket.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This worker no longer has the instance's lease: another one goes on.
    #[error("another worker took over")]
    LeaseLost,
}

impl Error {
    /// The refusal that a job in the instance's way is.
    pub fn occupied(job: JobRef) -> Self {
        match job {
            JobRef::Backup { backup_id, .. } => Self::BackupInProgress(backup_id),
            JobRef::Restore { restore_id, .. } => Self::RestoreInProgress(restore_id),
        }
    }
}

impl From<HeldError> for Error {
    fn from(error: HeldError) -> Self {
        match error {
            HeldError::LeaseLost => Self::LeaseLost,
            HeldError::Conflict(place) => CatalogError::Conflict(place).into(),
            HeldError::Unavailable(reason) => CatalogError::Unavailable(reason).into(),
        }
    }
}
