//! The benchmark's parts: a source of synthetic data, a model of S3, and the engine between them. `make bench` runs it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that surprises has failed")]

pub mod engine;
pub mod measure;
pub mod model;
pub mod peers;
pub mod planning;
pub mod server;
pub mod source;
