//! What differs between Milvus's versions, decided in one place.
//!
//! Each rule names the public file that it comes from: a path in the repository `milvus-io/milvus`, or, after
//! "milvus-backup:", in `zilliztech/milvus-backup`, whose table of features is by version too.

use crate::{EngineVersion, milliseconds_of};

/// Something that a server can do from some version on.
///
/// What can be asked of the server itself isn't in here: that it collects no garbage for a while, for instance, is
/// tried, and a 404 means that it isn't offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// An import cuts rows off after a hybrid timestamp, inclusive. Before, it takes the physical part of one, and
    /// cuts off from it on.
    ///
    /// `internal/util/importutilv2/option.go` (`ParseTimeRange`), since the pull requests 40333 (2.5.6) and 40334
    /// (2.4.24); before, there and in `internal/util/importutil/import_options.go` (`ParseTSFromOptions`, 2.3). That the
    /// end is excluded there was tried out, on 2.3.5 and on a 2.5 of before; one with a hybrid timestamp cut nothing off.
    HybridImportEnd,
    /// `DescribeDatabase`.
    ///
    /// milvus-backup: `internal/client/milvus/grpc.go` (its table of features).
    DescribeDatabase,
    /// `BackupRBAC` and `RestoreRBAC`.
    ///
    /// Pull request 35513 to the 2.4 line, of August 2024; that 2.4.10 is the first release with it couldn't be verified.
    Rbac,
    /// REST `POST /v2/vectordb/segments/describe`: the log files of many segments, as the metadata has them.
    ///
    /// milvus-backup: `internal/client/milvus/restful.go` (address, request, answer) and `grpc.go` (the version); added
    /// by the pull requests 40464 and, to the 2.5 line, 40466.
    SegmentFiles,
    /// Storage v2: a "field" folder of insert logs may hold a group of columns. Such segments have to be imported apart
    /// from others, with the option `storage_version=2`. Which segments are in it, each one tells.
    ///
    /// `internal/util/importutilv2/option.go` (`GetStorageVersion`); milvus-backup: `core/restore/coll_task.go` (a batch
    /// has one storage version).
    StorageV2,
    /// An import of a backup may leave the check of the disk's quota to whoever asks for it: what it brings is to replace
    /// what is there. Servers of before the pull request 35274, of August 2024, don't look at the option.
    ///
    /// `internal/util/importutilv2/option.go` (`SkipDiskQuotaCheck`), `internal/proxy/rate_limit_interceptor.go`; milvus-backup
    /// asks for it always.
    SkipDiskQuota,
    /// An import job is divided by the server into tasks of its own, each of some segments, and may take hours. Before, it
    /// is one task of one node, given up after 15 minutes (`rootCoord.importTaskExpiration`, 2.3).
    ///
    /// `internal/datacoord/import_util.go` (`RegroupImportFiles`, `NewImportTasks`), 2.4.
    DividedImports,
    /// Fields are added to collections that have rows: segments of before have no logs of them.
    ///
    /// `internal/rootcoord/add_field_task.go`.
    AddedFields,
}

impl Capability {
    /// The first version of each line with it, as `[major, minor, patch]`; later lines have it too.
    fn since(self) -> &'static [[u32; 3]] {
        match self {
            Self::HybridImportEnd => &[[2, 4, 24], [2, 5, 6]],
            Self::SkipDiskQuota | Self::DividedImports => &[[2, 4, 0]],
            Self::DescribeDatabase => &[[2, 4, 3]],
            Self::Rbac => &[[2, 4, 10]],
            Self::SegmentFiles => &[[2, 5, 8]],
            Self::StorageV2 | Self::AddedFields => &[[2, 6, 0]],
        }
    }
}

/// What a server can do, from the version that it reports.
///
/// A pre-release counts as its release, a managed build such as `2.5.4-0.1.1_3.2` as the Milvus that it is made from:
/// what it may have beyond that can't be known. A build between releases has what the last release of its line has
/// (milvus-backup does the same: `internal/client/milvus/grpc.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    milvus: [u32; 3],
}

impl Capabilities {
    /// Those of a version.
    pub fn of(version: &EngineVersion) -> Self {
        Self { milvus: version.milvus() }
    }

