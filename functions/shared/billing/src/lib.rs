//! Billing: what snapshots take is metered, corrected, read and written out.
#![forbid(unsafe_code)]

pub mod correction;
pub mod export;
pub mod freshness;
pub mod lines;
pub mod meter;
