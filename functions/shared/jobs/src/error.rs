//! The errors of the jobs, distinguished as far as a caller can act on them.

use milvault_model::{
    BackupId, BackupName, BackupStatus, CollectionName, Failure, FailureCode, InstanceId, JobRef, Region, RestoreId,
};
use milvault_ports::{
    CatalogError, ContinuationError, EventsError, HeldError, MilvusError, ObjectsError, SchedulesError,
};

/// An invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON pointer into the request's body, or the name of a path or query parameter.
    pub pointer: String,
    /// What is wrong with the field, for people.
    pub detail: String,
}

impl FieldError {
    /// Makes a field error.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Why an operation failed. Most variants are answers to the caller, the others are faults of this service: see
/// [`Error::class`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is invalid.
    #[error("the request is not valid")]
    Invalid(Vec<FieldError>),
    /// The API has no such route.
    #[error("there is no {method} {path}")]
    RouteNotFound {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// The instance doesn't exist.
    #[error("there is no instance '{0}'")]
    InstanceNotFound(InstanceId),
    /// The backup doesn't exist. The id is the caller's text, which may be no valid id.
    #[error("instance '{0}' has no backup '{1}'")]
    BackupNotFound(InstanceId, String),
    /// The restore doesn't exist. The id is the caller's text, which may be no valid id.
    #[error("instance '{0}' has no restore '{1}'")]
    RestoreNotFound(InstanceId, String),
    /// Another backup has the name.
    #[error("the name '{0}' is taken by backup {1}")]
    NameTaken(BackupName, BackupId),
    /// A backup of the instance is in progress.
    #[error("backup {0} of the instance is in progress")]
    BackupInProgress(BackupId),
    /// A restore into the instance, or from the backup, is in progress.
    #[error("restore {0} is in progress")]
    RestoreInProgress(RestoreId),
    /// The backup's present state doesn't allow the operation.
    #[error("backup {0} is {1}")]
    NotAvailable(BackupId, BackupStatus),
    /// The restore's present state doesn't allow a rollback or a cancellation.
    #[error("{0}")]
    RestoreState(String),
    /// The instance can't be removed while it has backups.
    #[error("instance '{0}' has backups; delete them first")]
    HasBackups(InstanceId),
    /// The engine's version isn't supported for this operation.
    #[error("{0}")]
    EngineUnsupported(String),
    /// The restore may not touch a collection that exists.
    #[error("collection {0} exists")]
    CollectionExists(CollectionName),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The object to replace doesn't meet the caller's condition.
    #[error("the object to replace does not meet the request's condition: read it again")]
    PreconditionFailed,
    /// Milvus doesn't answer, or refuses the call.
    #[error(transparent)]
    Milvus(#[from] MilvusError),
    /// A bucket doesn't answer, or refuses the call.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Another invocation couldn't be started.
    #[error(transparent)]
    Invocation(#[from] ContinuationError),
    /// The scheduler failed.
    #[error(transparent)]
    Schedules(#[from] SchedulesError),
    /// Notices couldn't be published.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The deployment has no bucket in the backup's region any more.
    #[error("the deployment has no snapshot bucket in {0} any more")]
    NoSnapshotBucket(Region),
    /// A stored document is missing or was changed.
    #[error("stored document {key}: {reason}")]
    Document {
        /// The document's key in the snapshot bucket.
        key: String,
        /// What is wrong with the document.
        reason: String,
    },
    /// This worker no longer holds the instance's lease: another one has taken over.
    #[error("another worker took over")]
    LeaseLost,
    /// Stored records contradict each other, or change too often for the operation to succeed.
    #[error("{0}")]
    Inconsistent(String),
}

/// The class of an error's cause. All decisions about errors depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The request can't be carried out in this form.
    Request,
    /// A job of the instance prevents the operation. The job will end by itself.
    Busy,
    /// Milvus or object storage doesn't answer. A retry may succeed.
    Unavailable,
    /// Milvus or object storage refuses the call.
    Refused,
    /// A stored document is missing or was changed.
    Damaged,
    /// The service itself has failed.
    Fault,
}

impl Error {
    /// Returns the class of the error's cause.
    pub fn class(&self) -> Class {
        match self {
            Self::Invalid(_)
            | Self::RouteNotFound { .. }
            | Self::InstanceNotFound(_)
            | Self::BackupNotFound(..)
            | Self::RestoreNotFound(..)
            | Self::NameTaken(..)
            | Self::RestoreState(_)
            | Self::HasBackups(_)
            | Self::EngineUnsupported(_)
            | Self::CollectionExists(_)
            | Self::KeyReused
            | Self::PreconditionFailed => Class::Request,
            Self::NotAvailable(_, BackupStatus::Pending | BackupStatus::Running)
            | Self::BackupInProgress(_)
            | Self::RestoreInProgress(_) => Class::Busy,
            Self::NotAvailable(..) => Class::Request,
            Self::Milvus(MilvusError::Unreachable(_) | MilvusError::NotReady(_) | MilvusError::RateLimited(_))
            | Self::Objects(ObjectsError::Unavailable(_)) => Class::Unavailable,
            Self::Milvus(_)
            | Self::Objects(ObjectsError::Bucket { .. } | ObjectsError::NoStorage)
            | Self::NoSnapshotBucket(_) => Class::Refused,
            Self::Document { .. } => Class::Damaged,
            Self::Catalog(_)
            | Self::Invocation(_)
            | Self::Schedules(_)
            | Self::Events(_)
            | Self::LeaseLost
            | Self::Inconsistent(_) => Class::Fault,
        }
    }

    /// The failure that a job ends with because of the error; `None` if the error is a fault of this service.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let code = match self {
            Self::BackupInProgress(_) | Self::RestoreInProgress(_) => FailureCode::InstanceBusy,
            Self::Milvus(MilvusError::NoCollection(_)) => FailureCode::CollectionDropped,
            Self::Milvus(_) if self.class() == Class::Unavailable => FailureCode::MilvusUnreachable,
            Self::Milvus(_) => FailureCode::MilvusRefused,
            Self::Objects(_) => FailureCode::StorageUnreachable,
            Self::Document { .. } => FailureCode::SnapshotDamaged,
            Self::EngineUnsupported(_) => FailureCode::EngineVersionUnsupported,
            Self::CollectionExists(_) => FailureCode::CollectionExists,
            Self::NameTaken(..) => FailureCode::NameTaken,
            // The registered storage isn't the one that holds the server's data.
            Self::Invalid(found) => {
                let reasons: Vec<&str> = found.iter().map(|field| field.detail.as_str()).collect();
                return Some(Failure::new(FailureCode::StorageUnreachable, reasons.join("; ")));
            }
            _ => return None,
        };
        Some(Failure::new(code, self.to_string()))
    }

    /// Makes the error for an instance that has this job.
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
