//! What every adapter of the ports promises, as cases that any adapter can be put through.
//!
//! `cargo test` runs them on the adapters in memory, the example `adapter_conformance` on the real ones against an AWS
//! endpoint.

mod case;
pub mod catalog;
pub mod objects;
mod samples;

pub use case::{Capability, Case, Outcome, Report, run};
