//! The backup object, and what describing it adds.

use milvault_model::{
    Backup, BackupId, BackupKind, BackupName, BackupPhase, BackupState, BackupStatus, CaptureMethod, CollectionCapture,
    CountKind, Failure, InstanceId, LeftOut, LeftOutCause, Principal, Region, Snapshot, Time, Visibility,
};
use serde::Serialize;

use super::{ProgressView, Timestamp};

/// A backup as callers see it. What isn't known yet, or never will be, is null.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupView<'a> {
    backup_id: &'a BackupId,
    instance_id: &'a InstanceId,
    name: &'a BackupName,
    #[serde(rename = "type")]
    kind: BackupKind,
    method: CaptureMethod,
    status: BackupStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView>,
    size_bytes: Option<u64>,
    added_bytes: Option<u64>,
    collection_count: Option<u64>,
    entity_count: Option<u64>,
    entity_count_is: Option<CountKind>,
    #[serde(flatten)]
    completeness: CompletenessView,
    captured_as: Option<PrincipalView<'a>>,
    engine_version: &'a str,
    region: &'a Region,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    point_in_time: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    /// In a bucket with Object Lock: it isn't deleted before.
    #[serde(skip_serializing_if = "Option::is_none")]
    locked_until: Option<Timestamp>,
    failure: Option<&'a Failure>,
}

impl<'a> BackupView<'a> {
    /// The object of a record, as of now.
    pub fn of(backup: &'a Backup, now: Time) -> Self {
        let snapshot = backup.state.snapshot();
        let totals = snapshot.map(|snapshot| snapshot.totals);
        let mut view = Self {
            backup_id: &backup.id,
            instance_id: &backup.instance_id,
            name: &backup.name,
            kind: backup.kind,
            method: backup.method,
            status: backup.state.status(),
            phase: None,
            progress: None,
            size_bytes: totals.map(|totals| totals.size_bytes),
            added_bytes: totals.map(|totals| totals.added_bytes),
            collection_count: totals.map(|totals| totals.collections),
            entity_count: totals.map(|totals| totals.entities),
            entity_count_is: totals.map(|totals| totals.entities_are()),
            completeness: CompletenessView::of(snapshot),
            captured_as: snapshot.and_then(|snapshot| snapshot.captured_as.as_ref()).map(PrincipalView::of),
            engine_version: &backup.engine_version,
            region: &backup.region,
            created_at: backup.created_at.into(),
            started_at: snapshot.map(|snapshot| snapshot.started_at.into()),
            completed_at: snapshot.map(|snapshot| snapshot.completed_at.into()),
            point_in_time: snapshot.map(|snapshot| snapshot.point_in_time.into()),
            // What was to be deleted while it was locked goes when that is over.
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
                view.phase = Some(run.phase.name());
                view.progress = Some(ProgressView::of(&run.progress, run.started_at, now));
                view.started_at = Some(run.started_at.into());
                if let BackupPhase::Copy(copying) = &run.phase {
                    view.added_bytes = Some(copying.done.added_bytes);
                }
            }
            BackupState::Failed { started_at, ended_at, failure } => {
                view.started_at = started_at.map(Timestamp::from);
                view.completed_at = Some((*ended_at).into());
                view.failure = Some(failure);
            }
            BackupState::Cancelled { started_at, ended_at } => {
                view.started_at = started_at.map(Timestamp::from);
                view.completed_at = Some((*ended_at).into());
            }
            BackupState::Damaged { failure, .. } => view.failure = Some(failure),
            BackupState::Pending
            | BackupState::Available(_)
            | BackupState::Deleting { .. }
            | BackupState::Deleted { .. } => {}
        }
        view
    }
}

/// Whether a backup has everything that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CompletenessView {
    /// Null in backups of before this was recorded, too.
    complete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete_reasons: Option<Vec<String>>,
}

impl CompletenessView {
    /// The fields of a backup's snapshot, once there is one.
    pub fn of(snapshot: Option<&Snapshot>) -> Self {
        snapshot.map_or_else(Self::default, |snapshot| Self {
            complete: snapshot.is_complete(),
            incomplete_reasons: snapshot.completeness.reasons().map(<[String]>::to_vec),
        })
    }
}

/// As whom Milvus was asked.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalView<'a> {
    /// Null where Milvus asks for no credentials, or they are a token without a name.
    user: Option<&'a str>,
    sees_everything: bool,
}

impl<'a> PrincipalView<'a> {
    /// The object of a snapshot's principal.
    fn of(principal: &'a Principal) -> Self {
        Self { user: principal.user.as_deref(), sees_everything: principal.visibility == Visibility::Everything }
    }
}

/// A backup with its last verification.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedView<'a> {
    #[serde(flatten)]
    backup: BackupView<'a>,
    verification: Option<VerificationView<'a>>,
}

impl<'a> VerifiedView<'a> {
    /// The object of a record, as of now.
    pub fn of(backup: &'a Backup, now: Time) -> Self {
        Self { backup: BackupView::of(backup, now), verification: VerificationView::of(backup) }
    }
}

/// What was found; of each list the first hundred keys.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationView<'a> {
    status: &'static str,
    started_at: Timestamp,
    completed_at: Option<Timestamp>,
    objects_checked: u64,
    missing: &'a [String],
    changed: &'a [String],
}

