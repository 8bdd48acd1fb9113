//! Strict in-memory adapters of the ports, for tests.
#![forbid(unsafe_code)]
