//! Usage: what is metered, put right, read and written out.

pub mod correction;
pub mod export;
pub mod lines;
pub mod meter;
