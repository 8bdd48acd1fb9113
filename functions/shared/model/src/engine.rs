//! The engine gate: which Milvus builds can be backed up and restored (PRODUCT F9).

use std::fmt;

/// A pre-release is older than its release, as in semantic versioning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    PreRelease,
    Release,
}

/// The version that a Milvus server reports.
///
/// `2.5.4-0.1.1_3.2` is a managed build: the Milvus version, a dash, and a minor build that orders the builds of one
/// version. `v2.3.5-lite` and `2.6.1` are community builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineVersion {
    milvus: [u32; 3],
    stage: Stage,
    build: Option<MinorBuild>,
    text: String,
}

/// `0.1.1_3.2`: numbers that compare from left to right.
type MinorBuild = [u32; 5];

/// What the gate says of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// Backup and restore work.
    Supported,
    /// Refused, until the engine is at least at the version named.
    UpgradeTo(&'static str),
    /// The server's answer can't be read as a version, so nothing is known about it.
    Unknown,
}

/// The first managed builds that can be backed up, per line, and community's first version.
const MANAGED_2_4: ([u32; 3], MinorBuild, &str) = ([2, 4, 22], [0, 1, 0, 3, 2], "2.4.22-0.1.0_3.2");
const MANAGED_2_5: ([u32; 3], MinorBuild, &str) = ([2, 5, 4], [0, 1, 1, 3, 2], "2.5.4-0.1.1_3.2");
const COMMUNITY: ([u32; 3], &str) = ([2, 3, 0], "2.3.0");

impl EngineVersion {
    /// Reads a reported version; `None` for what is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (milvus, suffix) = match bare.split_once('-') {
            Some((milvus, suffix)) => (milvus, Some(suffix)),
            None => (bare, None),
        };
        let milvus = numbers(milvus, &['.'])?;
        let (stage, build) = match suffix {
            None => (Stage::Release, None),
            Some("") => return None,
            Some(suffix) if suffix.starts_with(|c: char| c.is_ascii_digit()) => {
                let (minor, patch) = suffix.split_once('_')?;
                let [a, b, c] = numbers(minor, &['.'])?;
                let [d, e] = numbers(patch, &['.'])?;
                (Stage::Release, Some([a, b, c, d, e]))
            }
            Some(suffix) => {
                let pre = ["alpha", "beta", "rc"].iter().any(|tag| suffix.starts_with(tag));
                (if pre { Stage::PreRelease } else { Stage::Release }, None)
            }
        };
        Some(Self { milvus, stage, build, text: text.to_owned() })
    }

    /// What the gate says of the version that a server reported.
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

    /// Whether data of `other` can be brought into this engine: Milvus imports from the same or an older version only.
    pub fn can_import_from(&self, other: &Self) -> bool {
        self.milvus >= other.milvus
    }

    /// The Milvus version as `[major, minor, patch]`.
    pub fn milvus(&self) -> [u32; 3] {
        self.milvus
    }
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Exactly `N` plain decimal numbers with these separators between them.
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
    fn community_builds_are_supported_from_2_3_0() {
        for supported in ["v2.3.5-lite", "2.6.1", "2.3.0", "v2.3.0-gpu", "v2.4.0-rc.1", "2.5.4", "v2.5.4-dev"] {
            assert_eq!(gate(supported), Support::Supported, "{supported}");
        }
        for old in ["2.2.16", "v2.2.16", "1.1.1", "v2.3.0-beta", "2.3.0-rc1"] {
            assert_eq!(gate(old), Support::UpgradeTo("2.3.0"), "{old}");
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
            "master-20240101-abc",
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
    }
}
