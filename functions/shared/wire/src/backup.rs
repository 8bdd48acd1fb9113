//! The backup object, what describing it adds, and the request for one.

use milvault_model::{
    Backup, BackupKind, BackupName, BackupPhase, BackupState, BackupStatus, CaptureMethod, CollectionCapture,
    CollectionPattern, CountKind, LeftOut, LeftOutCause, Principal, Snapshot, Time, Visibility,
};
use serde::{Deserialize, Serialize};

use crate::{Checked, FailureView, Open, ProgressView, Texts, Timestamp};

/// The body of a request for a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "")]
pub struct BackupRequest<T: Texts = Checked> {
    /// The backup's name.
    pub name: T::Of<BackupName>,
    /// Only these collections; all where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collections: Option<Vec<T::Of<CollectionPattern>>>,
    /// After how many days it is deleted; never where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<u32>,
}

/// A backup. What isn't known yet, or never will be, is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupView {
    /// Its id.
    pub backup_id: String,
    /// The instance that it is of.
    #[serde(default)]
    pub instance_id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Who asked for it.
    #[serde(rename = "type", default)]
    pub kind: Open<BackupKind>,
    /// How the data was captured.
    #[serde(default)]
    pub method: Open<CaptureMethod>,
    /// Where it stands.
    pub status: Open<BackupStatus>,
    /// What a running one does, such as `COPY`; left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// How far that is; left out where `phase` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressView>,
    /// The bytes of all its objects, those that it shares with other backups included; null until it is finished.
    pub size_bytes: Option<u64>,
    /// The bytes that it added to what earlier backups had stored; null until its copying begins.
    pub added_bytes: Option<u64>,
    /// How many collections it has; null until it is finished.
    pub collection_count: Option<u64>,
    /// How many rows it has; null until it is finished.
    pub entity_count: Option<u64>,
    /// What kind of count `entityCount` is; null where that is.
    pub entity_count_is: Option<Open<CountKind>>,
    /// Whether it has everything.
    #[serde(flatten)]
    pub completeness: CompletenessView,
    /// The user that Milvus was asked as; null until it is finished, and in backups of before this was recorded.
    pub captured_as: Option<PrincipalView>,
    /// The version that the server reported.
    #[serde(default)]
    pub engine_version: String,
    /// Where its bytes are.
    #[serde(default)]
    pub region: String,
    /// When it was asked for.
    #[serde(default)]
    pub created_at: Timestamp,
    /// When work on it began; null before.
    pub started_at: Option<Timestamp>,
    /// When it was over; null before.
    pub completed_at: Option<Timestamp>,
    /// The time whose data it has; null until it is finished.
    pub point_in_time: Option<Timestamp>,
    /// When it is deleted without anyone asking; null for never.
    pub expires_at: Option<Timestamp>,
    /// Until when Object Lock keeps it from being deleted; left out in a bucket without Object Lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
    /// Why it failed or is damaged; null otherwise.
    pub failure: Option<FailureView>,
}

impl BackupView {
    /// The object of a record, as of now.
    pub fn of(backup: &Backup, now: Time) -> Self {
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
            completeness: CompletenessView::of(snapshot),
            captured_as: snapshot.and_then(|snapshot| snapshot.captured_as.as_ref()).map(PrincipalView::of),
            engine_version: backup.engine_version.clone(),
            region: backup.region.to_string(),
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
                view.phase = Some(run.phase.name().to_owned());
                view.progress = Some(ProgressView::of(&run.progress, run.started_at, now));
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

/// Whether a backup or a restore has everything that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompletenessView {
    /// Null until that is known, and in backups of before this was recorded.
    pub complete: Option<bool>,
    /// The first reasons, for people; left out unless `complete` is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete_reasons: Option<Vec<String>>,
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

/// The user that Milvus was asked as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalView {
    /// Null where Milvus asks for no credentials, or they are a token without a name.
    pub user: Option<String>,
    /// Whether it is sure that the user sees every database and collection.
    pub sees_everything: bool,
}

impl PrincipalView {
    /// The object of a snapshot's principal.
    fn of(principal: &Principal) -> Self {
        Self { user: principal.user.clone(), sees_everything: principal.visibility == Visibility::Everything }
    }
}

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

/// A backup with the meaning of its deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedBackupView {
    /// The backup.
    #[serde(flatten)]
    pub backup: BackupView,
    /// What the deletion means, for people.
    #[serde(default)]
    pub warning: String,
}

/// A backup with a page of its collections.
///
/// Its lists may be left out, so that a reader gets the other objects of one backup as descriptions too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupDescription {
    /// What lists show.
    #[serde(flatten)]
    pub backup: BackupView,
    /// Its last verification; null before the first.
    pub verification: Option<VerificationView>,
    /// Its databases, with those of their collections that are on this page.
    #[serde(default)]
    pub databases: Vec<DatabaseView>,
    /// The collections that were there and aren't in it.
    #[serde(default)]
    pub left_out: Vec<LeftOutView>,
    /// Where the collections go on; null at their end.
    pub next_cursor: Option<String>,
}

/// A database of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseView {
    /// Its name.
    pub name: String,
    /// Its collections on this page.
    #[serde(default)]
    pub collections: Vec<CollectionView>,
}

/// A collection of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionView {
    /// Its name, without the database.
    pub name: String,
    /// How many rows it has.
    #[serde(default)]
    pub entity_count: u64,
    /// What kind of count that is.
    #[serde(default)]
    pub entity_count_is: Open<CountKind>,
    /// The bytes of its objects.
    #[serde(default)]
    pub size_bytes: u64,
    /// How many partitions it has.
    #[serde(default)]
    pub partitions: usize,
    /// The time whose data it has.
    #[serde(default)]
    pub point_in_time: Timestamp,
}

/// A collection that was there and isn't in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutView {
    /// Its name.
    pub collection: String,
    /// The cause, for programs.
    #[serde(default)]
    pub cause: Open<LeftOutCauseView>,
    /// The cause, for people.
    #[serde(default)]
    pub reason: String,
}

/// Why a collection isn't in a backup. Manifests spell these causes otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LeftOutCauseView {
    /// A restore made it, or keeps it for a rollback.
    Restores,
    /// It was dropped before its point in time: nothing of it is missing.
    Dropped,
    /// It was there and couldn't be captured: the backup is incomplete.
    Trouble,
}

impl LeftOutView {
    /// The object of a manifest's entry.
    pub fn of(left_out: &LeftOut) -> Self {
        let cause = match left_out.cause {
            LeftOutCause::Restores => LeftOutCauseView::Restores,
            LeftOutCause::Dropped => LeftOutCauseView::Dropped,
            LeftOutCause::Trouble => LeftOutCauseView::Trouble,
        };
        Self { collection: left_out.collection.to_string(), cause: cause.into(), reason: left_out.reason.clone() }
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
            entity_count_is: capture.rows.kind().into(),
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
    use milvault_model::{BackupRun, Completeness, Copied, Copying, Failure, FailureCode, Progress, Totals};
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
        written(&BackupView::of(&backup, at(20)))
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
            written(&LeftOutView::of(&left_out))
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
