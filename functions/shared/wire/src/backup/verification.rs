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
    /// Its last verification; null before the first.
    pub verification: Option<VerificationView>,
}

impl VerifiedBackupView {
    /// The object of a record, as of now.
    pub fn of(backup: &Backup, now: Time) -> Self {
        Self { backup: BackupView::of(backup, now), verification: VerificationView::of(backup) }
    }
}

/// A comparison of a backup with what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationView {
    /// Whether it is over.
    pub status: Open<VerificationStatus>,
    /// When it began.
    #[serde(default)]
    pub started_at: Timestamp,
    /// When it was over; null before.
    pub completed_at: Option<Timestamp>,
    /// How many objects were compared.
    #[serde(default)]
    pub objects_checked: u64,
    /// The keys of objects that aren't there, the first hundred.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The keys of objects that aren't what was stored, the first hundred.
    #[serde(default)]
    pub changed: Vec<String>,
}

/// Whether a verification is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VerificationStatus {
    /// It is under way.
    Running,
    /// It is over.
    Completed,
}

impl VerificationView {
    /// The object of a record's last verification, if there was one.
    pub fn of(backup: &Backup) -> Option<Self> {
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
