//! The report of a preflight.

use serde::{Deserialize, Serialize};

use crate::Open;

/// Whether an instance can be backed up and restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightView {
    /// Whether no check failed.
    pub ok: bool,
    /// The checks, in the order in which they depend on each other.
    pub checks: Vec<CheckView>,
}

/// One check of a preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// Its subject.
    pub name: Open<CheckName>,
    /// Its outcome.
    pub status: Open<CheckStatus>,
    /// What was found, for people.
    #[serde(default)]
    pub detail: String,
}

/// The subject of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckName {
    /// The server answers.
    Reachable,
    /// It takes the credentials.
    Authenticated,
    /// Its version is supported.
    Version,
    /// Its user sees every collection, and may do what a backup does.
    Visibility,
    /// Its bucket can be read.
    DataBucketReadable,
    /// Restores can stage their data in its bucket.
    StagingWritable,
    /// The snapshots' bucket can be written.
    SnapshotBucketWritable,
    /// The registered storage has the server's data.
    DataFound,
    /// It keeps its garbage during a backup.
    GarbageCollectionHold,
    /// Its clock agrees with ours.
    Clocks,
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CheckStatus {
    /// All is well.
    Passed,
    /// Backups and restores work, and something about them should be known.
    Warning,
    /// Backups or restores don't work.
    Failed,
    /// It couldn't be made, or there is nothing to check.
    Skipped,
}

impl CheckName {
    /// A check that passed.
    pub fn passed(self, detail: impl Into<String>) -> CheckView {
        self.ended(CheckStatus::Passed, detail)
    }

    /// A check that found something that should be known.
    pub fn warning(self, detail: impl Into<String>) -> CheckView {
        self.ended(CheckStatus::Warning, detail)
    }

    /// A check that failed.
    pub fn failed(self, detail: impl Into<String>) -> CheckView {
        self.ended(CheckStatus::Failed, detail)
    }

    /// A check that wasn't made.
    pub fn skipped(self, detail: impl Into<String>) -> CheckView {
        self.ended(CheckStatus::Skipped, detail)
    }

    fn ended(self, status: CheckStatus, detail: impl Into<String>) -> CheckView {
        CheckView { name: self.into(), status: status.into(), detail: detail.into() }
    }
}
