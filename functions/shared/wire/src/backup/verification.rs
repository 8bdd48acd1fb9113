//! The last verification of a backup.

use milvault_model::{Backup, Time};
use serde::{Deserialize, Serialize};

use crate::{BackupView, Open, Timestamp};

/// A backup with its last verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedBackupView {
    /// The backup.
    #[serde(flatten)]
    pub backup: BackupView,
    /// The last verification; null before the first one.
    pub verification: Option<VerificationView>,
}

impl VerifiedBackupView {
    /// Makes the object from a record, as of now.
    pub fn new(backup: &Backup, now: Time) -> Self {
        Self { backup: BackupView::new(backup, now), verification: VerificationView::last(backup) }
    }
}

/// A comparison of a backup with the stored objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationView {
    /// Whether the verification is completed.
    pub status: Open<VerificationStatus>,
    /// When the verification began.
    #[serde(default)]
    pub started_at: Timestamp,
    /// When the verification was completed; null before.
    pub completed_at: Option<Timestamp>,
    /// The number of objects that were compared.
    #[serde(default)]
    pub objects_checked: u64,
    /// The keys of missing objects; the first hundred.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The keys of objects that differ from what was stored; the first hundred.
    #[serde(default)]
    pub changed: Vec<String>,
}

/// Whether a verification is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VerificationStatus {
    /// The verification is in progress.
    Running,
    /// The verification is completed.
    Completed,
}

impl VerificationView {
    /// Makes the object from a record's last verification, if there was one.
    pub fn last(backup: &Backup) -> Option<Self> {
        let last = backup.verification.as_ref()?;
        let status = match last.completed_at {
            Some(_) => VerificationStatus::Completed,
            None => VerificationStatus::Running,
        };
        Some(Self {
            status: status.into(),
            started_at: last.started_at.into(),
            completed_at: last.completed_at.map(Timestamp::from),
            objects_checked: last.objects_checked,
            missing: last.missing.clone(),
            changed: last.changed.clone(),
        })
    }
}
