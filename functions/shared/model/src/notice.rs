//! Notices that users get without asking: how jobs ended, what expired, what was missed.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    Backup, BackupState, Due, DueKind, Failure, InstanceId, MissedRuns, Restore, RestoreState, Snapshot, Time,
};

/// The kind of event. Its `detail-type` is listed in `docs/events.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
pub enum NoticeKind {
    /// A backup became AVAILABLE with everything that was asked for.
    BackupCompleted,
    /// A backup became AVAILABLE, but something is missing from it, or may be missing.
    BackupIncomplete,
    /// A backup ended without a result.
    BackupFailed,
    /// A backup was cancelled by its caller.
    BackupCancelled,
    /// A backup has expired and is being deleted.
    BackupExpired,
    /// A verification found objects of a backup missing or changed.
    BackupDamaged,
    /// A restore completed with every collection in place.
    RestoreCompleted,
    /// A restore completed without the collections that it gave up.
    RestoreIncomplete,
    /// A restore ended without a result.
    RestoreFailed,
    /// A restore was cancelled by its caller.
    RestoreCancelled,
    /// A restore was rolled back: the previous collections are back in place.
    RestoreRolledBack,
    /// An automatic backup began long after its scheduled time.
    AutomaticBackupLate,
    /// An automatic backup can't be made.
    AutomaticBackupFailed,
    /// The time of an automatic backup was over before it could begin.
    AutomaticBackupMissed,
}

impl NoticeKind {
    /// The event's `detail-type`.
    pub fn detail_type(self) -> &'static str {
        match self {
            Self::BackupCompleted => "Backup Completed",
            Self::BackupIncomplete => "Backup Incomplete",
            Self::BackupFailed => "Backup Failed",
            Self::BackupCancelled => "Backup Cancelled",
            Self::BackupExpired => "Backup Expired",
            Self::BackupDamaged => "Backup Damaged",
            Self::RestoreCompleted => "Restore Completed",
            Self::RestoreIncomplete => "Restore Incomplete",
            Self::RestoreFailed => "Restore Failed",
            Self::RestoreCancelled => "Restore Cancelled",
            Self::RestoreRolledBack => "Restore Rolled Back",
            Self::AutomaticBackupLate => "Automatic Backup Late",
            Self::AutomaticBackupFailed => "Automatic Backup Failed",
            Self::AutomaticBackupMissed => "Automatic Backup Missed",
        }
    }
}

/// A notice for users. It is stored in the same commit as the change that it reports, and removed once published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// The instance that the notice is about.
    pub instance_id: InstanceId,
    /// Unique among the instance's notices, so that a user who gets a notice twice can recognize it.
    pub id: String,
    /// What happened.
    pub kind: NoticeKind,
    /// When it happened.
    pub at: Time,
    /// The event's `detail`.
    pub detail: Map<String, Value>,
}

impl Notice {
    fn new(instance_id: &InstanceId, subject: &str, kind: NoticeKind, at: Time, detail: Value) -> Self {
        let id = format!("{subject}.{kind}");
        let mut fields = Map::from_iter([("id".to_owned(), json!(id)), ("instanceId".to_owned(), json!(instance_id))]);
        if let Value::Object(detail) = detail {
            fields.extend(detail);
        }
        Self { instance_id: instance_id.clone(), id, kind, at, detail: fields }
    }

    fn for_backup(backup: &Backup, kind: NoticeKind, at: Time) -> Self {
        let snapshot = backup.state.snapshot();
        let totals = snapshot.map(|snapshot| snapshot.totals);
        let failure = match &backup.state {
            BackupState::Failed { failure, .. } | BackupState::Damaged { failure, .. } => Some(failure),
            _ => None,
        };
        let detail = json!({
            "backupId": backup.id,
            "name": backup.name,
            "type": backup.kind,
            "status": backup.state.status(),
            "complete": snapshot.and_then(Snapshot::is_complete),
            "incompleteReasons": snapshot.and_then(|snapshot| snapshot.completeness.reasons()),
            "sizeBytes": totals.map(|totals| totals.size_bytes),
            "addedBytes": totals.map(|totals| totals.added_bytes),
            "objects": totals.map(|totals| totals.objects),
            "createdAt": shown(backup.created_at),
            "startedAt": snapshot.map(|snapshot| shown(snapshot.started_at)),
            "expiresAt": backup.expires_at.map(shown),
            "failure": failure,
        });
        // A backup can be found damaged more than once.
        let subject = match kind {
            NoticeKind::BackupDamaged => format!("{}.{}", backup.id, at.timestamp_millis()),
            _ => backup.id.to_string(),
        };
        Self::new(&backup.instance_id, &subject, kind, at, detail)
    }

    /// A notice that a backup ended; `None` if it is in a state that users aren't notified about.
    pub fn backup_ended(backup: &Backup, at: Time) -> Option<Self> {
        let kind = match &backup.state {
            BackupState::Available(snapshot) if snapshot.completeness.is_complete() => NoticeKind::BackupCompleted,
            BackupState::Available(_) => NoticeKind::BackupIncomplete,
            BackupState::Damaged { .. } => NoticeKind::BackupDamaged,
            BackupState::Failed { .. } => NoticeKind::BackupFailed,
            BackupState::Cancelled { .. } => NoticeKind::BackupCancelled,
            BackupState::Pending
            | BackupState::Running(_)
            | BackupState::Deleting { .. }
            | BackupState::Deleted { .. } => return None,
        };
        Some(Self::for_backup(backup, kind, at))
    }

