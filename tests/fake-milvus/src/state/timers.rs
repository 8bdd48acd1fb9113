//! The timers of a collection's compactions.

use std::time::Instant;

/// When a collection's next compactions are due.
#[derive(Default)]
pub(crate) struct Timers {
    pub(crate) level_zero: Option<Instant>,
    pub(crate) mix: Option<Instant>,
}
