//! The answer to a deletion.

use serde::{Deserialize, Serialize};

use crate::BackupView;

/// A backup with the meaning of its deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedBackupView {
    /// The backup.
    #[serde(flatten)]
    pub backup: BackupView,
    /// What the deletion means, for people.
    #[serde(default)]
    pub warning: String,
}