impl<'a> VerificationView<'a> {
    /// The object of a record's last verification, if there was one.
    pub fn of(backup: &'a Backup) -> Option<Self> {
        let last = backup.verification.as_ref()?;
        Some(Self {
            status: if last.completed_at.is_some() { "COMPLETED" } else { "RUNNING" },
            started_at: last.started_at.into(),
            completed_at: last.completed_at.map(Timestamp::from),
            objects_checked: last.objects_checked,
            missing: &last.missing,
            changed: &last.changed,
        })
    }
}

/// A backup with a page of its collections.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupDescription<'a> {
    /// What lists show.
    #[serde(flatten)]
    pub backup: BackupView<'a>,
    /// Its last verification.
    pub verification: Option<VerificationView<'a>>,
    /// Its databases, with those of their collections that are on this page.
    pub databases: Vec<DatabaseView>,
    /// What was there and isn't in it.
    pub left_out: Vec<LeftOutView>,
    /// Where the collections go on; `None` at their end.
    pub next_cursor: Option<String>,
}

/// A database of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseView {
    name: String,
    collections: Vec<CollectionView>,
}

/// A collection of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionView {
    name: String,
    entity_count: u64,
    entity_count_is: CountKind,
    size_bytes: u64,
    partitions: usize,
    point_in_time: Timestamp,
}

/// Something that was there and isn't in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOutView {
    collection: String,
    cause: &'static str,
    reason: String,
}

impl LeftOutView {
    /// The object of a manifest's entry.
    pub fn of(left_out: &LeftOut) -> Self {
        let cause = match left_out.cause {
            LeftOutCause::Restores => "RESTORES",
            LeftOutCause::Dropped => "DROPPED",
            LeftOutCause::Trouble => "TROUBLE",
        };
        Self { collection: left_out.collection.to_string(), cause, reason: left_out.reason.clone() }
    }
}

/// Collections by database: those of `names` in their order, whether or not they have any, then any others.
pub fn databases(names: impl IntoIterator<Item = String>, captures: &[CollectionCapture]) -> Vec<DatabaseView> {
    let mut databases: Vec<DatabaseView> =
        names.into_iter().map(|name| DatabaseView { name, collections: Vec::new() }).collect();
    for capture in captures {
        let collection = CollectionView {
            name: capture.name.collection.clone(),
            entity_count: capture.rows.rows(),
            entity_count_is: capture.rows.kind(),
            size_bytes: capture.size_bytes,
            partitions: capture.partitions.len(),
            point_in_time: capture.point_in_time.into(),
        };
        match databases.iter_mut().find(|database| database.name == capture.name.database) {
            Some(database) => database.collections.push(collection),
            None => databases.push(DatabaseView { name: capture.name.database.clone(), collections: vec![collection] }),
        }
    }
    databases
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use milvault_model::{BackupRun, Completeness, Copied, Copying, FailureCode, Progress, Totals};
    use serde_json::{Value, json};

    use super::*;

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
        serde_json::to_value(BackupView::of(&backup, at(20))).unwrap()
    }

    #[test]
    fn a_running_backup_shows_phase_and_progress_and_nulls_for_what_is_not_known_yet() {
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
    fn a_finished_backup_shows_its_sums_and_no_progress() {
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
    fn a_backup_says_whether_it_is_complete_and_as_whom_it_was_captured() {
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
    fn a_backup_of_before_completeness_was_recorded_says_that_it_is_not_known() {
        let mut old = snapshot();
        old.totals.counted_exactly = 0;
        old.captured_as = None;
        let old = view(BackupState::Available(old));
        assert_eq!((&old["complete"], &old["capturedAs"]), (&Value::Null, &Value::Null));
        assert_eq!((&old["entityCount"], &old["entityCountIs"]), (&json!(60_000), &json!("AT_MOST")));
    }

    #[test]
    fn what_was_left_out_is_named_with_a_cause_for_programs_and_a_reason_for_people() {
        let of = |cause| {
            let left_out = LeftOut {
                collection: "default.items".parse().unwrap(),
                id: None,
                reason: "why".into(),
                cause,
                code: None,
            };
            serde_json::to_value(LeftOutView::of(&left_out)).unwrap()
        };
        assert_eq!(
            of(LeftOutCause::Trouble),
            json!({ "collection": "default.items", "cause": "TROUBLE", "reason": "why" })
        );
        assert_eq!(of(LeftOutCause::Restores)["cause"], "RESTORES");
        assert_eq!(of(LeftOutCause::Dropped)["cause"], "DROPPED");
    }

    #[test]
    fn a_failed_backup_names_its_cause_and_has_no_size() {
        let failure = Failure::new(FailureCode::SourceChanged, "too fast");
        let failed = view(BackupState::Failed { started_at: None, ended_at: at(3), failure });
        assert_eq!(failed["status"], "FAILED");
        assert_eq!(failed["failure"]["code"], "SOURCE_CHANGED");
        assert_eq!(failed["startedAt"], Value::Null);
        assert_eq!(failed["completedAt"], "1970-01-01T00:00:03.000Z");
        assert_eq!(failed["sizeBytes"], Value::Null);
    }
}
