//! Problem documents: `application/problem+json` (RFC 9457), with stable codes.

use serde::{Deserialize, Serialize};

use crate::Open;

/// A stable code of the wire contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// The request is invalid; `errors` names the fields.
    ValidationFailed,
    /// The API has no such route.
    RouteNotFound,
    /// The instance doesn't exist.
    InstanceNotFound,
    /// The backup doesn't exist.
    BackupNotFound,
    /// The restore doesn't exist.
    RestoreNotFound,
    /// Another backup has the name.
    BackupNameTaken,
    /// A running backup prevents the operation.
    BackupInProgress,
    /// A running restore prevents the operation.
    RestoreInProgress,
    /// The present state of a backup or restore doesn't allow the operation.
    BackupNotAvailable,
    /// The instance has backups.
    InstanceHasBackups,
    /// The engine's version is too old or unknown.
    EngineVersionUnsupported,
    /// The restore may not touch a collection that exists.
    CollectionExists,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The object to replace doesn't meet the caller's condition.
    PreconditionFailed,
    /// Milvus doesn't answer, or refuses the call.
    MilvusUnreachable,
    /// A bucket doesn't answer, or refuses the call.
    StorageUnreachable,
    /// A fault of this service. The log has the cause under the request's id.
    Internal,
}

impl Code {
    /// Returns the HTTP status of the code.
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
            Self::PreconditionFailed => "The condition is not met",
            Self::MilvusUnreachable => "Milvus cannot be used",
            Self::StorageUnreachable => "Object storage cannot be used",
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

/// The answer to a request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The code as a URN.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// A title for the code.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What is wrong, for people.
    #[serde(default)]
    pub detail: String,
    /// The stable code, for programs.
    pub code: Open<Code>,
    /// The invalid fields; omitted if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// The id under which the log has the cause; omitted unless the error is internal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// An invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldProblem {
    /// A JSON pointer into the body, or the name of a parameter or a header.
    pub pointer: String,
    /// What is wrong with the field, for people.
    #[serde(default)]
    pub detail: String,
}

impl Problem {
    /// Makes a problem of this code.
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
