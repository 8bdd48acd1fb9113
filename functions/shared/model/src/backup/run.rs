//! The durable state of a running backup.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{BackupId, Copying, Ending, Flushing, PageSet, Planning, Progress, Publishing, Time, Unsettled, Verifying};

/// A running backup's durable state, from which another worker can continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupRun {
    /// When the first worker began.
    pub started_at: Time,
    /// The number of invocations that have worked on the backup.
    pub slices: u32,
    /// How often part of the backup was planned again because its source changed.
    #[serde(rename = "replans")]
    pub repeated_plans: u32,
    /// When the whole backup was first planned again.
    #[serde(default)]
    pub unsettled_since: Option<Time>,
    /// Collections, by id, whose files were gone before they were copied.
    #[serde(default)]
    pub gone: Vec<Unsettled<i64>>,
    /// Pages of the survey, which lists the collections that existed when the backup began. `None` until it is written.
    #[serde(default)]
    pub survey: Option<PageSet>,
    /// Whether the backup reuses objects of an earlier backup.
    pub reuse: Reuse,
    /// When the backup last made progress.
    pub advanced_at: Time,
    /// The invocation in which it last made progress.
    #[serde(default)]
    pub advanced_in: u32,
    /// The step to do next.
    pub phase: BackupPhase,
    /// The progress of the present phase.
    pub progress: Progress,
}

/// The steps of a backup. What a step needs from earlier steps is in its variant or in the backup's working pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(tag = "phase", rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupPhase {
    /// Flush every collection and write down its description.
    Flush(Flushing),
    /// Decide which objects the backup consists of, and which of them have to be copied.
    Plan(Planning),
    /// Copy the objects on the plan's pages.
    Copy(Copying),
    /// Check that every object of the plan is at the destination, then write the manifest.
    Verify(Verifying),
    /// The manifest is written: make the backup AVAILABLE.
    Publish(Publishing),
    /// Remove the stored objects, then end.
    Clean(Ending),
}

/// Whether a backup may reuse objects of an earlier backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reuse {
    /// Reuse objects of the newest backup that is available when the planning begins.
    Newest,
    /// Reuse objects of this backup. It can't be deleted before the job ends, because both need the instance's lease.
    From(BackupId),
    /// Reuse nothing: there is no earlier backup, or it lacks an object. Copying restores the missing objects.
    Nothing,
}

impl BackupPhase {
    /// The phase's name in the API.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

impl BackupRun {
    /// A run that begins now.
    pub fn begin(now: Time) -> Self {
        Self {
            started_at: now,
            slices: 0,
            repeated_plans: 0,
            unsettled_since: None,
            gone: Vec::new(),
            survey: None,
            reuse: Reuse::Newest,
            advanced_at: now,
            advanced_in: 0,
            phase: BackupPhase::Flush(Flushing::default()),
            progress: Progress::default(),
        }
    }

    /// Whether the run has made no progress for longer than `limit`.
    pub fn is_stalled(&self, now: Time, limit: TimeDelta) -> bool {
        now - self.advanced_at > limit
    }
}
