//! The world of the suites that run jobs against the fake Milvus.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that is surprised has failed")]

pub mod world;
