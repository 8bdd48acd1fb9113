//! What S3's refusals mean.

use aws_sdk_s3::{
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    operation::RequestId,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use milvault_ports::{Bucket, CopyRequest, ObjectsError};

/// The answers that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// No such object.
    NotFound,
    /// `If-Match` or `If-None-Match` didn't hold.
    ConditionFailed,
    /// Someone else was writing the same object at the same moment; who of the two wins isn't known.
    Contended,
    /// A range that begins behind the object's end.
    BeyondEnd,
    /// The bucket doesn't exist, is elsewhere, or isn't ours to use.
    Bucket,
    /// Anything else; retries are behind it.
    Other,
}

pub(crate) fn answer<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Answer {
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    match (status, code) {
        (_, code) if refuses_bucket(code) => Answer::Bucket,
        // By code first: long copies answer 200 before they are done, and then have only the code to say how it went.
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

/// Whether a code says that the bucket doesn't exist, is elsewhere, or isn't ours to use.
pub(crate) fn refuses_bucket(code: &str) -> bool {
    matches!(code, "NoSuchBucket" | "PermanentRedirect" | "AccessDenied" | "InvalidBucketName" | "AllAccessDisabled")
}

/// Whether the answer is that the bucket locks nothing.
pub(crate) fn is_without_lock<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    code == Some("ObjectLockConfigurationNotFoundError")
}

/// Whether the answer is that there is no object, or (405) only the marker of a deleted one.
pub(crate) fn is_gone<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let status = error.raw_response().map(|response| response.status().as_u16());
    answer(error) == Answer::NotFound || status == Some(405)
}

/// The error for an answer that has no meaning of its own to the caller.
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
        // A listing answers 404 for its bucket only.
        Answer::NotFound => ObjectsError::Bucket { bucket: bucket.name.clone(), reason: "doesn't exist".to_owned() },
        Answer::ConditionFailed | Answer::Contended | Answer::BeyondEnd | Answer::Other => {
            ObjectsError::Unavailable(format!("bucket {}: {}", bucket.name, DisplayErrorContext(error)))
        }
    }
}

/// The same for a copy, whose answers are about either of its two buckets without saying which.
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
