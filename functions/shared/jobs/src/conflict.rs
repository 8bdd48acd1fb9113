//! Optimistic concurrency: a change is decided on the records as read, and retried if they have changed by its commit.

use milvault_ports::CatalogError;

use crate::Error;

/// The maximum number of attempts. Each failed attempt means that another change succeeded in its place.
const ATTEMPTS: u32 = 100;

/// Makes a change, and repeats the attempt as long as it ends with a conflict.
///
/// # Errors
/// The error of the attempt; a conflict only after many attempts.
pub async fn retry_on_conflict<T>(mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(Error::Catalog(CatalogError::Conflict(_))) => {}
            outcome => return outcome,
        }
    }
    attempt().await
}

/// Returns what a request has already created, or creates it. An attempt that returns `None` met a concurrent change
/// and is repeated.
///
/// # Errors
/// The error of an attempt, unless the same request has created its object in the meantime.
pub(crate) async fn create_once<T>(
    earlier: impl AsyncFn() -> Result<Option<T>, Error>,
    mut attempt: impl AsyncFnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    if let Some(earlier) = earlier().await? {
        return Ok(earlier);
    }
    for _ in 0..ATTEMPTS {
        let outcome = attempt().await;
        if let Ok(Some(created)) = outcome {
            return Ok(created);
        }
        // The obstacle or the change may be the effect of the same request, sent twice.
        if let Some(earlier) = earlier().await? {
            return Ok(earlier);
        }
        outcome?;
    }
    Err(Error::Inconsistent("the records that the request needs keep changing".to_owned()))
}
