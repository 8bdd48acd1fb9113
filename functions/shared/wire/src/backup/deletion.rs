//! The answer to a deletion.

use serde::{Deserialize, Serialize};

use crate::BackupView;

/// A deleted backup with a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedBackupView {
    /// The backup.
    #[serde(flatten)]
    pub backup: BackupView,
    /// The consequences of the deletion, for people.
    #[serde(default)]
    pub warning: String,
}
