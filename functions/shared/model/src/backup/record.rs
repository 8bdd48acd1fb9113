//! A backup as the catalog keeps it, and its states.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{
    BackupId, BackupName, BackupRun, CaptureMethod, CollectionPattern, Due, DueKind, Failure, InstanceId, ObjectKey,
    Region, RestoreId, Snapshot, Time,
};

/// Who asked for a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupKind {
    /// A caller, who gave it a name.
    Manual,
    /// The instance's schedule.
    Auto,
}

/// A backup as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// The backup's id, which sorts by creation time.
    pub id: BackupId,
    /// The instance that is backed up.
    pub instance_id: InstanceId,
    /// The name, unique among the instance's pending, running and living backups.
    pub name: BackupName,
    /// Who asked for the backup.
    pub kind: BackupKind,
    /// How the data is captured.
    pub method: CaptureMethod,
    /// The region that the bytes are stored in.
    pub region: Region,
    /// The version that the server reported when the backup was requested.
    pub engine_version: String,
    /// The selected collections; empty selects all.
    pub selection: Vec<CollectionPattern>,
    /// When the backup was requested.
    pub created_at: Time,
    /// When the backup expires; `None` if it never does.
    pub expires_at: Option<Time>,
    /// The earliest time at which the sweep may delete the backup after its expiry, because it is one of the newest
    /// automatic backups.
    #[serde(default)]
    pub kept_until: Option<Time>,
    /// All of the backup's objects are locked at least until this time, in a bucket with Object Lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_locked_until: Option<Time>,
    /// The time until which some of the backup's objects may be locked, in a bucket with Object Lock. Nothing is
    /// removed before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
    /// When the caller asked to delete the backup while it was locked. It is deleted once the lock ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_requested_at: Option<Time>,
    /// When the caller asked to cancel the backup while it was pending or running.
    pub cancel_requested_at: Option<Time>,
    /// The restores that are reading the backup. It can't be deleted before they end.
    pub pins: BTreeSet<RestoreId>,
    /// The last verification since the backup became available, or the one in progress.
    #[serde(default)]
    pub verification: Option<Verification>,
    /// The present state.
    pub state: BackupState,
}

/// A comparison of a finished backup with the stored objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// When it began.
    pub started_at: Time,
    /// When it last made progress.
    pub advanced_at: Time,
    /// When it completed; `None` while it is in progress.
    pub completed_at: Option<Time>,
    /// The first of the manifest's object pages that isn't compared yet.
    pub next: u32,
    /// How many objects were compared.
    pub objects_checked: u64,
    /// Keys of missing objects and documents; the first hundred.
    pub missing: Vec<String>,
    /// Keys of objects and documents that differ from what was stored; the first hundred.
    pub changed: Vec<String>,
}

/// How often each finished backup is verified automatically.
const VERIFY_EVERY: TimeDelta = TimeDelta::days(7);

/// How long after its last progress a verification counts as interrupted: no invocation runs for more than 15 minutes.
const VERIFICATION_LOST: TimeDelta = TimeDelta::minutes(20);

/// The states of a backup, each with the data known in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupState {
    /// Accepted; no worker has begun.
    Pending,
    /// A worker is backing up, or cleaning up a backup that won't be finished.
    Running(Box<BackupRun>),
    /// Complete in storage, and verified.
    Available(Snapshot),
    /// Was available; a verification found an object missing or changed.
    #[serde(rename_all = "camelCase")]
    Damaged {
        /// The snapshot that it was when it was available.
        snapshot: Snapshot,
        /// What the verification found.
        failure: Failure,
    },
    /// Ended without a result; none of its objects are stored.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When the backup was given up.
        ended_at: Time,
        /// Why it failed.
        failure: Failure,
    },
    /// Cancelled by the caller; none of its objects are stored.
    #[serde(rename_all = "camelCase")]
    Cancelled {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When the clean-up completed.
        ended_at: Time,
    },
    /// Being deleted: no longer usable, and its objects are being removed.
    #[serde(rename_all = "camelCase")]
    Deleting {
        /// The snapshot that is being deleted.
        snapshot: Snapshot,
        /// When the deletion began.
        since: Time,
        /// The last object that is removed or already belongs to another backup. The objects after it still count as
        /// this backup's.
        #[serde(default)]
        after: Option<ObjectKey>,
    },
    /// Deleted; only the record remains.
    #[serde(rename_all = "camelCase")]
    Deleted {
        /// The snapshot that was deleted.
        snapshot: Snapshot,
        /// When the deletion completed.
        deleted_at: Time,
    },
}

/// The status without its data, as callers see it and filter by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupStatus {
    /// See [`BackupState::Pending`].
    Pending,
    /// See [`BackupState::Running`].
    Running,
    /// See [`BackupState::Available`].
    Available,
    /// See [`BackupState::Damaged`].
    Damaged,
    /// See [`BackupState::Failed`].
    Failed,
    /// See [`BackupState::Cancelled`].
    Cancelled,
    /// See [`BackupState::Deleting`].
    Deleting,
    /// See [`BackupState::Deleted`].
    Deleted,
}

impl BackupState {
    /// The status of this state.
    pub fn status(&self) -> BackupStatus {
        match self {
            Self::Pending => BackupStatus::Pending,
            Self::Running(_) => BackupStatus::Running,
            Self::Available(_) => BackupStatus::Available,
            Self::Damaged { .. } => BackupStatus::Damaged,
            Self::Failed { .. } => BackupStatus::Failed,
            Self::Cancelled { .. } => BackupStatus::Cancelled,
            Self::Deleting { .. } => BackupStatus::Deleting,
            Self::Deleted { .. } => BackupStatus::Deleted,
        }
    }

    /// The snapshot, in the states that have or had one.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Available(snapshot)
            | Self::Damaged { snapshot, .. }
            | Self::Deleting { snapshot, .. }
            | Self::Deleted { snapshot, .. } => Some(snapshot),
            Self::Pending | Self::Running(_) | Self::Failed { .. } | Self::Cancelled { .. } => None,
        }
    }
}

impl Backup {
    /// Whether the backup's manifest protects objects from removal.
    pub fn is_living(&self) -> bool {
        matches!(self.state, BackupState::Available(_) | BackupState::Damaged { .. })
    }

    /// When the sweep has to handle the backup, and what for; `None` if never.
    pub fn due(&self) -> Option<Due> {
        match &self.state {
            BackupState::Available(snapshot) | BackupState::Damaged { snapshot, .. } => {
                let verify_at = match &self.verification {
                    None => snapshot.completed_at + VERIFY_EVERY,
                    Some(Verification { completed_at: Some(completed_at), .. }) => *completed_at + VERIFY_EVERY,
                    Some(under_way) => under_way.advanced_at + VERIFICATION_LOST,
                };
                let expiry = self.deletion_requested_at.or(self.expires_at);
                let kept_until = self.kept_until.filter(|_| self.deletion_requested_at.is_none());
                let free = |at| [Some(at), kept_until, self.locked_until].into_iter().flatten().max();
                let expiry = expiry.and_then(free).filter(|at| *at <= verify_at);
                Some(match expiry {
                    Some(at) => Due { kind: DueKind::Expiry, at },
                    None => Due { kind: DueKind::Verification, at: verify_at },
                })
            }
            BackupState::Deleting { since, .. } => Some(Due { kind: DueKind::Deletion, at: *since }),
            _ => None,
        }
    }
}
