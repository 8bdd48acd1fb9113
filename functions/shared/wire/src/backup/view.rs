//! The backup object, as listings have it.

use milvault_model::{Backup, BackupKind, BackupPhase, BackupState, BackupStatus, CaptureMethod, CountKind, Time};
use serde::{Deserialize, Serialize};

use crate::{CompletenessView, FailureView, Open, PrincipalView, ProgressView, Timestamp};

/// A backup. A field whose value isn't known, or never will be, is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupView {
    /// The backup's id.
    pub backup_id: String,
    /// The instance that was backed up.
    #[serde(default)]
    pub instance_id: String,
    /// The backup's name.
    #[serde(default)]
    pub name: String,
    /// Who requested the backup.
    #[serde(rename = "type", default)]
    pub kind: Open<BackupKind>,
    /// How the data was captured.
    #[serde(default)]
    pub method: Open<CaptureMethod>,
    /// The backup's status.
    pub status: Open<BackupStatus>,
    /// The phase of a running backup, such as `COPY`; omitted otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The progress of the phase; omitted if `phase` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressView>,
    /// The bytes of all objects, including those shared with other backups; null until the backup is finished.
    pub size_bytes: Option<u64>,
    /// The bytes that the backup stored in addition to earlier backups; null until copying begins.
    pub added_bytes: Option<u64>,
    /// The number of collections; null until the backup is finished.
    pub collection_count: Option<u64>,
    /// The number of rows; null until the backup is finished.
    pub entity_count: Option<u64>,
    /// The kind of count that `entityCount` is; null if that is null.
    pub entity_count_is: Option<Open<CountKind>>,
    /// Whether the backup is complete.
    #[serde(flatten)]
    pub completeness: CompletenessView,
    /// The user that Milvus was queried as; null until the backup is finished, and in backups made before this was
    /// recorded.
    pub captured_as: Option<PrincipalView>,
    /// The version that the server reported.
    #[serde(default)]
    pub engine_version: String,
    /// The region that the bytes are stored in.
    #[serde(default)]
    pub region: String,
    /// When the backup was requested.
    #[serde(default)]
    pub created_at: Timestamp,
    /// When work on the backup began; null before.
    pub started_at: Option<Timestamp>,
    /// When the backup ended; null before.
    pub completed_at: Option<Timestamp>,
    /// The time whose data the backup has; null until it is finished.
    pub point_in_time: Option<Timestamp>,
    /// When the backup expires; null if it never does.
    pub expires_at: Option<Timestamp>,
    /// The time until which Object Lock prevents the deletion; omitted in a bucket without Object Lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
    /// Why the backup failed or is damaged; null otherwise.
    pub failure: Option<FailureView>,
}

