//! The engine of all jobs: runs slices of any job's work under an instance's lease.
//!
//! Backups and restores call the engine. It doesn't call them.

pub(crate) mod halt;
pub(crate) mod lease;
pub(crate) mod record;
pub(crate) mod slice;
pub(crate) mod throttle;
pub(crate) mod watched;
