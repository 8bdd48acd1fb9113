//! Automatic backups, as callers see them.

use milvault_model::{AutoBackup, AutoRunState, Backup, BackupId, BackupState, Failure, Switch, Time};
use serde::Serialize;

use super::{CompletenessView, Timestamp};

/// What is set, when the next run is, and what became of the last one.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoBackupView {
    enabled: bool,
    time: String,
    timezone: String,
    retention_days: u32,
    keep_at_least: u32,
    next_run_at: Option<Timestamp>,
    last_run: Option<AutoRunView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
}

/// What became of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoRunView {
    status: &'static str,
    backup_id: Option<BackupId>,
    /// Of the backup that it has made.
    #[serde(flatten)]
    completeness: CompletenessView,
    at: Timestamp,
    late_seconds: Option<i64>,
    failure: Option<Failure>,
}

impl AutoBackupView {
    /// The object of a record, with the backup that its last run made.
    pub fn of(record: &AutoBackup, made: Option<&Backup>, now: Time, warnings: Vec<&'static str>) -> Self {
        Self {
            enabled: matches!(record.switch, Switch::On { .. }),
            time: record.plan.time.to_string(),
            timezone: record.plan.timezone.to_string(),
            retention_days: record.plan.retention_days.into(),
            keep_at_least: record.plan.keep_at_least.into(),
            next_run_at: record.next_run(now).map(Timestamp::from),
            last_run: record.last_run.as_ref().map(|run| {
                let (status, backup_id, failure) = match &run.state {
                    AutoRunState::Waiting { failure, .. } => ("WAITING", None, Some(failure.clone())),
                    AutoRunState::Failed { failure, .. } => ("FAILED", None, Some(failure.clone())),
                    AutoRunState::Missed { failure, .. } => ("MISSED", None, Some(failure.clone())),
                    AutoRunState::Started { backup_id, .. } => {
                        let (status, failure) = became(made);
                        (status, Some(backup_id.clone()), failure)
                    }
                };
                let late_seconds = run.late_by().map(|late| late.num_seconds());
                // `made` is of a run that has made one.
                let completeness = CompletenessView::of(made.and_then(|backup| backup.state.snapshot()));
                AutoRunView { status, backup_id, completeness, at: run.scheduled_for.into(), late_seconds, failure }
            }),
            warnings,
        }
    }
}

/// What became of the backup that a run has made; that it was deleted since says nothing about the run.
fn became(made: Option<&Backup>) -> (&'static str, Option<Failure>) {
    match made.map(|backup| &backup.state) {
        Some(BackupState::Pending | BackupState::Running(_)) => ("RUNNING", None),
        Some(BackupState::Failed { failure, .. }) => ("FAILED", Some(failure.clone())),
        Some(BackupState::Cancelled { .. }) => ("CANCELLED", None),
        Some(BackupState::Damaged { failure, .. }) => ("COMPLETED", Some(failure.clone())),
        Some(BackupState::Available(_) | BackupState::Deleting { .. } | BackupState::Deleted { .. }) | None => {
            ("COMPLETED", None)
        }
    }
}
