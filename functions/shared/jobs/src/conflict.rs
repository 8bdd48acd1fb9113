//! Changes that are decided on what was read, and decided anew when that was changed meanwhile.

use milvault_ports::CatalogError;

use crate::Error;

/// How often. Each time, someone else's change was made: only so many at the same moment keep one from being made.
const ATTEMPTS: u32 = 100;

/// Decides on a change and commits it, and decides anew when something changed meanwhile.
///
/// # Errors
/// What the attempt ends with, but for a conflict, of which it takes very many.
pub async fn retry_on_conflict<T>(mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(Error::Catalog(CatalogError::Conflict(_))) => {}
            outcome => return outcome,
        }
    }
    attempt().await
}

/// What a request makes: what it has made already, or what an attempt makes. An attempt answers `None` if something changed
/// meanwhile, and is made anew.
///
/// # Errors
/// Whatever stands in its way, and isn't its own.
pub(crate) async fn create_once<T>(
    earlier: impl AsyncFn() -> Result<Option<T>, Error>,
    mut attempt: impl AsyncFnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    if let Some(earlier) = earlier().await? {
        return Ok(earlier);
    }
    for _ in 0..ATTEMPTS {
        let outcome = attempt().await;
        if let Ok(Some(made)) = outcome {
            return Ok(made);
        }
        // What is in the way, or has changed, may be what the same request has made at the same moment.
        if let Some(earlier) = earlier().await? {
            return Ok(earlier);
        }
        outcome?;
    }
    Err(Error::Inconsistent("the records that the request needs keep changing".to_owned()))
}
