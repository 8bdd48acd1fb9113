//! Faults, and a server's own work at the worst moment. Every switch is off at first.

use std::time::Duration;

use crate::{Garbage, Grant};

/// The switches. A counted switch counts down whenever it strikes.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The answer of `GetVersion`, if it isn't the line's: a managed build, for example.
    pub version: Option<String>,
    /// How many milliseconds the server's clock is ahead.
    pub clock_ahead: i64,
    /// This many calls are answered with "not ready".
    pub not_ready: u32,
    /// The load of each collection that isn't loaded has failed, with this code (`ShowCollections` in
    /// `internal/querycoordv2/services.go`, 2.4 and 2.5).
    pub load_failed: Option<i32>,
    /// `ListAliases` and `DescribeAlias` aren't implemented, as in 2.3.4 (`internal/proxy/impl.go`).
    pub no_alias_calls: bool,
    /// `GetReplicas` answers with this code.
    pub replicas_fail: Option<i32>,
    /// A collection can be flushed once in this time; an earlier flush is refused with code 8.
    pub flush_every: Option<Duration>,
    /// After this many flushes, the collection's segments are compacted before they can be listed.
    pub compact_after_flush: u32,
    /// After so many listings that follow a flush, the collection's segments are compacted, and the old ones' files
    /// removed, as the garbage collection does once they have been dropped for long enough.
    pub collect_after_listing: u32,
    /// Before so many descriptions of a collection that has been flushed, its segments are compacted, and of the old ones'
    /// files the delta logs removed: the garbage collection is at work.
    pub collect_deletes_after_flush: u32,
    /// Before this many listings of segments, a row is deleted and the delete is written to object storage.
    pub delete_before_listing: u32,
    /// This many listings of segments fail because a segment was dropped meanwhile.
    pub segment_lost_while_listing: u32,
    /// The flushes of this collection are never over.
    pub never_flushed: Option<String>,
    /// Which segments a flush names.
    pub flush_names: FlushNames,
    /// The storage version of all segments, if it isn't the line's.
    pub storage_version: Option<i64>,
    /// What the management endpoint offers, if it isn't what the line's offers.
    pub garbage: Option<Garbage>,
    /// Every import fails with this reason.
    pub imports_fail: Option<String>,
    /// The next import into this partition fails.
    pub import_fails_once: Option<String>,
    /// Imports into this partition are completed without a row.
    pub import_brings_nothing: Option<String>,
    /// Indexes on this field are refused.
    pub index_refused: Option<String>,
    /// The pace of imports; `None`: each job is over after a few questions about it.
    pub imports: Option<ImportPace>,
    /// The pace of the server's own work; `None`: everything is stored at once and nothing is compacted.
    pub pace: Option<Pace>,
    /// Before so many flushes, half of what is growing is sealed by policy: it is stored by the end of the flush, which
    /// doesn't name it. Nothing in lines before 2.6.
    pub sealed_by_policy: u32,
    /// Changes by others right before the next flush.
    pub before_flush: Vec<Change>,
    /// Changes by others right after the next flush is reported to be over.
    pub after_flush: Vec<Change>,
    /// A change by others right before a collection of this name is next renamed.
    pub before_rename: Option<(String, Change)>,
    /// A change by others right before the files of segments are next asked for over REST.
    pub before_files: Vec<Change>,
    /// Grants of this privilege are refused.
    pub grant_refused: Option<String>,
    /// This many calls that rename or grant something take effect, and their answers are lost.
    pub unanswered: u32,
    /// The management endpoint asks for this password of `root`.
    pub management_is_locked: Option<RootPassword>,
}

/// The pace of a server's own work. A test can have in milliseconds what takes a real server seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The time from sealing to storing a segment, which is listed from then on.
    pub store: Duration,
    /// The time from storing a segment to replacing it by a sorted one, in lines that sort.
    pub sort: Duration,
    /// How often L0 segments are compacted into the delta logs of the segments whose rows they delete
    /// (`dataCoord.compaction.levelzero.triggerInterval`).
    pub level_zero: Duration,
    /// How often small segments are merged, and deletes in delta logs applied (`dataCoord.compaction.mix.triggerInterval`).
    pub mix: Duration,
}

impl Pace {
    /// The pace of real servers, with the intervals of `pkg/util/paramtable/component_param.go`, 2.5.
    pub const REAL: Self = Self {
        store: Duration::from_secs(2),
        sort: Duration::from_secs(3),
        level_zero: Duration::from_secs(10),
        mix: Duration::from_secs(60),
    };
}

/// The pace of a server's imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportPace {
    /// The duration of a job, whatever its size: 15 to 20 s on 2.5.27.
    pub job: Duration,
    /// The number of jobs that run at once; the others wait.
    pub side_by_side: usize,
    /// With so many jobs at work or waiting, another one is refused (`dataCoord.import.maxImportJobNum`, `ImportV2` in
    /// `internal/datacoord/services.go`, 2.4 and later).
    pub most: usize,
}

/// A change that somebody else makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Drops a collection.
    Drop(String),
    /// Drops a collection and makes another one of the same name with this many rows.
    Recreate(String, u64),
    /// Renames a collection.
    Rename(String, String),
    /// Swaps the names of two collections.
    Swap(String, String),
    /// Points an alias at a collection, whichever had it.
    Alias(String, String),
    /// Gives a role a grant.
    Grant(String, Grant),
    /// Drops a database and its collections.
    DropDatabase(String),
}

/// Which segments a flush names; it never names L0 segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FlushNames {
    /// All other segments.
    #[default]
    All,
    /// Segments of level L1, as in 2.4.0: none of a clustering compaction or of an older version (issue 33055).
    L1Only,
}

/// The password of the user `root`.
#[derive(Debug, Clone)]
pub struct RootPassword(pub String);

/// Whether a counted fault strikes now, which counts it down.
pub(crate) fn strikes(left: &mut u32) -> bool {
    let strikes = *left > 0;
    *left = left.saturating_sub(1);
    strikes
}
