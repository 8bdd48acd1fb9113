//! Billing: metering of the storage that snapshots use, corrections, usage lines, and their export.
#![forbid(unsafe_code)]

pub mod correction;
pub mod export;
pub mod freshness;
pub mod lines;
pub mod meter;
