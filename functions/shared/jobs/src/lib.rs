//! The backup job and the restore job: durable state machines over ports. Nothing in here knows AWS.
//!
//! A job belongs to one instance, which has at most one at a time. Workers take turns at it in *slices*: each takes the
//! instance's fenced lease, goes on from the last checkpoint, and hands over before its time is up. Every checkpoint
//! is a commit that requires the lease, so that a worker that lost it can't do harm.
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
mod turns;

pub use conflict::retry_on_conflict;
pub use context::{Jobs, Ports};
pub use engine::slice::SliceEnd;
pub use error::{Class, Error, FieldError};
pub use idempotency::IdempotencyKey;
pub use precondition::{Precondition, Tag};
pub use settings::{CursorKey, Settings, SnapshotBuckets};
pub use snapshot::{
    layout::{STAGING_PREFIX, probe_key},
    pages::OBJECTS_PER_PAGE,
};
