//! Errors as callers see them: `application/problem+json` (RFC 9457), with stable codes.

use milvault_jobs::{Error, FieldError};
use serde::Serialize;

/// A stable code of the wire contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

    /// The code of an error: the one place where this is decided.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Invalid(_) => Self::ValidationFailed,
            Error::RouteNotFound { .. } => Self::RouteNotFound,
            Error::InstanceNotFound(_) => Self::InstanceNotFound,
            Error::BackupNotFound(..) => Self::BackupNotFound,
            Error::RestoreNotFound(..) => Self::RestoreNotFound,
            Error::NameTaken(..) => Self::BackupNameTaken,
            Error::BackupInProgress(_) => Self::BackupInProgress,
            Error::RestoreInProgress(_) => Self::RestoreInProgress,
            // A restore that can't be rolled back or cancelled has no code of its own. It isn't in progress, so a
            // caller must not be told to wait; what it asks for is not available. Nor is a backup of which a document is
            // gone or changed.
            Error::NotAvailable(..) | Error::RestoreState(_) | Error::Document { .. } => Self::BackupNotAvailable,
            Error::HasBackups(_) => Self::InstanceHasBackups,
            Error::EngineUnsupported(_) => Self::EngineVersionUnsupported,
            Error::CollectionExists(_) => Self::CollectionExists,
            Error::KeyReused => Self::IdempotencyKeyReused,
            Error::PreconditionFailed => Self::PreconditionFailed,
            Error::Milvus(_) => Self::MilvusUnreachable,
            Error::Objects(_) | Error::NoSnapshotBucket(_) => Self::StorageUnreachable,
            Error::Catalog(_) | Error::Invocation(_) | Error::Schedules(_) | Error::Events(_) | Error::LeaseLost => {
                Self::Internal
            }
        }
    }
}

/// Whether something of ours is broken, whatever a caller is told of it: for the log, and for events that nobody waits for.
pub fn is_fault(error: &Error) -> bool {
    Code::of(error) == Code::Internal || matches!(error, Error::Document { .. })
}

/// An error as callers see it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    code: Code,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct FieldProblem {
    pointer: String,
    detail: String,
}

impl Problem {
    /// What a caller is told of an error; of an internal one no more than where to look it up.
    pub fn of(error: &Error, request_id: &str) -> Self {
        let code = Code::of(error);
        let (detail, request_id) = match code {
            Code::Internal => (
                format!("The request couldn't be carried out. The log has the cause under request {request_id}."),
                Some(request_id.to_owned()),
            ),
            _ => (detail(error), None),
        };
        let errors = match error {
            Error::Invalid(found) => found.iter().map(FieldProblem::of).collect(),
            _ => Vec::new(),
        };
        Self { kind: code.urn(), title: code.title(), status: code.status(), detail, code, errors, request_id }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }
}

impl FieldProblem {
    fn of(found: &FieldError) -> Self {
        Self { pointer: found.pointer.clone(), detail: found.detail.clone() }
    }
}

fn detail(error: &Error) -> String {
    match error {
        Error::Invalid(found) => {
            let sentences: Vec<String> = found.iter().map(sentence).collect();
            sentences.join("; ")
        }
        Error::NotAvailable(id, status) => {
            // The status as it is spelled everywhere else.
            let status = serde_json::to_value(status).unwrap_or_default();
            format!("backup {id} is {}", status.as_str().unwrap_or("not available"))
        }
        // The rest are the error's own words, of Milvus and of buckets too: the caller registered those, and can act on
        // nothing less.
        other => other.to_string(),
    }
}

fn sentence(found: &FieldError) -> String {
    if found.pointer.is_empty() { found.detail.clone() } else { format!("{}: {}", found.pointer, found.detail) }
}

#[cfg(test)]
mod tests {
    use milvault_model::{BackupId, BackupStatus};
    use milvault_ports::{CatalogError, MilvusError, ObjectsError};
    use serde_json::{Value, json};

    use super::*;

