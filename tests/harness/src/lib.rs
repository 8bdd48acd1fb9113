//! Strict in-memory adapters of the ports, the conformance cases of every adapter, and what tests share.
//!
//! Strict means: whatever DynamoDB or S3 may refuse or leave open, the adapters in memory refuse or do in the way that is
//! harder for the caller. They pass the same conformance cases as the real adapters.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that is surprised has failed")]

pub mod binlog;
mod catalog;
mod clock;
pub mod conformance;
mod cost;
mod ids;
mod objects;
mod ports;
mod random;
mod records;
mod seeds;
mod work;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use catalog::MemoryCatalog;
pub use clock::{RealClock, TestClock};
pub use cost::exact_cost;
pub use ids::SeededIds;
pub use objects::{MemoryObjects, list_all};
pub use ports::{Alone, MemoryEvents, MemorySchedules};
pub use random::Random;
pub use records::{account, available, bucket, instance, pending, region, register};
pub use seeds::{number, seeds};
pub use work::{backup_request, captured, drive, minutes_left, take_backup};
pub use world::{MemoryWorld, ports, settings};

/// Locks a mutex, also after a test has panicked with it.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
