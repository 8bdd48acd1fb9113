//! The engine gate: the Milvus builds that can be backed up and restored.

use std::fmt;

/// How far a version is in its release. A pre-release is older than its release, as in semantic versioning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    PreRelease,
    Release,
}

/// The version that a Milvus server reports.
///
/// `2.5.4-0.1.1_3.2` is a managed build: the Milvus version, a dash, and a minor build number that orders the builds of
/// one version. `v2.3.5-lite` and `2.6.1` are community builds.
///
/// A build between releases counts as the last release that its line will ever have, because its exact state is
/// unknown. `2.6-20260404-…` and `v2.2-testing-…` belong to the line that they name, `v2.5.4-3-gabc-dev` (the third
/// change after 2.5.4) to the 2.5 line, and `master-20260226-…` to the newest line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineVersion {
    milvus: [u32; 3],
    stage: Stage,
    build: Option<MinorBuild>,
    text: String,
}

/// A minor build such as `0.1.1_3.2`: numbers that are compared from left to right.
type MinorBuild = [u32; 5];

/// Stands for a version number that is later than that of every release.
const HEAD: u32 = u32::MAX;

/// The gate's decision about a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// Backup and restore work.
    Supported,
    /// Refused until the engine is upgraded to this version or a later one.
    UpgradeTo(&'static str),
    /// The server's answer can't be parsed as a version, so nothing is known about the engine.
    Unknown,
}

/// The first managed builds that can be backed up, per line.
const MANAGED_2_4: ([u32; 3], MinorBuild, &str) = ([2, 4, 22], [0, 1, 0, 3, 2], "2.4.22-0.1.0_3.2");
const MANAGED_2_5: ([u32; 3], MinorBuild, &str) = ([2, 5, 4], [0, 1, 1, 3, 2], "2.5.4-0.1.1_3.2");
/// The first community version that can be backed up.
///
/// 2.3.0 to 2.3.3 were tried. 2.3.0, which reports `v2.2-testing-…`, doesn't report the time of a flush. 2.3.1 can't
/// import collections with a partition key, and 2.3.2 and 2.3.3 can't import collections with an array. Rows that are
/// deleted and inserted again are lost (issue 29162).
const COMMUNITY: ([u32; 3], &str) = ([2, 3, 4], "2.3.4");

impl EngineVersion {
    /// Parses a reported version; `None` if the text isn't one.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (milvus, stage, build) = match bare.split_once('-') {
            None => (numbers(bare, &['.'])?, Stage::Release, None),
            Some((_, "")) => return None,
            Some((version, suffix)) => match between_releases(version, suffix) {
                Some(head) => (head, Stage::Release, None),
                None => {
                    let (stage, build) = parse_suffix(suffix)?;
                    (numbers(version, &['.'])?, stage, build)
                }
            },
        };
        Some(Self { milvus, stage, build, text: text.to_owned() })
    }

    /// The gate's decision about a reported version.
    pub fn gate(reported: &str) -> Support {
        Self::parse(reported).map_or(Support::Unknown, |version| version.support())
    }

    fn support(&self) -> Support {
        let Some(build) = self.build else {
            let supported = (self.milvus, self.stage) >= (COMMUNITY.0, Stage::Release);
            return if supported { Support::Supported } else { Support::UpgradeTo(COMMUNITY.1) };
        };
        let required = match self.milvus {
            [2, 5, _] => MANAGED_2_5,
            [major, minor, _] if (major, minor) > (2, 5) => return Support::Supported,
            _ => MANAGED_2_4,
        };
        if (self.milvus, build) >= (required.0, required.1) {
            Support::Supported
        } else {
            Support::UpgradeTo(required.2)
        }
    }

    /// Whether data of `other` can be imported into this engine: Milvus imports data of the same or an older version
    /// only. A build between releases accepts what the last release of its line will accept, and its data is accepted
    /// by no release that exists so far.
    pub fn can_import_from(&self, other: &Self) -> bool {
        self.milvus >= other.milvus
    }

    /// The Milvus version as `[major, minor, patch]`. A build between releases is later than every patch of its line.
    pub fn milvus(&self) -> [u32; 3] {
        self.milvus
    }
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The head of the line that a build between releases belongs to; `None` if the build is of a release.
fn between_releases(version: &str, suffix: &str) -> Option<[u32; 3]> {
    let day = suffix.split('-').next().unwrap_or_default();
    let is_dated = day.len() == 8 && numbers::<1>(day, &[]).is_some();
    if version == "master" {
        return is_dated.then_some([HEAD; 3]);
    }
    if let Some([major, minor]) = numbers(version, &['.']) {
        return (is_dated || suffix.starts_with(|c: char| c.is_ascii_alphabetic())).then_some([major, minor, HEAD]);
    }
    let [major, minor, _] = numbers::<3>(version, &['.'])?;
    is_described(suffix).then_some([major, minor, HEAD])
}

