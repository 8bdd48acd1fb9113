//! Commits that only the holder of an instance's lease may make.

use crate::{Catalog, CatalogError, Lease, Write};

/// Whether the holder keeps the lease after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenure {
    /// The holder keeps the lease.
    Keep,
    /// The job has ended, and the lease with it.
    End,
}

/// Why a commit under a lease wasn't made.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// Another worker holds the lease. Nothing was written.
    #[error("another worker took over")]
    LeaseLost,
    /// The condition of the write at this position didn't hold. Nothing was written.
    #[error("the condition of write {0} didn't hold")]
    Conflict(usize),
    /// The catalog couldn't be reached, or its answer couldn't be read. The commit may have taken effect.
    #[error("the catalog failed: {0}")]
    Unavailable(String),
}

/// Makes all of the writes if the lease is held, or none of them.
///
/// # Errors
/// [`HeldError`]. The position of a conflict is the one in `writes`.
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
