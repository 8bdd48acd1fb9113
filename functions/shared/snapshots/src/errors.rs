//! What S3's refusals mean.

use aws_sdk_s3::{
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    operation::RequestId,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use milvault_jobs::ports::{Bucket, ObjectsError};

/// The answers that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// No such object.
    NotFound,
    /// `If-Match` or `If-None-Match` didn't hold.
    ConditionFailed,
    /// The bucket doesn't exist, is elsewhere, or isn't ours to use.
    Bucket,
    /// Anything else; retries are behind it.
    Other,
}

pub(crate) fn answer<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Answer {
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    match (status, code) {
        (_, "NoSuchBucket" | "PermanentRedirect" | "AccessDenied" | "InvalidBucketName" | "AllAccessDisabled") => {
            Answer::Bucket
        }
        (Some(403 | 301), _) => Answer::Bucket,
        (Some(404), _) => Answer::NotFound,
        (Some(412 | 409), _) => Answer::ConditionFailed,
        _ => Answer::Other,
    }
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
        Answer::ConditionFailed | Answer::Other => {
            ObjectsError::Unavailable(format!("bucket {}: {}", bucket.name, DisplayErrorContext(error)))
        }
    }
}
