//! The lines of Milvus, and in what they differ.
//!
//! What is said here is said from the servers' source, apart from what `milvault-model` concludes from it: the two are
//! compared by the tests.

/// A version of Milvus that the fake can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// 2.3.5: no segment levels; deletes are in the delta logs of the segments whose rows they delete.
    V2_3,
    /// 2.4.22: L0 segments, channel checkpoints.
    V2_4,
    /// 2.5.4.
    V2_5_4,
    /// 2.5.8: segment files over REST.
    V2_5_8,
    /// 2.6.11: storage v2, tickets for holds of the garbage collection.
    V2_6,
}

/// What the management endpoint offers about garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbage {
    /// Its address is unknown: 404.
    Unknown,
    /// One hold for all, which anyone can end (`internal/proxy/management.go` of the 2.4 line).
    Shared,
    /// Each hold has its ticket, without which it can't be ended (milvus-backup: `internal/client/milvus/manage.go`).
    Ticketed,
}

impl Line {
    /// All of them, from the oldest on.
    pub const ALL: [Self; 5] = [Self::V2_3, Self::V2_4, Self::V2_5_4, Self::V2_5_8, Self::V2_6];

    /// What `GetVersion` answers.
    pub fn version(self) -> &'static str {
        match self {
            Self::V2_3 => "v2.3.5-lite",
            Self::V2_4 => "v2.4.22",
            Self::V2_5_4 => "v2.5.4",
            Self::V2_5_8 => "v2.5.8",
            Self::V2_6 => "v2.6.11",
        }
    }

    /// Whether deletes are in segments of their own (`SaveBinlogPaths` in `internal/datacoord/services.go`, 2.4).
    pub fn has_l0(self) -> bool {
        self >= Self::V2_4
    }

    /// Whether `POST /v2/vectordb/segments/describe` is there.
    pub fn has_segment_files(self) -> bool {
        self >= Self::V2_5_8
    }

    /// Whether an import's end is a hybrid timestamp, the last one that is kept; before, a time in milliseconds, the
    /// first one that isn't (`internal/util/importutilv2/option.go`; `internal/util/importutil/import_options.go`).
    pub fn has_hybrid_end(self) -> bool {
        self >= Self::V2_4
    }

    /// Whether the list of import jobs has their ids (issue 38172, of 2.4; in which release it was mended couldn't be
    /// verified).
    pub fn names_imports(self) -> bool {
        self != Self::V2_4
    }

    /// Whether a collection that has aliases can't be dropped (`internal/rootcoord/drop_collection_task.go`, 2.4).
    pub fn keeps_aliased(self) -> bool {
        self >= Self::V2_4
    }

    /// Whether databases have properties.
    pub fn describes_databases(self) -> bool {
        self >= Self::V2_4
    }

    /// As `PersistentSegmentInfo` tells it.
    pub fn storage_version(self) -> i64 {
        match self {
            Self::V2_6 => 2,
            _ => 0,
        }
    }

    /// What the management endpoint offers about garbage.
    pub fn garbage(self) -> Garbage {
        match self {
            Self::V2_3 => Garbage::Unknown,
            Self::V2_4 | Self::V2_5_4 | Self::V2_5_8 => Garbage::Shared,
            Self::V2_6 => Garbage::Ticketed,
        }
    }
}
