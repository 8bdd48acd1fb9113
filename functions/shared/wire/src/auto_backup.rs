//! Automatic backups.

use milvault_model::{AutoBackup, AutoRunState, Backup, BackupState, Switch, Time};
use serde::{Deserialize, Serialize};

use crate::{CompletenessView, FailureView, Open, Timestamp};

/// The body of a PUT that sets automatic backups. What is left out gets its default or, when they are switched off, stays
/// as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AutoBackupRequest {
    /// Whether they are on.
    pub enabled: bool,
    /// When a run begins, `HH:MM` or `HH:MM:SS`; 03:00 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The IANA time zone of `time`; UTC by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// For how many days each backup is kept; 3 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u32>,
    /// How many of the newest backups are kept, however old they are; 0 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_at_least: Option<u32>,
}

/// The settings of automatic backups, the next run, and the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoBackupView {
    /// Whether they are on.
    pub enabled: bool,
    /// When a run begins, `HH:MM:SS`.
    pub time: String,
    /// The IANA time zone of `time`.
    pub timezone: String,
    /// For how many days each backup is kept.
    pub retention_days: u32,
    /// How many of the newest backups are kept, however old they are.
    pub keep_at_least: u32,
    /// When the next run begins; null while they are off.
    pub next_run_at: Option<Timestamp>,
    /// The last run; null before the first.
    pub last_run: Option<AutoRunView>,
    /// What the caller should know of a change, for people; left out where there is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A run and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoRunView {
    /// Where the run, or the backup that it made, stands.
    pub status: Open<AutoRunStatus>,
    /// The backup that it made; null where it made none.
    pub backup_id: Option<String>,
    /// Whether that backup has everything.
    #[serde(flatten)]
    pub completeness: CompletenessView,
    /// When it was to begin.
    #[serde(default)]
    pub at: Timestamp,
    /// By how many seconds it began late; null where it began in time, or not at all.
    pub late_seconds: Option<i64>,
    /// Why it waits, or made no usable backup; null otherwise.
    pub failure: Option<FailureView>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AutoRunStatus {
    /// It can't begin yet, and is tried again.
    Waiting,
    /// Its backup is pending or running.
    Running,
    /// Its backup was finished, whatever became of it since.
    Completed,
    /// It made no backup, or one that failed.
    Failed,
    /// Its backup was cancelled.
    Cancelled,
    /// It never began.
    Missed,
}

impl AutoBackupView {
    /// The object of a record, with the backup that its last run made.
    pub fn of(record: &AutoBackup, made: Option<&Backup>, now: Time, warnings: Vec<String>) -> Self {
        Self {
            enabled: matches!(record.switch, Switch::On { .. }),
            time: record.plan.time.to_string(),
            timezone: record.plan.timezone.to_string(),
            retention_days: record.plan.retention_days.into(),
            keep_at_least: record.plan.keep_at_least.into(),
            next_run_at: record.next_run(now).map(Timestamp::from),
            last_run: record.last_run.as_ref().map(|run| {
                let (status, backup_id, failure) = match &run.state {
                    AutoRunState::Waiting { failure, .. } => (AutoRunStatus::Waiting, None, Some(failure.into())),
                    AutoRunState::Failed { failure, .. } => (AutoRunStatus::Failed, None, Some(failure.into())),
                    AutoRunState::Missed { failure, .. } => (AutoRunStatus::Missed, None, Some(failure.into())),
                    AutoRunState::Started { backup_id, .. } => {
                        let (status, failure) = became(made);
                        (status, Some(backup_id.to_string()), failure)
                    }
                };
                AutoRunView {
                    status: status.into(),
                    backup_id,
                    // `made` is of a run that has made one.
                    completeness: CompletenessView::of(made.and_then(|backup| backup.state.snapshot())),
                    at: run.scheduled_for.into(),
                    late_seconds: run.late_by().map(|late| late.num_seconds()),
                    failure,
                }
            }),
            warnings,
        }
    }
}

/// What became of the backup that a run has made. A later deletion says nothing about the run.
fn became(made: Option<&Backup>) -> (AutoRunStatus, Option<FailureView>) {
    match made.map(|backup| &backup.state) {
        Some(BackupState::Pending | BackupState::Running(_)) => (AutoRunStatus::Running, None),
        Some(BackupState::Failed { failure, .. }) => (AutoRunStatus::Failed, Some(failure.into())),
        Some(BackupState::Cancelled { .. }) => (AutoRunStatus::Cancelled, None),
        Some(BackupState::Damaged { failure, .. }) => (AutoRunStatus::Completed, Some(failure.into())),
        Some(BackupState::Available(_) | BackupState::Deleting { .. } | BackupState::Deleted { .. }) | None => {
            (AutoRunStatus::Completed, None)
        }
    }
}
