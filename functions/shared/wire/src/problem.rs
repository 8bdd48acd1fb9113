//! Problem documents: `application/problem+json` (RFC 9457), with stable codes.

use serde::{Deserialize, Serialize};

use crate::Open;

/// A stable code of the wire contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// The request isn't right; `errors` says where.
    ValidationFailed,
    /// The API has nothing there.
    RouteNotFound,
    /// No such instance.
    InstanceNotFound,
    /// No such backup.
    BackupNotFound,
    /// No such restore.
    RestoreNotFound,
    /// Another backup has the name.
    BackupNameTaken,
    /// A backup is in the way.
    BackupInProgress,
    /// A restore is in the way.
    RestoreInProgress,
    /// What is to be used isn't there in the state that this needs.
    BackupNotAvailable,
    /// The instance has backups.
    InstanceHasBackups,
    /// The engine is too old, or unknown.
    EngineVersionUnsupported,
    /// A collection that may not be touched exists.
    CollectionExists,
    /// The idempotency key belongs to another request.
    IdempotencyKeyReused,
    /// What was to be replaced isn't what the caller has seen.
    PreconditionFailed,
    /// Milvus doesn't answer, or not to us.
    MilvusUnreachable,
    /// A bucket doesn't answer, or not to us.
    StorageUnreachable,
    /// Ours to solve; the log has the cause under the request's id.
    Internal,
}

impl Code {
    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::ValidationFailed => 400,
            Self::RouteNotFound | Self::InstanceNotFound | Self::BackupNotFound | Self::RestoreNotFound => 404,
            Self::BackupNameTaken
            | Self::BackupInProgress
            | Self::RestoreInProgress
            | Self::BackupNotAvailable
            | Self::InstanceHasBackups
            | Self::EngineVersionUnsupported
            | Self::CollectionExists
            | Self::IdempotencyKeyReused => 409,
            Self::PreconditionFailed => 412,
            Self::MilvusUnreachable | Self::StorageUnreachable => 502,
            Self::Internal => 500,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::ValidationFailed => "The request is not valid",
            Self::RouteNotFound => "No such route",
            Self::InstanceNotFound => "No such instance",
            Self::BackupNotFound => "No such backup",
            Self::RestoreNotFound => "No such restore",
            Self::BackupNameTaken => "The backup name is taken",
            Self::BackupInProgress => "A backup is in progress",
            Self::RestoreInProgress => "A restore is in progress",
            Self::BackupNotAvailable => "Not available in its present state",
            Self::InstanceHasBackups => "The instance has backups",
            Self::EngineVersionUnsupported => "The engine version is not supported",
            Self::CollectionExists => "The collection exists",
            Self::IdempotencyKeyReused => "The idempotency key was used for another request",
            Self::PreconditionFailed => "The condition doesn't hold",
            Self::MilvusUnreachable => "Milvus can't be used",
            Self::StorageUnreachable => "Object storage can't be used",
            Self::Internal => "Internal error",
        }
    }

    fn urn(self) -> &'static str {
        match self {
            Self::ValidationFailed => "urn:milvault:problem:validation-failed",
            Self::RouteNotFound => "urn:milvault:problem:route-not-found",
            Self::InstanceNotFound => "urn:milvault:problem:instance-not-found",
            Self::BackupNotFound => "urn:milvault:problem:backup-not-found",
            Self::RestoreNotFound => "urn:milvault:problem:restore-not-found",
            Self::BackupNameTaken => "urn:milvault:problem:backup-name-taken",
            Self::BackupInProgress => "urn:milvault:problem:backup-in-progress",
            Self::RestoreInProgress => "urn:milvault:problem:restore-in-progress",
            Self::BackupNotAvailable => "urn:milvault:problem:backup-not-available",
            Self::InstanceHasBackups => "urn:milvault:problem:instance-has-backups",
            Self::EngineVersionUnsupported => "urn:milvault:problem:engine-version-unsupported",
            Self::CollectionExists => "urn:milvault:problem:collection-exists",
            Self::IdempotencyKeyReused => "urn:milvault:problem:idempotency-key-reused",
            Self::PreconditionFailed => "urn:milvault:problem:precondition-failed",
            Self::MilvusUnreachable => "urn:milvault:problem:milvus-unreachable",
            Self::StorageUnreachable => "urn:milvault:problem:storage-unreachable",
            Self::Internal => "urn:milvault:problem:internal",
        }
    }
}

/// The answer to a request that wasn't carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The code as a URN.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The code in words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What is wrong, for people.
    #[serde(default)]
    pub detail: String,
    /// What is wrong, for programs.
    pub code: Open<Code>,
    /// The fields that aren't right; left out where no field is meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// The request under which the log has the cause; left out where the problem says all there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// A field of a request that isn't right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldProblem {
    /// A JSON pointer into the body, or the name of a parameter or a header.
    pub pointer: String,
    /// What is wrong with it, for people.
    #[serde(default)]
    pub detail: String,
}

impl Problem {
    /// The problem of this code.
    pub fn new(code: Code, detail: String) -> Self {
        Self {
            kind: code.urn().to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            detail,
            code: code.into(),
            errors: Vec::new(),
            request_id: None,
        }
    }
}
