//! Answers, and the refusals among them.

use std::collections::HashMap;

use milvus::proto::{
    common::{KeyValuePair, Status},
    milvus::{self as api},
    schema::LongArray,
};
use tonic::{Request, Response};

/// Index parameters as the protocol has them.
pub(crate) fn pairs(params: &[(&str, &str)]) -> Vec<KeyValuePair> {
    params.iter().map(|(key, value)| KeyValuePair { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
}

pub(super) type Answer<T> = Result<Response<T>, tonic::Status>;

#[expect(clippy::unnecessary_wraps, clippy::result_large_err, reason = "the type that the server's trait wants")]
pub(super) fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// A status with both codes, as servers of all these lines answer.
#[expect(deprecated, reason = "servers answer with the old code too")]
pub(super) fn status(code: i32, old: i32, reason: &str) -> Status {
    Status { error_code: old, code, reason: reason.to_owned(), ..Default::default() }
}

pub(super) fn done() -> Option<Status> {
    Some(Status::default())
}

/// The status of a call that a proxy knows but doesn't implement (`WrapErrServiceUnavailable`).
pub(super) fn unimplemented() -> Status {
    status(2, 1, "service unavailable: unimplemented")
}

pub(super) fn not_ready() -> Status {
    status(1, 56, "service not ready: Initializing")
}

pub(super) fn no_collection(name: &str) -> Status {
    status(100, 4, &format!("collection not found[collection={name}]"))
}

/// The reason is that of `internal/proxy/rate_limit_interceptor.go`.
pub(super) fn rate_limited() -> Status {
    status(
        8,
        49,
        "request is rejected by grpc RateLimiter middleware, please retry later: rate limit exceeded[rate=0.1]",
    )
}

/// What isn't listed for the caller can't be described either, in lines that look at that
/// (`WrapErrPrivilegeNotPermitted` in `internal/rootcoord/describe_collection_task.go`, 2.5).
pub(super) fn not_permitted(what: &str, name: &str) -> Status {
    status(1401, 1, &format!("not allowed to access {what}, {what} name: {name}: privilege not permitted"))
}

/// The database of a call: of its message, or of its metadata.
pub(super) fn database<T>(request: &Request<T>, named: &str) -> String {
    let of_metadata = || request.metadata().get("dbname").and_then(|name| name.to_str().ok());
    let name = if named.is_empty() { of_metadata().unwrap_or_default() } else { named };
    if name.is_empty() { "default".to_owned() } else { name.to_owned() }
}

pub(super) fn longs(ids: Vec<i64>, name: &str) -> HashMap<String, LongArray> {
    HashMap::from([(name.to_owned(), LongArray { data: ids })])
}

/// Ends a call with an answer that has only this status.
macro_rules! refuse {
    ($message:ty, $status:expr) => {
        return $crate::service::reply::answer(<$message as $crate::service::reply::Refusal>::from_status($status))
    };
}

/// Evaluates to the state, or ends the call with a refusal.
macro_rules! ready {
    ($service:expr, $message:ty) => {
        match $service.ready().await {
            Ok(state) => state,
            Err(status) => $crate::service::reply::refuse!($message, status),
        }
    };
}

/// Evaluates to a collection, or ends the call with a refusal.
macro_rules! known {
    ($state:expr, $database:expr, $name:expr, $message:ty) => {
        match $state.collection($database, $name) {
            Some(collection) => collection,
            None => $crate::service::reply::refuse!($message, $crate::service::reply::no_collection($name)),
        }
    };
}

/// Ends a call that the caller has no privilege for.
macro_rules! permit {
    ($state:expr, $request:expr, $database:expr, $object:literal, $name:expr, $privilege:literal) => {
        $state.users.permit(
            $state.line,
            $request.metadata(),
            &$crate::users::Asked { database: $database, object: $object, name: $name, privilege: $privilege },
        )?
    };
}

pub(super) use {known, permit, ready, refuse};

/// An answer that is a refusal.
pub(super) trait Refusal {
    fn from_status(status: Status) -> Self;
}

macro_rules! refusals {
    ($($message:ty),*) => {
        $(impl Refusal for $message {
            fn from_status(status: Status) -> Self {
                Self { status: Some(status), ..Default::default() }
            }
        })*
    };
}

refusals!(
    api::AllocTimestampResponse,
    api::ListDatabasesResponse,
    api::ShowCollectionsResponse,
    api::DescribeCollectionResponse,
    api::ListAliasesResponse,
    api::DescribeAliasResponse,
    api::ShowPartitionsResponse,
    api::DescribeIndexResponse,
    api::GetLoadStateResponse,
    api::GetReplicasResponse,
    api::FlushResponse,
    api::GetFlushStateResponse,
    api::GetPersistentSegmentInfoResponse,
    api::QueryResults,
    api::BackupRbacMetaResponse,
    api::ImportResponse,
    api::ListImportTasksResponse,
    api::GetImportStateResponse,
    api::DescribeDatabaseResponse,
    api::GetLoadingProgressResponse,
    api::SelectUserResponse,
    api::SelectGrantResponse,
    api::SelectRoleResponse
);

impl Refusal for Status {
    fn from_status(status: Status) -> Self {
        status
    }
}
