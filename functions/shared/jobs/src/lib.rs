//! The backup job and the restore job: durable state machines over ports. Nothing in here knows AWS.
//!
//! A job belongs to one instance, which has at most one at a time. Workers take turns at it in *slices*: each takes the
//! instance's fenced lease, goes on from the last checkpoint, and hands over before its time is up. Every checkpoint
//! is a commit that requires the lease, so that a worker that lost it can't do harm.
#![forbid(unsafe_code)]

mod attribution;
pub mod auto_backup;
pub mod backup;
mod binlog;
mod decisions;
pub mod deletion;
mod error;
mod expiry;
pub mod freshness;
mod garbage;
mod idempotency;
mod layout;
pub mod notices;
mod pages;
mod precondition;
pub mod restore;
mod sample;
mod settings;
mod slice;
pub mod snapshot;
pub mod sweep;
mod throttle;
pub mod usage;
mod watched;

pub use decisions::decided;
pub use error::{Error, FieldError};
pub use idempotency::IdempotencyKey;
pub use layout::{STAGING_PREFIX, probe_key};
pub use pages::OBJECTS_PER_PAGE;
pub use precondition::{Precondition, Tag};
pub use settings::{CursorKey, Jobs, Ports, Settings, SliceEnd, SnapshotBuckets};
