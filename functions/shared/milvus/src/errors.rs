//! The meaning of the server's error codes.
//!
//! A status has two codes: `error_code`, from before 2.3, and `code`, since 2.3. The numbers are those of Milvus's
//! `pkg/util/merr/errors.go` and of its `common.proto`.

use milvault_model::CollectionName;
use milvault_ports::MilvusError;
use milvus::proto::common::Status;

/// Temporary states of the whole server: not ready, unavailable, too many requests, no quota for writes now.
const UNAVAILABLE: [i32; 4] = [1, 2, 4, 9];

/// Whether a code is a temporary state of one collection.
fn is_temporary(code: i32) -> bool {
    match code {
        // A collection, a partition or a replica isn't loaded (again) yet, as for seconds after a restart.
        101 | 103 | 201 | 202 | 400 | 401
        // Channels, segments and nodes that are moving from one node to another.
        | 500..=503 | 600..=602 | 901..=904 => true,
        _ => false,
    }
}

/// The old code of a temporary state: not ready.
const PASSING_OLD: i32 = 56;
const RATE_LIMIT: i32 = 8;
const RATE_LIMIT_OLD: i32 = 49;
/// The messages of a server that has as many import jobs as it accepts: `ImportV2` in `internal/datacoord/services.go`
/// (2.4 and later, code 2100), `importManager.sendOutTasks` in `internal/rootcoord/import_manager.go` (2.3). No code
/// distinguishes them from other errors.
const TOO_MANY_IMPORTS: [&str; 2] = ["number of jobs has reached the limit", "import task queue max size"];
/// Servers put this text into reasons under other codes too (milvus-backup relies on it:
/// `internal/client/milvus/grpc.go`).
const RATE_LIMIT_REASON: &str = "rate limit exceeded";
pub(crate) const SEGMENT_NOT_FOUND: i32 = 600;
const COLLECTION_NOT_FOUND: i32 = 100;
const COLLECTION_NOT_FOUND_OLD: i32 = 4;
/// `ErrDatabaseNotFound`: the database's collections were removed before it.
pub(crate) const DATABASE_NOT_FOUND: i32 = 800;
/// `ErrAliasNotFound`, `ErrCollectionIDOfAliasNotFound`, and a missing collection or database.
pub(crate) const NO_ALIAS: [i32; 4] = [1600, 1603, COLLECTION_NOT_FOUND, DATABASE_NOT_FOUND];
/// `ErrPrivilegeNotAuthenticated`, and `ErrNeedAuthenticate` of the REST API.
const NEEDS_AUTHENTICATION: [i32; 2] = [1400, 1800];
/// `ErrPrivilegeNotPermitted`, and its old code: the user is known, but isn't allowed to make this call.
const NOT_PERMITTED: i32 = 1401;
const NOT_PERMITTED_OLD: i32 = 3;

/// The error of a call without an answer.
pub(crate) fn from_grpc_status(status: &tonic::Status) -> MilvusError {
    use tonic::Code;
    let message = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated => MilvusError::Unauthenticated(message),
        // From `PrivilegeInterceptor` in `internal/proxy/privilege_interceptor.go`; it names the privilege and the
        // user.
        Code::PermissionDenied => MilvusError::Forbidden(message),
        Code::InvalidArgument | Code::Unimplemented | Code::FailedPrecondition | Code::OutOfRange => {
            MilvusError::Refused(message)
        }
        Code::ResourceExhausted => MilvusError::RateLimited(message),
        code => MilvusError::Unreachable(format!("{code:?}: {message}")),
    }
}

