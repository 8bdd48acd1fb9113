//! The seeds of a run: different ones each time, so that runs cover more together.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::{Write, stderr},
    ops::Range,
    sync::OnceLock,
};

/// The first seed of this run: `SIM_FIRST` or a random one. It is printed to stderr even while tests' output is captured.
fn first() -> u64 {
    static FIRST: OnceLock<u64> = OnceLock::new();
    *FIRST.get_or_init(|| {
        let first = number("SIM_FIRST").unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 24);
        // A failing test names its seed even if stderr is closed.
        let _ = writeln!(stderr(), "the seeds of this run begin at SIM_FIRST={first}");
        first
    })
}

/// This many seeds, from this run's first one on.
pub fn seeds(count: u64) -> Range<u64> {
    first()..first().saturating_add(count)
}

/// A number from an environment variable.
pub fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {value:?}")))
}
