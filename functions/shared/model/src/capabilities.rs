//! The differences between Milvus's versions, decided in one place.
//!
//! Each rule names the public file that it comes from: a path in the repository `milvus-io/milvus`, or, after
//! "milvus-backup:", in `zilliztech/milvus-backup`, whose table of features is also by version.

use crate::{EngineVersion, milliseconds_of};

/// A capability that servers have from some version on.
///
/// Facts that the server itself can answer aren't here. For example, a pause of the garbage collection is tried, and a
/// 404 means that the server doesn't offer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// An import cuts rows off after a hybrid timestamp, inclusive. Earlier versions take the physical part of a
    /// timestamp and cut rows off from that time on.
    ///
    /// `internal/util/importutilv2/option.go` (`ParseTimeRange`), since the pull requests 40333 (2.5.6) and 40334
    /// (2.4.24); earlier, the same file and `internal/util/importutil/import_options.go` (`ParseTSFromOptions`, 2.3).
    /// That earlier versions exclude the end was tried on 2.3.5 and on an earlier 2.5; with a hybrid timestamp as the
    /// end, they cut nothing off.
    HybridImportEnd,
    /// `DescribeDatabase`.
    ///
    /// milvus-backup: `internal/client/milvus/grpc.go` (its table of features).
    DescribeDatabase,
    /// `BackupRBAC` and `RestoreRBAC`.
    ///
    /// Pull request 35513 to the 2.4 line, of August 2024. That 2.4.10 is the first release with it couldn't be
    /// verified.
    Rbac,
    /// REST `POST /v2/vectordb/segments/describe`: the log files of many segments, as recorded in Milvus's metadata.
    ///
    /// milvus-backup: `internal/client/milvus/restful.go` (address, request, answer) and `grpc.go` (the version); added
    /// by the pull requests 40464 and, to the 2.5 line, 40466.
    SegmentFiles,
    /// Storage v2: a "field" folder of insert logs may hold a group of columns. Such segments have to be imported
    /// separately, with the option `storage_version=2`. Each segment reports its own version.
    ///
    /// `internal/util/importutilv2/option.go` (`GetStorageVersion`); milvus-backup: `core/restore/coll_task.go` (a
    /// batch has one storage version).
    StorageV2,
    /// An import of a backup may skip the check of the disk quota, because the imported data is to replace existing
    /// data. Servers older than pull request 35274, of August 2024, ignore the option.
    ///
    /// `internal/util/importutilv2/option.go` (`SkipDiskQuotaCheck`), `internal/proxy/rate_limit_interceptor.go`;
    /// milvus-backup always sets it.
    SkipDiskQuota,
    /// The server divides an import job into tasks of some segments each, and a job may take hours. In earlier
    /// versions, a job is one task on one node, which is given up after 15 minutes (`rootCoord.importTaskExpiration`,
    /// 2.3).
    ///
    /// `internal/datacoord/import_util.go` (`RegroupImportFiles`, `NewImportTasks`), 2.4.
    DividedImports,
    /// Fields can be added to collections that have rows. Older segments have no logs of these fields.
    ///
    /// `internal/rootcoord/add_field_task.go`.
    AddedFields,
}

impl Capability {
    /// The first version with it in each line, as `[major, minor, patch]`; later lines have it too.
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

/// What a server can do, according to the version that it reports.
///
/// A pre-release counts as its release. A managed build such as `2.5.4-0.1.1_3.2` counts as the Milvus version that it
/// is made from, because what it has beyond that is unknown. A build between releases counts as the last release of its
/// line (milvus-backup does the same: `internal/client/milvus/grpc.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    milvus: [u32; 3],
}

impl Capabilities {
    /// The capabilities of a version.
    pub fn for_version(version: &EngineVersion) -> Self {
        Self { milvus: version.milvus() }
    }

    /// The capabilities of a reported version. A build without a version number gets those of the newest version,
    /// because such a build is made from it (milvus-backup does the same: `internal/client/milvus/grpc.go`).
    pub fn for_reported_version(reported: &str) -> Self {
        EngineVersion::parse(reported).map_or(Self { milvus: [u32::MAX; 3] }, |version| Self::for_version(&version))
    }

    /// Whether the server has this capability.
    pub fn has(&self, capability: Capability) -> bool {
        let since = capability.since();
        let is_of_line = |first: &&[u32; 3]| self.milvus[..2] == first[..2];
        let first = since.iter().find(is_of_line).or(since.last());
        first.is_some_and(|first| self.milvus >= *first)
    }

    /// The maximum number of segments for one import job. If the server divides jobs, it is the number that
    /// milvus-backup uses (`core/restore/coll_task.go`); otherwise it is what one node can import in time. A segment
    /// has at most a gigabyte.
    pub fn segments_per_import(&self) -> u32 {
        match self.has(Capability::DividedImports) {
            true => 256,
            false => 16,
        }
    }

    /// The value of an import's `end_ts` that keeps the rows up to and including this hybrid timestamp.
    ///
    /// Before [`Capability::HybridImportEnd`], the end is in milliseconds and excluded. One more keeps the rows of the
    /// same millisecond too.
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
        let capabilities = Capabilities::for_reported_version(version);
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
            assert_eq!(Capabilities::for_reported_version(version).has(HybridImportEnd), has, "{version}");
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
            assert_eq!(Capabilities::for_reported_version(version).import_end(hybrid), 1_700_000_000_001, "{version}");
        }
        assert_eq!(Capabilities::for_reported_version("2.5.27").import_end(hybrid), hybrid);
    }
}
