//! Jobs that are run until they are over.

use chrono::TimeDelta;
use milvault_jobs::{
    Folder, Jobs,
    backup::{self, CreateBackup},
    restore,
};
use milvault_model::{
    Backup, BackupKind, BackupState, CollectionCapture, InstanceId, Restore, RestoreId, RestoreState,
};
use milvault_ports::{Bucket, Deadline, Objects};

/// A deadline this many minutes from now.
pub fn minutes_left(jobs: &Jobs, minutes: i64) -> Deadline {
    Deadline::at(jobs.now() + TimeDelta::minutes(minutes))
}

/// A request for a manual backup of everything.
pub fn backup_request(instance: &InstanceId, name: &str) -> CreateBackup {
    CreateBackup {
        instance_id: instance.clone(),
        name: name.parse().unwrap(),
        kind: BackupKind::Manual,
        selection: Vec::new(),
        expires_in: None,
        idempotency: None,
    }
}

/// Takes a backup and returns it when it is over.
pub async fn take_backup(jobs: &Jobs, request: CreateBackup) -> Backup {
    let instance = request.instance_id.clone();
    let accepted = backup::create(jobs, request).await.unwrap();
    loop {
        backup::run(jobs, &instance, &accepted.id, minutes_left(jobs, 5)).await.unwrap();
        let found = jobs.ports.catalog.backup(&instance, &accepted.id).await.unwrap().unwrap().value;
        if !matches!(found.state, BackupState::Pending | BackupState::Running(_)) {
            return found;
        }
    }
}

/// Runs a restore and returns it when it is over.
pub async fn drive(jobs: &Jobs, instance: &InstanceId, id: &RestoreId) -> Restore {
    loop {
        restore::run(jobs, instance, id, minutes_left(jobs, 5)).await.unwrap();
        let found = jobs.ports.catalog.restore(instance, id).await.unwrap().unwrap().value;
        if !matches!(found.state, RestoreState::Pending | RestoreState::Running(_)) {
            return found;
        }
    }
}

/// The collections that a backup's documents have.
pub async fn captured(objects: &dyn Objects, bucket: &Bucket, backup: &Backup) -> Vec<CollectionCapture> {
    let folder = Folder::new(objects, bucket, &backup.instance_id, &backup.id);
    let manifest = folder.manifest().await.unwrap();
    let mut collections = Vec::new();
    for page in &manifest.collection_pages {
        collections.extend(folder.collections(page).await.unwrap());
    }
    collections
}
