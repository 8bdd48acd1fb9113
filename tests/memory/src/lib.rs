//! Strict in-memory adapters of the ports, for tests, and logs as Milvus writes them.
//!
//! Strict means: whatever DynamoDB or S3 may refuse or leave open, these refuse or do in the way that is harder for the
//! caller. They pass the same conformance suite as the real adapters.
#![forbid(unsafe_code)]

pub mod binlog;
mod catalog;
mod clock;
mod ids;
mod objects;
mod world;

pub use catalog::MemoryCatalog;
pub use clock::TestClock;
pub use ids::SeededIds;
pub use objects::MemoryObjects;
pub use world::{Alone, MemoryEvents, MemorySchedules, MemoryWorld, available};