    /// A notice that a backup has expired.
    pub fn backup_expired(backup: &Backup, at: Time) -> Self {
        Self::for_backup(backup, NoticeKind::BackupExpired, at)
    }

    /// A notice that a restore ended; `None` if it hasn't.
    pub fn restore_ended(restore: &Restore, at: Time) -> Option<Self> {
        let (kind, failure) = match &restore.state {
            RestoreState::Completed { .. } if restore.completeness.is_complete() => {
                (NoticeKind::RestoreCompleted, None)
            }
            RestoreState::Completed { .. } => (NoticeKind::RestoreIncomplete, None),
            RestoreState::Failed { failure, .. } => (NoticeKind::RestoreFailed, Some(failure)),
            RestoreState::Cancelled { .. } => (NoticeKind::RestoreCancelled, None),
            RestoreState::RolledBack { .. } => (NoticeKind::RestoreRolledBack, None),
            RestoreState::Pending | RestoreState::Running(_) => return None,
        };
        let detail = json!({
            "restoreId": restore.id,
            "sourceInstanceId": restore.source_instance_id,
            "backupId": restore.backup_id,
            "backupName": restore.backup_name,
            "status": restore.state.status(),
            "complete": restore.is_complete(),
            "incompleteReasons": restore.completeness.reasons(),
            "warnings": restore.warnings.len(),
            "createdAt": shown(restore.created_at),
            "startedAt": restore.state.started_at().map(shown),
            "failure": failure,
        });
        Some(Self::new(&restore.instance_id, restore.id.as_str(), kind, at, detail))
    }

    /// A notice that an automatic backup began long after its scheduled time.
    pub fn run_late(backup: &Backup, scheduled_for: Time) -> Self {
        let detail = json!({
            "scheduledFor": shown(scheduled_for),
            "backupId": backup.id,
            "lateSeconds": (backup.created_at - scheduled_for).num_seconds(),
        });
        let subject = subject(scheduled_for);
        Self::new(&backup.instance_id, &subject, NoticeKind::AutomaticBackupLate, backup.created_at, detail)
    }

    /// A notice that an automatic backup can't be made.
    pub fn run_failed(instance: &InstanceId, scheduled_for: Time, failure: &Failure, at: Time) -> Self {
        let detail = json!({ "scheduledFor": shown(scheduled_for), "failure": failure });
        Self::new(instance, &subject(scheduled_for), NoticeKind::AutomaticBackupFailed, at, detail)
    }

    /// A notice that automatic backups were missed.
    pub fn runs_missed(instance: &InstanceId, missed: &MissedRuns, at: Time) -> Self {
        let detail = json!({
            "scheduledFor": shown(missed.first),
            "lastScheduledFor": shown(missed.last),
            "runs": missed.count,
            "failure": missed.failure,
        });
        Self::new(instance, &subject(missed.first), NoticeKind::AutomaticBackupMissed, at, detail)
    }

    /// When the sweep has to publish the notice, if the invocation that stored it couldn't.
    pub fn due(&self) -> Due {
        Due { kind: DueKind::Notice, at: self.at }
    }
}

fn subject(scheduled_for: Time) -> String {
    format!("run-{}", scheduled_for.timestamp())
}

fn shown(time: Time) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::{BackupKind, CaptureMethod, Completeness, Principal, Totals, Visibility};

    fn at(seconds: i64) -> Time {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn ended(kind: BackupKind, completeness: Completeness) -> Notice {
        let snapshot = Snapshot {
            started_at: at(1),
            completed_at: at(9),
            point_in_time: at(5),
            totals: Totals::default(),
            completeness,
            captured_as: Some(Principal { user: None, visibility: Visibility::Everything }),
        };
        let backup = Backup {
            id: "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            instance_id: "orders".parse().unwrap(),
            name: "nightly".parse().unwrap(),
            kind,
            method: CaptureMethod::Binlog,
            region: "eu-west-1".parse().unwrap(),
            engine_version: "2.6.0".to_owned(),
            selection: Vec::new(),
            created_at: at(0),
            expires_at: None,
            kept_until: None,
            all_locked_until: None,
            locked_until: None,
            deletion_requested_at: None,
            cancel_requested_at: None,
            pins: Default::default(),
            verification: None,
            state: BackupState::Available(snapshot),
        };
        Notice::backup_ended(&backup, at(9)).unwrap()
    }

    #[test]
    fn an_incomplete_backup_is_told_apart_from_a_complete_one_whoever_asked_for_it() {
        for kind in [BackupKind::Manual, BackupKind::Auto] {
            let complete = ended(kind, Completeness::Complete);
            assert_eq!(complete.kind.detail_type(), "Backup Completed");
            assert_eq!(
                (&complete.detail["complete"], &complete.detail["incompleteReasons"]),
                (&json!(true), &Value::Null)
            );
            let incomplete = ended(kind, Completeness::Incomplete { reasons: vec!["some".to_owned()] });
            assert_eq!(incomplete.kind.detail_type(), "Backup Incomplete");
            assert_eq!(incomplete.detail["complete"], false);
            assert_eq!(incomplete.detail["incompleteReasons"], json!(["some"]));
            assert_eq!(incomplete.detail["status"], "AVAILABLE");
        }
    }
}
