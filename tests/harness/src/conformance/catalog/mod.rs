//! The promises of [`Catalog`](milvault_ports::Catalog).

mod commits;
mod due;
mod fixture;
mod leases;
mod listings;
mod records;
mod usage;

use crate::conformance::Case;

pub use fixture::CatalogFixture;

/// Every promise.
pub fn cases() -> impl Iterator<Item = &'static Case<CatalogFixture>> {
    [records::CASES, commits::CASES, listings::CASES, usage::CASES, leases::CASES, due::CASES].into_iter().flatten()
}
