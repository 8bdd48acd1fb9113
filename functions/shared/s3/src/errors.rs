//! The meaning of S3's error codes.

use aws_sdk_s3::{
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    operation::RequestId,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use milvault_ports::{Bucket, CopyRequest, ObjectsError};

/// The errors that callers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The object doesn't exist.
    NotFound,
    /// `If-Match` or `If-None-Match` didn't hold.
    ConditionFailed,
    /// Another writer wrote the same object at the same moment; it is unknown which of the two wins.
    Contended,
    /// The range begins after the object's end.
    BeyondEnd,
    /// The bucket doesn't exist, is in another region, or can't be accessed.
    Bucket,
    /// Any other error; the client's retries are used up.
    Other,
}

pub(crate) fn answer<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Answer {
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    match (status, code) {
        (_, code) if refuses_bucket(code) => Answer::Bucket,
        // Codes come first, because a long copy answers 200 before it is done, and then only the code tells how it
        // ended.
        (_, "NoSuchKey") => Answer::NotFound,
        (_, "PreconditionFailed") => Answer::ConditionFailed,
        // The upload is gone, not an object.
        (_, "NoSuchUpload") => Answer::Other,
        (Some(403 | 301), _) => Answer::Bucket,
        (Some(404), _) => Answer::NotFound,
        (Some(412), _) => Answer::ConditionFailed,
        (Some(409), _) => Answer::Contended,
        (Some(416), _) => Answer::BeyondEnd,
        _ => Answer::Other,
    }
}

/// Whether a code says that the bucket doesn't exist, is in another region, or can't be accessed.
pub(crate) fn refuses_bucket(code: &str) -> bool {
    matches!(code, "NoSuchBucket" | "PermanentRedirect" | "AccessDenied" | "InvalidBucketName" | "AllAccessDisabled")
}

/// Whether the error says that the bucket has no Object Lock.
pub(crate) fn is_without_lock<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    code == Some("ObjectLockConfigurationNotFoundError")
}

/// Whether the error says that there is no object, or (405) only the marker of a deleted one.
pub(crate) fn is_gone<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let status = error.raw_response().map(|response| response.status().as_u16());
    answer(error) == Answer::NotFound || status == Some(405)
}

/// The error for an answer that the caller doesn't handle itself.
pub(crate) fn plain<E>(answer: Answer, bucket: &Bucket, error: &SdkError<E, HttpResponse>) -> ObjectsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    SdkError<E, HttpResponse>: RequestId,
{
    match answer {
        Answer::Bucket => {
            let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or("not accessible");
            ObjectsError::Bucket { bucket: bucket.name.clone(), reason: code.to_owned() }
        }
        // A listing answers 404 only for its bucket.
        Answer::NotFound => ObjectsError::Bucket { bucket: bucket.name.clone(), reason: "doesn't exist".to_owned() },
        Answer::ConditionFailed | Answer::Contended | Answer::BeyondEnd | Answer::Other => {
            ObjectsError::Unavailable(format!("bucket {}: {}", bucket.name, DisplayErrorContext(error)))
        }
    }
}

/// The error for a copy's answer, which may be about either of the two buckets without naming it.
pub(crate) fn plain_copy<E>(
    answer: Answer,
    request: &CopyRequest<'_>,
    error: &SdkError<E, HttpResponse>,
) -> ObjectsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    SdkError<E, HttpResponse>: RequestId,
{
    match plain(answer, request.to, error) {
        ObjectsError::Bucket { bucket, reason } => {
            ObjectsError::Bucket { bucket, reason: format!("copying from bucket {}: {reason}", request.from.name) }
        }
        other => other,
    }
}
