//! The settings and runs of automatic backups.

use milvault_model::{AutoBackup, AutoRunState, Backup, BackupState, Switch, Time};
use serde::{Deserialize, Serialize};

use crate::{CompletenessView, FailureView, Open, Timestamp};

/// The body of a PUT that sets automatic backups. An omitted field gets its default or, if the request switches
/// automatic backups off, keeps its value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AutoBackupRequest {
    /// Whether automatic backups are on.
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
    /// Whether automatic backups are on.
    pub enabled: bool,
    /// When a run begins, `HH:MM:SS`.
    pub time: String,
    /// The IANA time zone of `time`.
    pub timezone: String,
    /// For how many days each backup is kept.
    pub retention_days: u32,
    /// How many of the newest backups are kept, however old they are.
    pub keep_at_least: u32,
    /// When the next run begins; null while automatic backups are off.
    pub next_run_at: Option<Timestamp>,
    /// The last run; null before the first one.
    pub last_run: Option<AutoRunView>,
    /// Warnings about a change, for people; omitted if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A run and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoRunView {
    /// The status of the run, or of the backup that it made.
    pub status: Open<AutoRunStatus>,
    /// The backup that the run made; null if it made none.
    pub backup_id: Option<String>,
    /// Whether that backup is complete.
    #[serde(flatten)]
    pub completeness: CompletenessView,
    /// The scheduled time.
    #[serde(default)]
    pub at: Timestamp,
    /// How many seconds late the run began; null if it began in time or not at all.
    pub late_seconds: Option<i64>,
    /// Why the run waits, or made no usable backup; null otherwise.
    pub failure: Option<FailureView>,
}

/// The status of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AutoRunStatus {
    /// The run can't begin yet, and is retried.
    Waiting,
    /// The run's backup is pending or running.
    Running,
    /// The run's backup became available. It may have been deleted or damaged since.
    Completed,
    /// The run made no backup, or its backup failed.
    Failed,
    /// The run's backup was cancelled.
    Cancelled,
    /// The run never began.
    Missed,
}

impl AutoBackupView {
    /// Makes the object from a record and the backup that its last run made.
    pub fn new(record: &AutoBackup, last: Option<&Backup>, now: Time, warnings: Vec<String>) -> Self {
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
                        let (status, failure) = run_result(last);
                        (status, Some(backup_id.to_string()), failure)
                    }
                };
                AutoRunView {
                    status: status.into(),
                    backup_id,
                    // `last` is `None` unless the run made a backup.
                    completeness: CompletenessView::new(last.and_then(|backup| backup.state.snapshot())),
                    at: run.scheduled_for.into(),
                    late_seconds: run.late_by().map(|late| late.num_seconds()),
                    failure,
                }
            }),
            warnings,
        }
    }
}

/// Returns the result of a run from the backup that it made. A later deletion of the backup doesn't change it.
fn run_result(backup: Option<&Backup>) -> (AutoRunStatus, Option<FailureView>) {
    match backup.map(|backup| &backup.state) {
        Some(BackupState::Pending | BackupState::Running(_)) => (AutoRunStatus::Running, None),
        Some(BackupState::Failed { failure, .. }) => (AutoRunStatus::Failed, Some(failure.into())),
        Some(BackupState::Cancelled { .. }) => (AutoRunStatus::Cancelled, None),
        Some(BackupState::Damaged { failure, .. }) => (AutoRunStatus::Completed, Some(failure.into())),
        Some(BackupState::Available(_) | BackupState::Deleting { .. } | BackupState::Deleted { .. }) | None => {
            (AutoRunStatus::Completed, None)
        }
    }
}
