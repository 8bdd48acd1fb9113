//! Records that tests begin with.

use std::collections::BTreeSet;

use chrono::DateTime;
use milvault_model::{
    Account, Backup, BackupId, BackupKind, BackupState, CaptureMethod, Hour, Instance, InstanceId, Region, Snapshot,
    Time, Totals,
};
use milvault_ports::{Bucket, Catalog, Expect, Write};

/// The region of everything that a test doesn't put elsewhere.
pub fn region() -> Region {
    "eu-west-1".parse().unwrap()
}

/// A bucket in [`region`].
pub fn bucket(name: &str) -> Bucket {
    Bucket { region: region(), name: name.to_owned() }
}

/// A registered Milvus in [`region`], without storage, authentication or a management endpoint.
pub fn instance(id: &str) -> Instance {
    Instance {
        id: id.parse().unwrap(),
        name: id.to_owned(),
        endpoint: format!("http://{id}:19530"),
        region: region(),
        storage: None,
        auth: None,
        management_endpoint: None,
        copy_workers: 1,
        created_at: DateTime::UNIX_EPOCH,
        reported_engine_version: None,
    }
}

/// Adds an instance to a catalog that doesn't have it.
pub async fn register(catalog: &dyn Catalog, instance: &Instance) {
    catalog.commit(vec![Write::Instance(Box::new(instance.clone()), Expect::Absent)]).await.unwrap();
}

/// A backup in [`region`] that has been accepted at this time.
pub fn pending(instance: &InstanceId, id: BackupId, at: Time) -> Backup {
    Backup {
        name: format!("of {}", at.format("%Y-%m-%d %H %M %S")).parse().unwrap(),
        id,
        instance_id: instance.clone(),
        kind: BackupKind::Manual,
        method: CaptureMethod::Binlog,
        region: region(),
        engine_version: "2.6.0".to_owned(),
        selection: Vec::new(),
        created_at: at,
        expires_at: None,
        kept_until: None,
        all_locked_until: None,
        locked_until: None,
        deletion_requested_at: None,
        cancel_requested_at: None,
        pins: BTreeSet::new(),
        verification: None,
        state: BackupState::Pending,
    }
}

/// A finished backup of this size, which stored all of it.
pub fn available(instance: &InstanceId, id: BackupId, made: Time, size_bytes: u64) -> Backup {
    let totals = Totals {
        size_bytes,
        added_bytes: size_bytes,
        found_bytes: 0,
        objects: 1,
        collections: 1,
        entities: 1,
        counted_exactly: 1,
    };
    let snapshot = Snapshot {
        started_at: made,
        completed_at: made,
        point_in_time: made,
        totals,
        completeness: Default::default(),
        captured_as: None,
    };
    Backup { state: BackupState::Available(snapshot), ..pending(instance, id, made) }
}

/// The account of a backup that has owned this many bytes since it was accepted.
pub fn account(backup: &Backup, bytes: u64) -> Account {
    let (instance, id) = (backup.instance_id.clone(), backup.id.clone());
    let since = Hour::containing(backup.created_at);
    Account::open(backup.region.clone(), (instance, id), backup.kind, bytes, (since, bytes))
}