impl BackupView {
    /// Makes the object from a record, as of now.
    pub fn new(backup: &Backup, now: Time) -> Self {
        let snapshot = backup.state.snapshot();
        let totals = snapshot.map(|snapshot| snapshot.totals);
        let mut view = Self {
            backup_id: backup.id.to_string(),
            instance_id: backup.instance_id.to_string(),
            name: backup.name.to_string(),
            kind: backup.kind.into(),
            method: backup.method.into(),
            status: backup.state.status().into(),
            phase: None,
            progress: None,
            size_bytes: totals.map(|totals| totals.size_bytes),
            added_bytes: totals.map(|totals| totals.added_bytes),
            collection_count: totals.map(|totals| totals.collections),
            entity_count: totals.map(|totals| totals.entities),
            entity_count_is: totals.map(|totals| totals.entities_are().into()),
            completeness: CompletenessView::new(snapshot),
            captured_as: snapshot.and_then(|snapshot| snapshot.captured_as.as_ref()).map(PrincipalView::new),
            engine_version: backup.engine_version.clone(),
            region: backup.region.to_string(),
            created_at: backup.created_at.into(),
            started_at: snapshot.map(|snapshot| snapshot.started_at.into()),
            completed_at: snapshot.map(|snapshot| snapshot.completed_at.into()),
            point_in_time: snapshot.map(|snapshot| snapshot.point_in_time.into()),
            // A backup whose deletion was requested while it was locked is deleted when the lock ends.
            expires_at: backup
                .deletion_requested_at
                .and(backup.locked_until)
                .or(backup.expires_at)
                .map(Timestamp::from),
            locked_until: backup.locked_until.filter(|_| backup.is_living()).map(Timestamp::from),
            failure: None,
        };
        match &backup.state {
            BackupState::Running(run) => {
                view.phase = Some(run.phase.name().to_owned());
                view.progress = Some(ProgressView::new(&run.progress, run.started_at, now));
                view.started_at = Some(run.started_at.into());
                if let BackupPhase::Copy(copying) = &run.phase {
                    view.added_bytes = Some(copying.done.added_bytes);
                }
            }
            BackupState::Failed { started_at, ended_at, failure } => {
                view.started_at = started_at.map(Timestamp::from);
                view.completed_at = Some((*ended_at).into());
                view.failure = Some(failure.into());
            }
            BackupState::Cancelled { started_at, ended_at } => {
                view.started_at = started_at.map(Timestamp::from);
                view.completed_at = Some((*ended_at).into());
            }
            BackupState::Damaged { failure, .. } => view.failure = Some(failure.into()),
            BackupState::Pending
            | BackupState::Available(_)
            | BackupState::Deleting { .. }
            | BackupState::Deleted { .. } => {}
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use milvault_model::{
        BackupRun, Completeness, Copied, Copying, Failure, FailureCode, Principal, Progress, Snapshot, Totals,
        Visibility,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::tests::written;

    fn at(seconds: i64) -> Time {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn view(state: BackupState) -> Value {
        let backup = Backup {
            id: "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            instance_id: "orders".parse().unwrap(),
            name: "before-migration".parse().unwrap(),
            kind: BackupKind::Manual,
            method: CaptureMethod::Binlog,
            region: "eu-west-1".parse().unwrap(),
            engine_version: "2.5.4-0.1.1_3.2".into(),
            selection: vec![],
            created_at: at(0),
            expires_at: None,
            kept_until: None,
            all_locked_until: None,
            locked_until: None,
            deletion_requested_at: None,
            cancel_requested_at: None,
            pins: Default::default(),
            verification: None,
            state,
        };
        written(&BackupView::new(&backup, at(20)))
    }

    fn snapshot() -> Snapshot {
        let totals = Totals {
            size_bytes: 123,
            added_bytes: 45,
            found_bytes: 0,
            objects: 6,
            collections: 3,
            entities: 60_000,
            counted_exactly: 3,
        };
        Snapshot {
            started_at: at(1),
            completed_at: at(9),
            point_in_time: at(5),
            totals,
            completeness: Completeness::Complete,
            captured_as: Some(Principal { user: Some("backup".into()), visibility: Visibility::Everything }),
        }
    }

    #[test]
    fn a_running_backup_shows_phase_and_progress_and_null_for_unknown_values() {
        let run = BackupRun {
            phase: BackupPhase::Copy(Copying {
                done: Copied { objects: 400, bytes: 50, added_bytes: 45 },
                ..Copying::default()
            }),
            progress: Progress {
                objects_done: 420,
                objects_total: 1000,
                bytes_done: 50,
                bytes_total: 100,
                imports: None,
            },
            ..BackupRun::begin(at(10))
        };
        assert_eq!(
            view(BackupState::Running(Box::new(run))),
            json!({
                "backupId": "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV", "instanceId": "orders", "name": "before-migration",
                "type": "MANUAL", "method": "BINLOG", "status": "RUNNING", "phase": "COPY",
                "progress": { "percent": 50, "objectsDone": 420, "objectsTotal": 1000, "bytesDone": 50,
                              "bytesTotal": 100, "etaSeconds": 10 },
                "sizeBytes": null, "addedBytes": 45, "collectionCount": null, "entityCount": null,
                "entityCountIs": null, "complete": null, "capturedAs": null,
                "engineVersion": "2.5.4-0.1.1_3.2", "region": "eu-west-1",
                "createdAt": "1970-01-01T00:00:00.000Z", "startedAt": "1970-01-01T00:00:10.000Z",
                "completedAt": null, "pointInTime": null, "expiresAt": null, "failure": null
            })
        );
    }

    #[test]
    fn a_finished_backup_shows_its_totals_and_no_progress() {
        let snapshot = snapshot();
        let available = view(BackupState::Available(snapshot.clone()));
        assert_eq!(available["sizeBytes"], 123);
        assert_eq!((&available["entityCount"], &available["entityCountIs"]), (&json!(60_000), &json!("EXACT")));
        assert_eq!(available["pointInTime"], "1970-01-01T00:00:05.000Z");
        assert!(available.get("progress").is_none() && available.get("phase").is_none());
        let failure = Failure::new(FailureCode::SnapshotDamaged, "gone");
        let damaged = view(BackupState::Damaged { snapshot, failure });
        assert_eq!(damaged["failure"], json!({ "code": "SNAPSHOT_DAMAGED", "message": "gone" }));
        assert_eq!(damaged["sizeBytes"], 123);
    }

    #[test]
    fn a_backup_shows_whether_it_is_complete_and_the_user_that_captured_it() {
        let mut snapshot = snapshot();
        let complete = view(BackupState::Available(snapshot.clone()));
        assert_eq!(complete["complete"], true);
        assert_eq!(complete.get("incompleteReasons"), None);
        assert_eq!(complete["capturedAs"], json!({ "user": "backup", "seesEverything": true }));

        let reason = "the user 'backup' may not see every collection".to_owned();
        snapshot.captured_as =
            Some(Principal { user: None, visibility: Visibility::Unsure { reason: reason.clone() } });
        snapshot.completeness = Completeness::Incomplete { reasons: vec![reason.clone()] };
        snapshot.totals.counted_exactly = 2;
        let incomplete = view(BackupState::Available(snapshot));
        assert_eq!((&incomplete["status"], &incomplete["complete"]), (&json!("AVAILABLE"), &json!(false)));
        assert_eq!(incomplete["incompleteReasons"], json!([reason]));
        assert_eq!(incomplete["capturedAs"], json!({ "user": null, "seesEverything": false }));
        assert_eq!(incomplete["entityCountIs"], "AT_MOST");
    }

    #[test]
    fn the_completeness_of_a_backup_made_before_it_was_recorded_is_unknown() {
        let mut old = snapshot();
        old.totals.counted_exactly = 0;
        old.captured_as = None;
        let old = view(BackupState::Available(old));
        assert_eq!((&old["complete"], &old["capturedAs"]), (&Value::Null, &Value::Null));
        assert_eq!((&old["entityCount"], &old["entityCountIs"]), (&json!(60_000), &json!("AT_MOST")));
    }

    #[test]
    fn a_failed_backup_has_its_cause_and_no_size() {
        let failure = Failure::new(FailureCode::SourceChanged, "too fast");
        let failed = view(BackupState::Failed { started_at: None, ended_at: at(3), failure });
        assert_eq!(failed["status"], "FAILED");
        assert_eq!(failed["failure"]["code"], "SOURCE_CHANGED");
        assert_eq!(failed["startedAt"], Value::Null);
        assert_eq!(failed["completedAt"], "1970-01-01T00:00:03.000Z");
        assert_eq!(failed["sizeBytes"], Value::Null);
    }
}
