//! The backup job and the restore job: durable state machines over ports, independent of AWS.
//!
//! A job belongs to one instance, and an instance has at most one job at a time. Workers process a job in *slices*:
//! each worker takes the instance's fenced lease, continues from the last checkpoint, and hands over before its time
//! ends. Every checkpoint is a commit that requires the lease, so a worker that has lost the lease can't do harm.
#![forbid(unsafe_code)]

pub mod backup;
mod binlog;
mod conflict;
mod context;
pub mod deletion;
mod engine;
mod error;
pub mod events;
mod expiry;
mod idempotency;
mod precondition;
pub mod restore;
mod sample;
pub mod schedule;
pub mod scrub;
mod settings;
pub mod snapshot;
pub mod sweep;
mod waiting_runs;

pub use conflict::retry_on_conflict;
pub use context::{Jobs, Ports};
pub use engine::slice::SliceEnd;
pub use error::{Class, Error, FieldError};
pub use idempotency::IdempotencyKey;
pub use precondition::{Precondition, Tag};
pub use settings::{CursorKey, Settings, SnapshotBuckets};
pub use snapshot::{
    layout::{STAGING_PREFIX, probe_key},
    pages::{Folder, OBJECTS_PER_PAGE},
};
