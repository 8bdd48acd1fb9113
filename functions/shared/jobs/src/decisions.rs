//! Changes that are decided on what was read, and decided anew when that was changed meanwhile.

use crate::{Error, ports::CatalogError};

/// How often. Each time, someone else's change was made: only so many at the same moment keep one from being made.
pub(crate) const ATTEMPTS: u32 = 100;

/// Decides on a change and commits it, and decides anew when something changed meanwhile.
///
/// # Errors
/// What the attempt ends with, but for a conflict, of which it takes very many.
pub async fn decided<T>(mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(Error::Catalog(CatalogError::Conflict(_))) => {}
            outcome => return outcome,
        }
    }
    attempt().await
}
