//! The lines of Milvus and their differences.
//!
//! These facts are taken from the servers' source, independently of `milvault-model`: the tests compare the two.

use milvault_harness::binlog::Nullability;

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
    /// 2.5.27: the last of its line.
    V2_5_27,
    /// 2.6.18: storage v2, tickets for holds of the garbage collection.
    V2_6,
}

/// What the management endpoint offers for garbage collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbage {
    /// The address is unknown: 404.
    Unknown,
    /// One hold for all clients, which any of them can end (`internal/proxy/management.go` of the 2.4 line).
    Shared,
    /// Each hold has its ticket, without which it can't be ended (milvus-backup: `internal/client/milvus/manage.go`).
    Ticketed,
}

impl Line {
    /// Every line, oldest first.
    pub const ALL: [Self; 6] = [Self::V2_3, Self::V2_4, Self::V2_5_4, Self::V2_5_8, Self::V2_5_27, Self::V2_6];

    /// The answer of `GetVersion`.
    pub fn version(self) -> &'static str {
        match self {
            Self::V2_3 => "v2.3.5-lite",
            Self::V2_4 => "v2.4.22",
            Self::V2_5_4 => "v2.5.4",
            Self::V2_5_8 => "v2.5.8",
            Self::V2_5_27 => "v2.5.27",
            // Releases of this line have no "v".
            Self::V2_6 => "2.6.18",
        }
    }

    /// Whether deletes are in segments of their own (`SaveBinlogPaths` in `internal/datacoord/services.go`, 2.4).
    pub fn has_l0(self) -> bool {
        self >= Self::V2_4
    }

    /// Whether a log says that its field can't be null (`NullableKey` in `internal/storage/event_data.go`, 2.5).
    pub(crate) fn nullability(self) -> Nullability {
        if self >= Self::V2_5_4 { Nullability::Told } else { Nullability::Untold }
    }

    /// Whether `POST /v2/vectordb/segments/describe` exists.
    pub fn has_segment_files(self) -> bool {
        self >= Self::V2_5_8
    }

    /// Whether an import's end is a hybrid timestamp, the last one that is kept; before, a time in milliseconds, the
    /// first one that isn't (`ParseTimeRange` in `internal/util/importutilv2/option.go`, which composed a timestamp of it
    /// until the pull requests 40333 and 40334; `internal/util/importutil/import_options.go`, 2.3).
    pub fn has_hybrid_end(self) -> bool {
        self >= Self::V2_5_8
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

    /// Whether each segment with rows is replaced by a sorted one soon after its flush (`statsTask.enable` and, later,
    /// `sortCompaction.enable` in `pkg/util/paramtable/component_param.go`; `SaveStatsResultSegment` in
    /// `internal/datacoord/meta.go`, 2.5).
    pub fn sorts(self) -> bool {
        self >= Self::V2_5_4
    }

    /// Whether a segment may be sealed by policy, so that a flush doesn't name it (`internal/streamingnode`,
    /// `shards/partition_manager.go`, 2.6).
    pub fn seals_by_policy(self) -> bool {
        self >= Self::V2_6
    }

    /// Whether a description of a missing collection has nothing but the old code (`CachedProxyServiceProvider` in
    /// `internal/proxy/service_provider.go`, 2.5; 2.6.18 was seen to do it too).
    pub fn describes_missing_by_old_code(self) -> bool {
        self >= Self::V2_5_27
    }

    /// Whether aliases of a dropped collection stay, and hide a collection of their name: aliases are looked up first
    /// (`getCollectionByNameInternal` and `RemoveCollection` in `internal/rootcoord/meta_table.go`, 2.3).
    pub fn leaves_aliases(self) -> bool {
        !self.keeps_aliased()
    }

    /// Whether a description has the aliases that there were when the collection was first described under its name: a new
    /// alias expires no other cached description than its own (`CachedProxyServiceProvider` in
    /// `internal/proxy/service_provider.go`, 2.6; 2.6.18 was seen to do it).
    pub fn caches_aliases(self) -> bool {
        self >= Self::V2_6
    }

    /// Whether lists leave out what the user has no grant on (`internal/rootcoord`, `list_db_task.go` and
    /// `show_collection_task.go`, 2.4, and not 2.3).
    pub fn filters_lists(self) -> bool {
        self >= Self::V2_4
    }

    /// Whether groups of privileges count there (`getCurrentUserVisibleCollections` in
    /// `internal/rootcoord/root_coord.go`, 2.5, pull request 41204).
    pub fn lists_by_groups(self) -> bool {
        self >= Self::V2_5_27
    }

    /// Whether a collection or a database that isn't listed can't be described either (`describe_collection_task.go` and
    /// `describe_db_task.go` in `internal/rootcoord`, 2.5, pull request 41799).
    pub fn describes_by_grants(self) -> bool {
        self >= Self::V2_5_27
    }

    /// Whether grants on a collection follow it when it is renamed, and go with it when it is dropped; before, they stay
    /// with the name (`AlterCollection` and `DropCollection` in `internal/rootcoord/meta_table.go`, from 2.6.12 on; 2.6.18
    /// and 2.5.27 were seen to do so).
    pub fn moves_grants(self) -> bool {
        self >= Self::V2_6
    }

    /// Whether groups of privileges can be granted, by the second call for it only (`isValidPrivilege` and
    /// `isValidPrivilegeV2` in `internal/rootcoord/root_coord.go`, 2.5).
    pub(crate) fn has_privilege_groups(self) -> bool {
        self >= Self::V2_5_4
    }

    /// The storage version in `PersistentSegmentInfo`.
    pub fn storage_version(self) -> i64 {
        match self {
            Self::V2_6 => 2,
            _ => 0,
        }
    }

    /// What the management endpoint offers for garbage collection.
    pub fn garbage(self) -> Garbage {
        match self {
            Self::V2_3 => Garbage::Unknown,
            Self::V2_4 | Self::V2_5_4 | Self::V2_5_8 | Self::V2_5_27 => Garbage::Shared,
            Self::V2_6 => Garbage::Ticketed,
        }
    }
}