    /// Those of what a server reports; of a build without a version number, those of the newest, because that is what
    /// such a build is made from (milvus-backup does the same: `internal/client/milvus/grpc.go`).
    pub fn of_reported(reported: &str) -> Self {
        EngineVersion::parse(reported).map_or(Self { milvus: [u32::MAX; 3] }, |version| Self::of(&version))
    }

    /// Whether the server can do this.
    pub fn has(&self, capability: Capability) -> bool {
        let since = capability.since();
        let is_of_line = |first: &&[u32; 3]| self.milvus[..2] == first[..2];
        let first = since.iter().find(is_of_line).or(since.last());
        first.is_some_and(|first| self.milvus >= *first)
    }

    /// The most segments that are imported by one job: where the server divides it, as many as milvus-backup gives it
    /// (`core/restore/coll_task.go`), and otherwise what one node does in time. A segment has a gigabyte at most.
    pub fn segments_per_import(&self) -> u32 {
        match self.has(Capability::DividedImports) {
            true => 256,
            false => 16,
        }
    }

    /// The value of an import's `end_ts` that keeps the rows up to and including this hybrid timestamp.
    ///
    /// Before [`Capability::HybridImportEnd`], the end is in milliseconds, and excluded: one more keeps the rows of the same
    /// millisecond too.
    pub fn import_end(&self, hybrid: u64) -> u64 {
        match self.has(Capability::HybridImportEnd) {
            true => hybrid,
            false => milliseconds_of(hybrid) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Capability::*, *};

    const ALL: [Capability; 6] = [DescribeDatabase, Rbac, HybridImportEnd, SegmentFiles, StorageV2, AddedFields];

    fn capabilities(version: &str) -> Vec<Capability> {
        let capabilities = Capabilities::of_reported(version);
        ALL.into_iter().filter(|capability| capabilities.has(*capability)).collect()
    }

    #[test]
    fn every_line_has_what_the_lines_before_it_have_and_more() {
        for (version, count) in [
            ("v2.3.5-lite", 0),
            ("2.4.0", 0),
            ("2.4.3", 1),
            ("2.4.9", 1),
            ("2.4.10", 2),
            ("2.5.4", 2),
            ("2.5.6", 3),
            ("2.5.7", 3),
            ("2.5.8", 4),
            ("2.6.0", 6),
            ("3.0.0", 6),
        ] {
            assert_eq!(capabilities(version), ALL[..count], "{version}");
        }
    }

    #[test]
    fn what_came_late_to_an_older_line_too_is_not_in_the_first_releases_of_the_next_one() {
        for (version, has) in
            [("2.4.22", false), ("2.4.24", true), ("2.5.0", false), ("2.5.5", false), ("2.5.6", true), ("2.6.0", true)]
        {
            assert_eq!(Capabilities::of_reported(version).has(HybridImportEnd), has, "{version}");
        }
    }

    #[test]
    fn a_managed_build_counts_as_its_milvus_and_a_pre_release_as_its_release() {
        assert_eq!(capabilities("2.5.4-0.1.1_3.2"), capabilities("2.5.4"));
        assert_eq!(capabilities("2.6.0-rc1"), capabilities("v2.6.0"));
    }

    #[test]
    fn a_build_between_releases_counts_as_the_head_of_its_line() {
        assert_eq!(capabilities("v2.5.4-3-gabc-dev"), capabilities("2.5.99"));
        assert_eq!(capabilities("v2.4.0-12-gabc"), capabilities("2.4.99"));
        assert_eq!(capabilities("2.6-20260404-31fb3fc"), capabilities("2.6.99"));
        assert_eq!(capabilities("v2.3.4-1-gabc"), []);
    }

    #[test]
    fn a_build_without_a_version_counts_as_the_newest() {
        assert_eq!(capabilities("master-20260226-abcdef"), ALL);
        assert_eq!(capabilities("main-1234"), ALL);
    }

    #[test]
    fn older_servers_take_the_end_of_an_import_in_milliseconds_and_exclude_it() {
        let hybrid = (1_700_000_000_000 << 18) | 5;
        for version in ["2.3.5", "2.4.22", "2.5.4-0.1.1_3.2"] {
            assert_eq!(Capabilities::of_reported(version).import_end(hybrid), 1_700_000_000_001, "{version}");
        }
        assert_eq!(Capabilities::of_reported("2.5.27").import_end(hybrid), hybrid);
    }
}