    fn json_of(error: &Error) -> Value {
        serde_json::to_value(Problem::of(error, "req-1")).unwrap()
    }

    fn backup_id() -> BackupId {
        "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
    }

    #[test]
    fn a_validation_problem_points_at_every_field() {
        let error = Error::Invalid(vec![FieldError::new("/name", "is missing"), FieldError::new("limit", "is high")]);
        assert_eq!(
            json_of(&error),
            json!({
                "type": "urn:milvault:problem:validation-failed",
                "title": "The request is not valid",
                "status": 400,
                "detail": "/name: is missing; limit: is high",
                "code": "VALIDATION_FAILED",
                "errors": [{ "pointer": "/name", "detail": "is missing" }, { "pointer": "limit", "detail": "is high" }],
            })
        );
    }

    #[test]
    fn every_error_has_its_code_and_status() {
        let orders = || "orders".parse().unwrap();
        let cases: Vec<(Error, &str, u16)> = vec![
            (Error::Invalid(vec![]), "VALIDATION_FAILED", 400),
            (Error::RouteNotFound { method: "GET".into(), path: "/".into() }, "ROUTE_NOT_FOUND", 404),
            (Error::InstanceNotFound(orders()), "INSTANCE_NOT_FOUND", 404),
            (Error::BackupNotFound(orders(), "x".into()), "BACKUP_NOT_FOUND", 404),
            (Error::RestoreNotFound(orders(), "x".into()), "RESTORE_NOT_FOUND", 404),
            (Error::NameTaken("n".parse().unwrap(), backup_id()), "BACKUP_NAME_TAKEN", 409),
            (Error::BackupInProgress(backup_id()), "BACKUP_IN_PROGRESS", 409),
            (Error::RestoreInProgress("rs-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()), "RESTORE_IN_PROGRESS", 409),
            (Error::NotAvailable(backup_id(), BackupStatus::Failed), "BACKUP_NOT_AVAILABLE", 409),
            (Error::RestoreState("it failed".into()), "BACKUP_NOT_AVAILABLE", 409),
            (Error::HasBackups(orders()), "INSTANCE_HAS_BACKUPS", 409),
            (Error::EngineUnsupported("upgrade".into()), "ENGINE_VERSION_UNSUPPORTED", 409),
            (Error::CollectionExists("a.b".parse().unwrap()), "COLLECTION_EXISTS", 409),
            (Error::KeyReused, "IDEMPOTENCY_KEY_REUSED", 409),
            (MilvusError::Unreachable("refused".into()).into(), "MILVUS_UNREACHABLE", 502),
            (ObjectsError::Unavailable("503".into()).into(), "STORAGE_UNREACHABLE", 502),
            (Error::NoSnapshotBucket("eu-west-1".parse().unwrap()), "STORAGE_UNREACHABLE", 502),
            (CatalogError::Unavailable("table gone".into()).into(), "INTERNAL", 500),
            (Error::Document { key: "k".into(), reason: "r".into() }, "BACKUP_NOT_AVAILABLE", 409),
            (Error::LeaseLost, "INTERNAL", 500),
        ];
        for (error, code, status) in cases {
            let problem = json_of(&error);
            assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some(code), Some(status.into())));
            let kebab = code.to_lowercase().replace('_', "-");
            assert_eq!(problem["type"], format!("urn:milvault:problem:{kebab}"));
        }
    }

    #[test]
    fn an_internal_problem_gives_the_request_id_and_nothing_of_the_cause() {
        let problem = json_of(&CatalogError::Unavailable("secret-table".into()).into());
        assert_eq!(problem["requestId"], "req-1");
        assert!(!problem.to_string().contains("secret-table"));
    }

    #[test]
    fn a_detail_spells_a_status_as_the_contract_does() {
        let problem = json_of(&Error::NotAvailable(backup_id(), BackupStatus::Deleting));
        assert_eq!(problem["detail"], "backup bk-01ARZ3NDEKTSV4RRFFQ69G5FAV is DELETING");
    }
}
