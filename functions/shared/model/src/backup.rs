//! A backup and the states that it goes through.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{
    BackupId, BackupName, CollectionPattern, Due, DueKind, Ending, Failure, InstanceId, Progress, Region, RestoreId,
    Snapshot, Time,
};

/// Who asked for a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupKind {
    /// A caller, by name.
    Manual,
    /// The instance's schedule.
    Auto,
}

/// How the data was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureMethod {
    /// Copies of Milvus's own insert and delete logs.
    Binlog,
}

/// A backup as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Its id, which sorts by creation time.
    pub id: BackupId,
    /// Of which instance.
    pub instance_id: InstanceId,
    /// Unique among the instance's backups that aren't over.
    pub name: BackupName,
    /// Who asked.
    pub kind: BackupKind,
    /// How it is captured.
    pub method: CaptureMethod,
    /// Where the bytes are.
    pub region: Region,
    /// What the server reported when the backup was asked for.
    pub engine_version: String,
    /// Which collections; empty for all.
    pub selection: Vec<CollectionPattern>,
    /// When it was asked for.
    pub created_at: Time,
    /// When it is to be deleted without anyone asking; `None` for never.
    pub expires_at: Option<Time>,
    /// When the caller asked to stop it, if they did while it was pending or running.
    pub cancel_requested_at: Option<Time>,
    /// The restores that are reading it: it can't be deleted before they end.
    pub pins: BTreeSet<RestoreId>,
    /// Where it stands.
    pub state: BackupState,
}

/// The states of a backup, each with what is known in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupState {
    /// Accepted; no worker has begun.
    Pending,
    /// At work, or cleaning up what won't be finished.
    Running(BackupRun),
    /// Whole and verified.
    Available(Snapshot),
    /// Was available; a verification found an object missing or changed.
    #[serde(rename_all = "camelCase")]
    Damaged {
        /// What it was.
        snapshot: Snapshot,
        /// What was found.
        failure: Failure,
    },
    /// Over without a result; nothing of it is stored.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When it was given up.
        ended_at: Time,
        /// Why.
        failure: Failure,
    },
    /// Over because the caller asked; nothing of it is stored.
    #[serde(rename_all = "camelCase")]
    Cancelled {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When it was over.
        ended_at: Time,
    },
    /// Being deleted: no longer usable, its objects going.
    #[serde(rename_all = "camelCase")]
    Deleting {
        /// What it was.
        snapshot: Snapshot,
        /// Since when.
        since: Time,
    },
    /// Gone; the record stays.
    #[serde(rename_all = "camelCase")]
    Deleted {
        /// What it was.
        snapshot: Snapshot,
        /// Since when.
        deleted_at: Time,
    },
}

/// A running backup's durable state: enough for another worker to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupRun {
    /// When the first worker began.
    pub started_at: Time,
    /// How many invocations have worked on it.
    pub slices: u32,
    /// How often it had to begin again because its source changed.
    pub replans: u32,
    /// Whether it takes objects over from an earlier backup.
    pub reuse: Reuse,
    /// When it last got further.
    pub advanced_at: Time,
    /// What to do next.
    pub phase: BackupPhase,
    /// Of the present phase.
    pub progress: Progress,
}

/// The steps of a backup. What a step needs from those before it is in its variant or in the backup's working pages,
/// which carry the fence of the worker that wrote them: a worker that lost its lease can't spoil its successor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupPhase {
    /// Flush every collection and write down what it is.
    Flush,
    /// Decide which objects the backup consists of.
    #[serde(rename_all = "camelCase")]
    Plan {
        /// The fence under which the capture was written.
        capture: u64,
    },
    /// Copy the plan's pages, in order.
    #[serde(rename_all = "camelCase")]
    Copy {
        /// The fence under which the plan was written.
        plan: u64,
        /// How many pages it has.
        pages: u32,
        /// The first that isn't copied.
        next: u32,
        /// Bytes of the pages before it.
        done_bytes: u64,
        /// Bytes that this backup has stored anew.
        added_bytes: u64,
    },
    /// Find every object of the plan at the destination, then write the manifest.
    #[serde(rename_all = "camelCase")]
    Verify {
        /// The fence under which the plan was written.
        plan: u64,
        /// How many pages it has.
        pages: u32,
        /// Bytes that this backup has stored anew.
        added_bytes: u64,
    },
    /// The manifest is written: become AVAILABLE.
    Publish,
    /// Remove what was stored, then end.
    Clean(Ending),
}

/// Whether a backup may take objects over from an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reuse {
    /// From the newest available one.
    Newest,
    /// No: the newest one was found to lack something. Copying puts back what is missing.
    Nothing,
}

impl BackupPhase {
    /// The phase's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flush => "FLUSH",
            Self::Plan { .. } => "PLAN",
            Self::Copy { .. } => "COPY",
            Self::Verify { .. } => "VERIFY",
            Self::Publish => "PUBLISH",
            Self::Clean(_) => "CLEAN",
        }
    }
}

/// The status alone, as callers see and filter it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
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
    /// The status alone.
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
    /// Whether its manifest protects objects from being removed.
    pub fn is_living(&self) -> bool {
        matches!(self.state, BackupState::Available(_) | BackupState::Damaged { .. })
    }

    /// Whether it holds its name: another backup of the instance can take the name of one that is over.
    pub fn holds_name(&self) -> bool {
        matches!(self.state.status(), BackupStatus::Pending | BackupStatus::Running) || self.is_living()
    }

    /// What the sweep has to do with it, if anything.
    pub fn due(&self) -> Option<Due> {
        match &self.state {
            BackupState::Available(_) | BackupState::Damaged { .. } => {
                self.expires_at.map(|at| Due { kind: DueKind::Expiry, at })
            }
            BackupState::Deleting { since, .. } => Some(Due { kind: DueKind::Deletion, at: *since }),
            _ => None,
        }
    }
}

impl BackupRun {
    /// A run that begins now.
    pub fn begin(now: Time) -> Self {
        Self {
            started_at: now,
            slices: 0,
            replans: 0,
            reuse: Reuse::Newest,
            advanced_at: now,
            phase: BackupPhase::Flush,
            progress: Progress::default(),
        }
    }

    /// Whether it got no further for longer than `limit`.
    pub fn is_stalled(&self, now: Time, limit: TimeDelta) -> bool {
        now - self.advanced_at > limit
    }
}
