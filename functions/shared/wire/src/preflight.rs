//! The report of a preflight.

use serde::{Deserialize, Serialize};

use crate::Open;

/// Whether an instance can be backed up and restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightView {
    /// Whether no check failed.
    pub ok: bool,
    /// The checks, in the order of their dependencies.
    pub checks: Vec<CheckView>,
}

/// One check of a preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// The subject of the check.
    pub name: Open<CheckName>,
    /// The outcome of the check.
    pub status: Open<CheckStatus>,
    /// The finding, for people.
    #[serde(default)]
    pub detail: String,
}

/// The subject of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckName {
    /// The server answers.
    Reachable,
    /// The server accepts the credentials.
    Authenticated,
    /// The server's version is supported.
    Version,
    /// The user sees every collection, and has the privileges that a backup needs.
    Visibility,
    /// The data bucket can be read.
    DataBucketReadable,
    /// Restores can stage their data in the data bucket.
    StagingWritable,
    /// The snapshot bucket can be written.
    SnapshotBucketWritable,
    /// The registered storage contains the server's data.
    DataFound,
    /// The server can hold its garbage collection during a backup.
    GarbageCollectionHold,
    /// The server's clock agrees with this service's.
    Clocks,
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CheckStatus {
    /// The check passed.
    Passed,
    /// Backups and restores work, but there is something that users should know.
    Warning,
    /// Backups or restores don't work.
    Failed,
    /// The check couldn't be made, or there is nothing to check.
    Skipped,
}

impl CheckName {
    /// Makes a check that passed.
    pub fn passed(self, detail: impl Into<String>) -> CheckView {
        self.ended(CheckStatus::Passed, detail)
    }

    /// Makes a check that passed with a warning.
    pub fn warning(self, detail: impl Into<String>) -> CheckView {
        self.ended(CheckStatus::Warning, detail)
    }

    /// Makes a check that failed.
    pub fn failed(self, detail: impl Into<String>) -> CheckView {
        self.ended(CheckStatus::Failed, detail)
    }

    /// Makes a check that was skipped.
    pub fn skipped(self, detail: impl Into<String>) -> CheckView {
        self.ended(CheckStatus::Skipped, detail)
    }

    fn ended(self, status: CheckStatus, detail: impl Into<String>) -> CheckView {
        CheckView { name: self.into(), status: status.into(), detail: detail.into() }
    }
}
