//! The engine of all jobs: slices of work under an instance's lease, whatever the job is.
//!
//! It knows nothing of backups and restores, which call it.

pub(crate) mod halt;
pub(crate) mod lease;
pub(crate) mod record;
pub(crate) mod slice;
pub(crate) mod throttle;
pub(crate) mod watched;
