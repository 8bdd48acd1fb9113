//! What can go wrong, and what a server's own work does at the worst moment. Each switch is off at first.

use std::time::Duration;

use crate::{Garbage, Grant};

/// The switches. Those that count are counted down as they strike.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// What `GetVersion` answers, if not what its line does: a managed build, for example.
    pub version: Option<String>,
    /// How many milliseconds its clock is ahead.
    pub clock_ahead: i64,
    /// So many calls are answered with "not ready".
    pub not_ready: u32,
    /// The load of each collection that isn't loaded has failed, with this code (`ShowCollections` in
    /// `internal/querycoordv2/services.go`, 2.4 and 2.5).
    pub load_failed: Option<i32>,
    /// `ListAliases` and `DescribeAlias` are known, and not there: so it is in 2.3.4 (`internal/proxy/impl.go`).
    pub no_alias_calls: bool,
    /// `GetReplicas` answers with this code.
    pub replicas_fail: Option<i32>,
    /// A collection can be flushed once in so long; a flush before is refused, with code 8.
    pub flush_every: Option<Duration>,
    /// After so many flushes, the collection's segments are compacted before they can be listed.
    pub compact_after_flush: u32,
    /// After so many listings that follow a flush, the collection's segments are compacted, and the old ones' files
    /// removed, as the garbage collection does once they have been dropped for long enough.
    pub collect_after_listing: u32,
    /// Before so many descriptions of a collection that has been flushed, its segments are compacted, and of the old ones'
    /// files the delta logs removed: the garbage collection is at work.
    pub collect_deletes_after_flush: u32,
    /// Before so many listings of segments, a row is deleted and the delete brought to object storage.
    pub delete_before_listing: u32,
    /// So many listings of segments fail because one was dropped meanwhile.
    pub segment_lost_while_listing: u32,
    /// The flushes of this collection are never over.
    pub never_flushed: Option<String>,
    /// Which segments a flush names.
    pub flush_names: FlushNames,
    /// The storage version of all segments, if not what its line writes.
    pub storage_version: Option<i64>,
    /// What the management endpoint offers, if not what its line does.
    pub garbage: Option<Garbage>,
    /// Every import fails, for this reason.
    pub imports_fail: Option<String>,
    /// The next import into this partition fails.
    pub import_fails_once: Option<String>,
    /// The imports into this partition are completed, and bring no row.
    pub import_brings_nothing: Option<String>,
    /// No index is made on this field.
    pub index_refused: Option<String>,
    /// How fast it imports; `None`: each job is over when it has been asked about a few times.
    pub imports: Option<ImportPace>,
    /// How fast the server works by itself; `None`: everything is stored at once, and nothing is compacted.
    pub pace: Option<Pace>,
    /// Before so many flushes, half of what is growing is sealed by policy: it is stored by the end of the flush, which
    /// doesn't name it. Nothing in lines before 2.6.
    pub sealed_by_policy: u32,
    /// What others do right before the next flush is taken.
    pub before_flush: Vec<Change>,
    /// What others do right after the next flush was told to be over.
    pub after_flush: Vec<Change>,
    /// What others do right before a collection of this name is next renamed.
    pub before_rename: Option<(String, Change)>,
    /// What others do right before segments' files are next asked for, over REST.
    pub before_files: Vec<Change>,
    /// This privilege can't be granted.
    pub grant_refused: Option<String>,
    /// So many calls that rename or grant something do it, and their answer is lost.
    pub unanswered: u32,
    /// The management endpoint wants the root's password.
    pub management_is_locked: Option<RootPassword>,
}

/// How fast a server works by itself. A test can have in milliseconds what takes a real server seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long after it was sealed a segment is stored. It is listed from then on.
    pub store: Duration,
    /// How long after it was stored a segment is replaced by a sorted one, in lines that do this.
    pub sort: Duration,
    /// How often L0 segments are compacted into the delta logs of the segments whose rows they delete
    /// (`dataCoord.compaction.levelzero.triggerInterval`).
    pub level_zero: Duration,
    /// How often small segments are merged, and deletes in delta logs applied (`dataCoord.compaction.mix.triggerInterval`).
    pub mix: Duration,
}

impl Pace {
    /// As real servers were seen to work, with the intervals of `pkg/util/paramtable/component_param.go`, 2.5.
    pub const REAL: Self = Self {
        store: Duration::from_secs(2),
        sort: Duration::from_secs(3),
        level_zero: Duration::from_secs(10),
        mix: Duration::from_secs(60),
    };
}

/// How fast a server imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportPace {
    /// How long a job takes, whatever its size: seen on 2.5.27, 15 to 20 s.
    pub job: Duration,
    /// So many jobs are at work at once; the others wait.
    pub side_by_side: usize,
    /// With so many jobs at work or waiting, another one is refused (`dataCoord.import.maxImportJobNum`, `ImportV2` in
    /// `internal/datacoord/services.go`, 2.4 and later).
    pub most: usize,
}

/// What somebody else does to a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Drops it.
    Drop(String),
    /// Drops it, and makes another one of the same name with so many rows.
    Recreate(String, u64),
    /// Gives it another name.
    Rename(String, String),
    /// Gives each the other's name.
    Swap(String, String),
    /// Gives an alias to a collection, whichever had it.
    Alias(String, String),
    /// Lets a role do this.
    Grant(String, Grant),
    /// Drops a database and its collections.
    DropDatabase(String),
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
