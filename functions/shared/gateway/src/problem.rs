//! The problem documents that callers get for errors.

use milvault_jobs::{Error, FieldError};
use milvault_wire::{Code, FieldProblem, Problem};

/// Returns an error's code. No other place maps errors to codes.
pub fn code_of(error: &Error) -> Code {
    match error {
        Error::Invalid(_) => Code::ValidationFailed,
        Error::RouteNotFound { .. } => Code::RouteNotFound,
        Error::InstanceNotFound(_) => Code::InstanceNotFound,
        Error::BackupNotFound(..) => Code::BackupNotFound,
        Error::RestoreNotFound(..) => Code::RestoreNotFound,
        Error::NameTaken(..) => Code::BackupNameTaken,
        Error::BackupInProgress(_) => Code::BackupInProgress,
        Error::RestoreInProgress(_) => Code::RestoreInProgress,
        // A restore that can't be rolled back or cancelled has no code of its own. It isn't in progress, so the caller
        // must not wait for it. A backup with a missing or changed document isn't available either.
        Error::NotAvailable(..) | Error::RestoreState(_) | Error::Document { .. } => Code::BackupNotAvailable,
        Error::HasBackups(_) => Code::InstanceHasBackups,
        Error::EngineUnsupported(_) => Code::EngineVersionUnsupported,
        Error::CollectionExists(_) => Code::CollectionExists,
        Error::KeyReused => Code::IdempotencyKeyReused,
        Error::PreconditionFailed => Code::PreconditionFailed,
        Error::Milvus(_) => Code::MilvusUnreachable,
        Error::Objects(_) | Error::NoSnapshotBucket(_) => Code::StorageUnreachable,
        Error::Catalog(_)
        | Error::Invocation(_)
        | Error::Schedules(_)
        | Error::Events(_)
        | Error::LeaseLost
        | Error::Inconsistent(_) => Code::Internal,
    }
}

/// Makes the problem document of an error. For an internal error, it has only the request's id, not the cause.
pub(crate) fn problem_of(error: &Error, request_id: &str) -> Problem {
    let code = code_of(error);
    if code == Code::Internal {
        let detail = format!("The request could not be carried out. The log has the cause under request {request_id}.");
        return Problem { request_id: Some(request_id.to_owned()), ..Problem::new(code, detail) };
    }
    let errors = match error {
        Error::Invalid(found) => found.iter().map(field_problem).collect(),
        _ => Vec::new(),
    };
    Problem { errors, ..Problem::new(code, detail(error)) }
}

fn field_problem(found: &FieldError) -> FieldProblem {
    FieldProblem { pointer: found.pointer.clone(), detail: found.detail.clone() }
}

fn detail(error: &Error) -> String {
    match error {
        Error::Invalid(found) => {
            let sentences: Vec<String> = found.iter().map(sentence).collect();
            sentences.join("; ")
        }
        // The error's own message, including messages of Milvus and buckets: the caller registered these, and needs the
        // message to act on it.
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
        serde_json::to_value(problem_of(error, "req-1")).unwrap()
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
    fn an_internal_problem_has_the_request_id_and_not_the_cause() {
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
