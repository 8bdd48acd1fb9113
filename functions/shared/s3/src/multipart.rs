//! Copies of large objects in parts: several parts at once, each of which takes S3 a few seconds.

use std::ops::Range;

use aws_sdk_s3::{
    Client,
    error::SdkError,
    operation::upload_part_copy::UploadPartCopyError,
    types::{CompletedMultipartUpload, CompletedPart},
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use futures::{StreamExt, stream::FuturesUnordered};
use milvault_ports::{CopyOutcome, CopyRequest, ObjectsError};

use crate::{
    S3Objects, SOURCE_ETAG, STORED_BY, copy_source,
    errors::{Answer, answer, plain_copy},
    quoted, unquoted,
};

impl S3Objects {
    pub(crate) async fn copy_in_parts(&self, request: &CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError> {
        if let Some(outcome) = self.destination(request).await? {
            return Ok(outcome);
        }
        let client = self.client(request.to);
        let created = client
            .create_multipart_upload()
            .bucket(&request.to.name)
            .key(request.to_key)
            .metadata(SOURCE_ETAG, request.from_etag)
            .metadata(STORED_BY, request.stored_by)
            .send()
            .await
            .map_err(|error| plain_copy(answer(&error), request, &error))?;
        let upload = created.upload_id().unwrap_or_default().to_owned();
        let outcome = self.copy_parts(request, &upload).await;
        if !matches!(outcome, Ok(CopyOutcome::Copied { .. })) {
            let abort = client.abort_multipart_upload().bucket(&request.to.name).key(request.to_key);
            // If the abort fails, the bucket's lifecycle rule removes the upload.
            let _ = abort.upload_id(&upload).send().await;
        }
        outcome
    }

    async fn copy_parts(&self, request: &CopyRequest<'_>, upload: &str) -> Result<CopyOutcome, ObjectsError> {
        let client = self.clients(request.to).parts;
        let size = self.parts.size_for(request.size);
        let mut left = (1..).zip((0..request.size).step_by(size as usize));
        let mut flying = FuturesUnordered::new();
        let mut parts = Vec::new();
        let mut failure = None;
        loop {
            while failure.is_none()
                && (flying.is_empty() || flying.len() < self.parts.in_flight)
                && let Some((number, first)) = left.next()
            {
                flying.push(copy_part(&client, request, upload, number, first..(first + size).min(request.size)));
            }
            match flying.next().await {
                Some(Ok(part)) => parts.push(part),
                // The other parts are waited for, because a part that arrives after the abort is stored and billed.
                Some(Err(error)) => failure = failure.or(Some(error)),
                None => break,
            }
        }
        if let Some(error) = failure {
            return match answer(&error) {
                Answer::NotFound | Answer::ConditionFailed => Ok(CopyOutcome::SourceGone),
                other => Err(plain_copy(other, request, &error)),
            };
        }
        parts.sort_by_key(CompletedPart::part_number);
        let completed = client
            .complete_multipart_upload()
            .bucket(&request.to.name)
            .key(request.to_key)
            .upload_id(upload)
            .if_none_match("*")
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .send()
            .await;
        match completed {
            Ok(completed) => Ok(CopyOutcome::Copied { etag: unquoted(completed.e_tag()) }),
            Err(error) => match answer(&error) {
                Answer::ConditionFailed => Ok(self.destination(request).await?.unwrap_or(CopyOutcome::SourceGone)),
                Answer::Contended => {
                    let there = self.destination(request).await?;
                    there.ok_or_else(|| plain_copy(Answer::Contended, request, &error))
                }
                other => Err(plain_copy(other, request, &error)),
            },
        }
    }
}

/// Copies one part of an object.
async fn copy_part(
    client: &Client,
    request: &CopyRequest<'_>,
    upload: &str,
    number: i32,
    bytes: Range<u64>,
) -> Result<CompletedPart, SdkError<UploadPartCopyError, HttpResponse>> {
    let part = client
        .upload_part_copy()
        .copy_source(copy_source(request.from, request.from_key))
        .copy_source_if_match(quoted(request.from_etag))
        .copy_source_range(format!("bytes={}-{}", bytes.start, bytes.end - 1))
        .bucket(&request.to.name)
        .key(request.to_key)
        .upload_id(upload)
        .part_number(number)
        .send()
        .await?;
    let etag = part.copy_part_result().and_then(|result| result.e_tag()).map(str::to_owned);
    Ok(CompletedPart::builder().part_number(number).set_e_tag(etag).build())
}
