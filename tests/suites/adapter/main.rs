//! The Milvus adapter on the fake Milvus.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that is surprised has failed")]

mod credentials;
mod lines;
