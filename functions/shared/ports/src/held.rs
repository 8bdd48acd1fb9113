//! Commits that only the holder of an instance's lease may make.

use crate::{Catalog, CatalogError, Lease, Write};

/// What becomes of the lease with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenure {
    /// The holder keeps it.
    Keep,
    /// The job is over: the lease is given up with it.
    End,
}

/// Why a commit under a lease wasn't made.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// The lease is another worker's by now. Nothing was written.
    #[error("another worker took over")]
    LeaseLost,
    /// The condition of the write at this place didn't hold. Nothing was written.
    #[error("the condition of write {0} didn't hold")]
    Conflict(usize),
    /// The catalog couldn't be asked, or its answer not be read. The commit may have taken effect.
    #[error("the catalog failed: {0}")]
    Unavailable(String),
}

/// Carries out all of the writes, or none: none without the lease.
///
/// # Errors
/// [`HeldError`]; the places of conflicts are those in `writes`.
pub async fn commit_held(
    catalog: &dyn Catalog,
    lease: &Lease,
    tenure: Tenure,
    writes: impl IntoIterator<Item = Write>,
) -> Result<(), HeldError> {
    let guard = match tenure {
        Tenure::Keep => Write::HoldLease(lease.clone()),
        Tenure::End => Write::ReleaseJob(lease.clone()),
    };
    let committed = catalog.commit(std::iter::once(guard).chain(writes).collect()).await;
    committed.map_err(|error| match error {
        CatalogError::Conflict(0) => HeldError::LeaseLost,
        CatalogError::Conflict(place) => HeldError::Conflict(place - 1),
        CatalogError::Unavailable(reason) => HeldError::Unavailable(reason),
    })
}