/// Whether the suffix has what `git describe` adds to the previous tag: the number of changes since, and `g` with the
/// last change's hash.
fn is_described(suffix: &str) -> bool {
    let parts: Vec<&str> = suffix.split('-').collect();
    parts.windows(2).any(|pair| {
        let hash = pair[1].strip_prefix('g').unwrap_or_default();
        numbers::<1>(pair[0], &[]).is_some() && !hash.is_empty() && hash.chars().all(|c| c.is_ascii_hexdigit())
    })
}

/// Parses what follows a release's version: a minor build, or a word.
fn parse_suffix(suffix: &str) -> Option<(Stage, Option<MinorBuild>)> {
    if suffix.starts_with(|c: char| c.is_ascii_digit()) {
        let (minor, patch) = suffix.split_once('_')?;
        let [a, b, c] = numbers(minor, &['.'])?;
        let [d, e] = numbers(patch, &['.'])?;
        return Some((Stage::Release, Some([a, b, c, d, e])));
    }
    let pre = ["alpha", "beta", "rc"].iter().any(|tag| suffix.starts_with(tag));
    Some((if pre { Stage::PreRelease } else { Stage::Release }, None))
}

/// Parses exactly `N` plain decimal numbers with these separators between them.
fn numbers<const N: usize>(text: &str, separators: &[char]) -> Option<[u32; N]> {
    let parts = text
        .split(separators)
        .map(|part| part.chars().all(|c| c.is_ascii_digit()).then(|| part.parse().ok()).flatten())
        .collect::<Option<Vec<u32>>>()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(text: &str) -> Support {
        EngineVersion::gate(text)
    }

    #[test]
    fn managed_builds_are_gated_at_both_boundaries_of_both_lines() {
        for supported in [
            "2.4.22-0.1.0_3.2",
            "2.4.22-0.1.0_3.3",
            "2.4.22-0.1.1_0.0",
            "2.4.23-0.0.1_0.0",
            "2.5.4-0.1.1_3.2",
            "2.5.4-0.1.1_3.10",
            "2.5.5-0.0.0_0.0",
            "2.6.0-0.0.1_0.1",
            "3.0.0-0.0.1_0.1",
        ] {
            assert_eq!(gate(supported), Support::Supported, "{supported}");
        }
        for (old, upgrade) in [
            ("2.4.22-0.1.0_3.1", "2.4.22-0.1.0_3.2"),
            ("2.4.22-0.0.9_9.9", "2.4.22-0.1.0_3.2"),
            ("2.4.21-0.1.0_3.2", "2.4.22-0.1.0_3.2"),
            ("2.3.9-0.1.0_3.2", "2.4.22-0.1.0_3.2"),
            ("2.5.4-0.1.1_3.1", "2.5.4-0.1.1_3.2"),
            ("2.5.4-0.1.0_3.2", "2.5.4-0.1.1_3.2"),
            ("2.5.3-0.1.1_3.2", "2.5.4-0.1.1_3.2"),
        ] {
            assert_eq!(gate(old), Support::UpgradeTo(upgrade), "{old}");
        }
    }

    #[test]
    fn community_builds_are_supported_from_2_3_4() {
        for supported in
            ["v2.3.5-lite", "2.6.11", "v2.3.4", "v2.3.4-gpu", "v2.4.0-rc.1", "2.5.4", "v2.5.4-dev", "v2.6.1-gpu"]
        {
            assert_eq!(gate(supported), Support::Supported, "{supported}");
        }
        for old in ["2.2.16", "v2.2.16", "1.1.1", "v2.3.0-beta", "2.3.0", "v2.3.3", "2.3.3-lite", "v2.3.4-rc1"] {
            assert_eq!(gate(old), Support::UpgradeTo("2.3.4"), "{old}");
        }
    }

    #[test]
    fn a_build_between_releases_counts_as_the_head_of_its_line() {
        for (build, head) in [
            ("v2.5.4-3-gabc-dev", [2, 5, HEAD]),
            ("v2.4.0-rc.1-100-g0123abc", [2, 4, HEAD]),
            ("v2.3.1-12-gdeadbee", [2, 3, HEAD]),
            ("2.6-20260404-31fb3fc", [2, 6, HEAD]),
            ("v2.6-20260404-31fb3fc-gpu", [2, 6, HEAD]),
            ("master-20260226-abcdef", [HEAD; 3]),
        ] {
            assert_eq!(EngineVersion::parse(build).unwrap().milvus(), head, "{build}");
            assert_eq!(gate(build), Support::Supported, "{build}");
        }
        // 2.3.0 itself reports the second version of this list.
        for old in ["2.2-20230809-abcdef0", "v2.2-testing-20230824-68-ga34a9d606", "v2.2.9-7-gabc"] {
            assert_eq!(gate(old), Support::UpgradeTo("2.3.4"), "{old}");
        }
        for release in ["2.5.4-0.1.1_3.2", "v2.5.4-dev", "v2.5.4-gpu", "v2.5.4-gabc", "v2.5.4"] {
            assert_eq!(EngineVersion::parse(release).unwrap().milvus(), [2, 5, 4], "{release}");
        }
    }

    #[test]
    fn what_is_not_a_version_is_never_supported() {
        for bad in [
            "",
            "v",
            "2",
            "2.4",
            "2.4.x",
            "2.4.22-",
            "2.4.22-0.1.0",
            "2.4.22-0.1_3.2",
            "2.4.22-0.1.0_3",
            "+2.4.1",
            "2.4.22.1",
            "2.4.99999999999",
            "master",
            "master-",
            "master-abc",
            "main-20240101-abc",
            "2.4-",
            "2.4-0.1.0_3.2",
            "2.5.4-3-xabc",
            "2.5.4-0.1.1_3.2_1",
            " 2.5.4",
        ] {
            assert_eq!(gate(bad), Support::Unknown, "{bad}");
        }
    }

    #[test]
    fn data_goes_into_the_same_or_a_newer_engine_only() {
        let version = |text| EngineVersion::parse(text).unwrap();
        assert!(version("2.4.0").can_import_from(&version("v2.3.5-lite")));
        assert!(version("2.4.0").can_import_from(&version("2.4.0")));
        assert!(!version("2.3.5").can_import_from(&version("2.4.0")));
        assert!(version("v2.5.4-3-gabc").can_import_from(&version("2.5.27")));
        assert!(version("v2.5.4-3-gabc").can_import_from(&version("2.5-20260404-31fb3fc")));
        assert!(!version("2.5.4").can_import_from(&version("v2.5.4-3-gabc")));
        assert!(!version("v2.5.4-3-gabc").can_import_from(&version("2.6.0")));
        assert!(version("master-20260226-abcdef").can_import_from(&version("2.6-20260404-31fb3fc")));
    }
}
