//! Usage: what is metered, and what of it is read and written out.

pub mod meter;
