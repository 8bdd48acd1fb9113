//! What every adapter of the ports promises, as cases that any of them can be put through: the strict ones in memory by
//! `cargo test`, the real ones by the example `adapter_conformance` against an AWS endpoint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod case;
pub mod catalog;
pub mod objects;
mod samples;

pub use case::{Capability, Case, Outcome, Report, run};