/// Checks that the status in an answer reports success.
pub(crate) fn check(status: Option<&Status>, name: Option<&CollectionName>) -> Result<(), MilvusError> {
    // An answer without a status reports no error.
    let Some(status) = status else { return Ok(()) };
    #[expect(deprecated, reason = "servers of the 2.3 line answer some calls with the old code only")]
    let old = status.error_code;
    if status.code == 0 && old == 0 {
        return Ok(());
    }
    let reason = format!("{} (code {}, {old})", status.reason, status.code);
    let missing = [COLLECTION_NOT_FOUND, DATABASE_NOT_FOUND].contains(&status.code)
        || old == COLLECTION_NOT_FOUND_OLD
        || status.reason.contains("can't find collection")
        || status.reason.contains("collection not found");
    Err(match name {
        Some(name) if missing => MilvusError::NoCollection(name.clone()),
        _ if old == RATE_LIMIT_OLD => MilvusError::RateLimited(reason),
        _ if old == NOT_PERMITTED_OLD => MilvusError::Forbidden(reason),
        _ if old == PASSING_OLD => MilvusError::Unreachable(reason),
        _ => by_code(status.code, reason),
    })
}

/// The meaning of a code since 2.3, in answers over REST too.
pub(crate) fn by_code(code: i32, reason: String) -> MilvusError {
    match code {
        RATE_LIMIT => MilvusError::RateLimited(reason),
        _ if reason.contains(RATE_LIMIT_REASON) => MilvusError::RateLimited(reason),
        _ if TOO_MANY_IMPORTS.iter().any(|words| reason.contains(words)) => MilvusError::RateLimited(reason),
        NOT_PERMITTED => MilvusError::Forbidden(reason),
        code if NEEDS_AUTHENTICATION.contains(&code) => MilvusError::Unauthenticated(reason),
        code if UNAVAILABLE.contains(&code) => MilvusError::Unreachable(reason),
        code if is_temporary(code) => MilvusError::NotReady(reason),
        _ => MilvusError::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(deprecated, reason = "older servers answer with the old code")]
    fn refusal(code: i32, old: i32, reason: &str) -> MilvusError {
        let status = Status { error_code: old, code, reason: reason.to_owned(), ..Default::default() };
        check(Some(&status), Some(&CollectionName::new("default", "items"))).unwrap_err()
    }

    #[test]
    fn what_passes_what_is_limited_and_what_is_not_allowed_are_told_apart_by_either_code() {
        for limit in [
            refusal(8, 0, "rate"),
            refusal(0, 49, "rate"),
            refusal(65535, 1, "rate limit exceeded[rate=0.1]"),
            refusal(2100, 1, "The number of jobs has reached the limit, please try again later"),
            refusal(65535, 1, "import task queue max size is 32, currently there are 32 tasks is pending"),
            from_grpc_status(&tonic::Status::resource_exhausted("rate")),
        ] {
            assert!(matches!(limit, MilvusError::RateLimited(_)), "{limit:?}");
        }
        for passing in [refusal(1, 0, "not ready"), refusal(0, 56, "not ready")] {
            assert!(matches!(passing, MilvusError::Unreachable(_)), "{passing:?}");
        }
        for passing in [refusal(600, 1, "segment not found"), refusal(101, 0, "collection not loaded")] {
            assert!(matches!(passing, MilvusError::NotReady(_)), "{passing:?}");
        }
        for forbidden in [
            refusal(1401, 1, "privilege not permitted"),
            refusal(0, 3, "privilege not permitted"),
            from_grpc_status(&tonic::Status::permission_denied("PrivilegeFlush: permission deny to ann")),
        ] {
            assert!(matches!(forbidden, MilvusError::Forbidden(_)), "{forbidden:?}");
        }
        for unknown in
            [refusal(1400, 1, "not authenticated"), from_grpc_status(&tonic::Status::unauthenticated("auth"))]
        {
            assert!(matches!(unknown, MilvusError::Unauthenticated(_)), "{unknown:?}");
        }
        assert!(matches!(refusal(100, 4, "collection not found"), MilvusError::NoCollection(_)));
        assert!(matches!(refusal(1100, 1, "invalid parameter"), MilvusError::Refused(_)));
    }
}
