//! What can go wrong, and what a server's own work does at the worst moment. Each switch is off at first.

use std::time::Duration;

use crate::Garbage;

/// The switches. Those that count are counted down as they strike.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// What `GetVersion` answers, if not what its line does: a managed build, for example.
    pub version: Option<String>,
    /// How many milliseconds its clock is ahead.
    pub clock_ahead: i64,
    /// So many calls are answered with "not ready".
    pub not_ready: u32,
    /// A collection can be flushed once in so long; a flush before is refused, with code 8.
    pub flush_every: Option<Duration>,
    /// After so many flushes, the collection's segments are compacted before they can be listed.
    pub compact_after_flush: u32,
    /// After so many listings that follow a flush, the collection's segments are compacted, and the old ones' files
    /// removed, as the garbage collection does once they have been dropped for long enough.
    pub collect_after_listing: u32,
    /// Before so many listings of segments, a row is deleted and the delete brought to object storage.
    pub delete_before_listing: u32,
    /// So many listings of segments fail because one was dropped meanwhile.
    pub segment_lost_while_listing: u32,
    /// Which segments a flush names.
    pub flush_names: FlushNames,
    /// The storage version of all segments, if not what its line writes.
    pub storage_version: Option<i64>,
    /// What the management endpoint offers, if not what its line does.
    pub garbage: Option<Garbage>,
    /// Every import fails, for this reason.
    pub imports_fail: Option<String>,
    /// The management endpoint wants the root's password.
    pub management_is_locked: Option<RootPassword>,
}

/// Which segments a flush names, L0 segments never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FlushNames {
    /// All others.
    #[default]
    All,
    /// Those of level L1, as 2.4.0 did: not what a clustering compaction made or an older version left (issue 33055).
    L1Only,
}

/// The password of the user `root`.
#[derive(Debug, Clone)]
pub struct RootPassword(pub String);

/// Whether a counted fault strikes now.
pub(crate) fn strikes(left: &mut u32) -> bool {
    let strikes = *left > 0;
    *left = left.saturating_sub(1);
    strikes
}
