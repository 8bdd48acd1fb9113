//! The errors of the table, and the pauses before an operation is tried again.

use std::time::Duration;

use aws_sdk_dynamodb::error::{DisplayErrorContext, SdkError};
use milvault_ports::CatalogError;

/// How often a transaction is retried, with growing pauses, if another one had one of its items at the same moment.
pub(crate) const TRIES: u32 = 6;

/// Waits before the next try. There is no jitter, because only an instance's worker and one or two callers contend for
/// its items.
pub(crate) async fn wait(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
}

pub(crate) fn unavailable<E, R>(error: SdkError<E, R>) -> CatalogError
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    CatalogError::Unavailable(DisplayErrorContext(&error).to_string())
}
