//! The backup object, and what describing it adds.

use milvault_model::{
    Backup, BackupId, BackupKind, BackupName, BackupPhase, BackupState, BackupStatus, CaptureMethod, CollectionCapture,
    Failure, InstanceId, LeftOut, Region, Time,
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
    size_bytes: u64,
    partitions: usize,
    point_in_time: Timestamp,
}

/// Something that was there and isn't in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOutView {
    collection: String,
    reason: String,
}

impl LeftOutView {
    /// The object of a manifest's entry.
    pub fn of(left_out: &LeftOut) -> Self {
        Self { collection: left_out.collection.to_string(), reason: left_out.reason.clone() }
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
    use milvault_model::{BackupRun, Copied, Copying, FailureCode, Progress, Snapshot, Totals};
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
            progress: Progress { objects_done: 420, objects_total: 1000, bytes_done: 50, bytes_total: 100 },
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
                "engineVersion": "2.5.4-0.1.1_3.2", "region": "eu-west-1",
                "createdAt": "1970-01-01T00:00:00.000Z", "startedAt": "1970-01-01T00:00:10.000Z",
                "completedAt": null, "pointInTime": null, "expiresAt": null, "failure": null
            })
        );
    }

    #[test]
    fn a_finished_backup_shows_its_sums_and_no_progress() {
        let totals = Totals {
            size_bytes: 123,
            added_bytes: 45,
            found_bytes: 0,
            objects: 6,
            collections: 3,
            entities: 60_000,
            counted_exactly: 3,
        };
        let snapshot = Snapshot {
            started_at: at(1),
            completed_at: at(9),
            point_in_time: at(5),
            totals,
            completeness: Default::default(),
            captured_as: None,
        };
        let available = view(BackupState::Available(snapshot.clone()));
        assert_eq!(available["sizeBytes"], 123);
        assert_eq!(available["entityCount"], 60_000);
        assert_eq!(available["pointInTime"], "1970-01-01T00:00:05.000Z");
        assert!(available.get("progress").is_none() && available.get("phase").is_none());
        let failure = Failure::new(FailureCode::SnapshotDamaged, "gone");
        let damaged = view(BackupState::Damaged { snapshot, failure });
        assert_eq!(damaged["failure"], json!({ "code": "SNAPSHOT_DAMAGED", "message": "gone" }));
        assert_eq!(damaged["sizeBytes"], 123);
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
