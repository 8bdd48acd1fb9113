//! What can go wrong, as far as a caller can act on it.

use milvault_model::{
    BackupId, BackupName, BackupStatus, CollectionName, Failure, FailureCode, InstanceId, JobRef, Region, RestoreId,
};
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
    #[error("backup {0} is {1}")]
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
    /// What is stored isn't as it must be, or changes too often to be worked with.
    #[error("{0}")]
    Inconsistent(String),
}

/// What an error says about its cause. All decisions about errors are made by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The request can't be carried out as it is.
    Request,
    /// A job of the instance is in the way. It ends without anyone's doing.
    Busy,
    /// Milvus or object storage doesn't answer. It may do so later.
    Unavailable,
    /// Milvus or object storage refuses.
    Refused,
    /// A stored document is missing or was changed.
    Damaged,
    /// The service itself has failed.
    Fault,
}

impl Error {
    /// What the error says about its cause.
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

    /// The failure of a backup or a restore that the error is; `None` if it says nothing about it.
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
            // The storage isn't where the server keeps its data.
            Self::Invalid(found) => {
                let reasons: Vec<&str> = found.iter().map(|field| field.detail.as_str()).collect();
                return Some(Failure::new(FailureCode::StorageUnreachable, reasons.join("; ")));
            }
            _ => return None,
        };
        Some(Failure::new(code, self.to_string()))
    }

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
