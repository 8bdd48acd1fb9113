//! A fake Milvus and its bucket, reached through the adapter that the functions use.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use milvault_fake_milvus::{Access, DataBucket, FakeMilvus, Line};
use milvault_jobs::{
    Jobs, Ports, Settings, SnapshotBuckets,
    backup::{self, CreateBackup},
    restore::{self, BackupSelector, CreateRestore, DamagedBackup},
    snapshot,
};
use milvault_memory::{Alone, MemoryCatalog, MemoryEvents, MemoryObjects, MemorySchedules, SeededIds, binlog};
use milvault_milvus::{MilvusConnector, SecretError, SecretSource};
use milvault_model::{
    AllowedEndpoints, Auth, Backup, BackupKind, BackupState, CollectionCapture, CollectionName, Instance, OnError,
    Prices, Reload, Restore, RestoreId, RestoreMode, RestoreState, Snapshot, Storage, Time,
};
use milvault_ports::{Bucket, Catalog, Clock, Connector, Deadline, Expect, Milvus, Objects, OnRateLimit, Write};
use serde::Deserialize;

pub const ROOT: &str = "files";
const DATA: &str = "milvus-data";
const OTHER: &str = "other-data";

fn bucket(name: &str) -> Bucket {
    Bucket { region: "eu-west-1".parse().unwrap(), name: name.to_owned() }
}

fn instance(id: &str, fake: &FakeMilvus, data: &Bucket, root: &str) -> Instance {
    Instance {
        copy_workers: 1,
        id: id.parse().unwrap(),
        name: id.to_owned(),
        endpoint: fake.endpoint().to_owned(),
        region: data.region.clone(),
        storage: Some(Storage { bucket: data.name.clone(), root_path: root.parse().unwrap() }),
        auth: None,
        management_endpoint: Some(fake.management().to_owned()),
        created_at: DateTime::UNIX_EPOCH,
        reported_engine_version: None,
    }
}

/// Makes an instance known.
pub async fn register(catalog: &dyn Catalog, instance: &Instance) {
    catalog.commit(vec![Write::Instance(Box::new(instance.clone()), Expect::Absent)]).await.unwrap();
}

pub struct World {
    pub fake: FakeMilvus,
    pub objects: Arc<MemoryObjects>,
    pub data: Bucket,
    pub snapshots: Bucket,
    pub instance: Instance,
    pub secret: Arc<Secret>,
    pub connector: Arc<dyn Connector>,
    pub schedules: Arc<MemorySchedules>,
    pub events: Arc<MemoryEvents>,
}

/// One secret for everything, and how often it was asked for.
pub struct Secret {
    says: Mutex<Result<String, SecretError>>,
    reads: AtomicUsize,
}

impl Secret {
    pub fn set(&self, says: Result<&str, SecretError>) {
        *self.says.lock().unwrap() = says.map(str::to_owned);
    }

    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl SecretSource for Secret {
    async fn secret(&self, _: &str) -> Result<String, SecretError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.says.lock().unwrap().clone()
    }
}

impl World {
    pub async fn of(line: Line) -> Self {
        Self::with(line, Access::Open, None).await
    }

    /// A server with this root path, registered with it too.
    pub async fn rooted(line: Line, root: &str) -> Self {
        Self::started(line, Access::Open, None, root).await
    }

    /// A server for `access`, and a connector with this secret.
    pub async fn with(line: Line, access: Access, secret: Option<&str>) -> Self {
        Self::started(line, access, secret, ROOT).await
    }

    async fn started(line: Line, access: Access, secret: Option<&str>, root: &str) -> Self {
        let [data, other, snapshots] = [DATA, OTHER, "snapshots"].map(bucket);
        let objects = Arc::new(MemoryObjects::new([&data, &other, &snapshots]));
        let store = DataBucket { objects: objects.clone(), bucket: data.clone(), root: root.to_owned() };
        let fake = FakeMilvus::start_for(line, store, access).await;
        let auth = secret.map(|_| Auth { secret_arn: "arn:aws:secretsmanager:eu-west-1:1:secret:milvus".to_owned() });
        let instance = Instance { auth, ..instance("fake", &fake, &data, root) };
        let says = Mutex::new(Ok(secret.unwrap_or_default().to_owned()));
        let secret = Arc::new(Secret { says, reads: AtomicUsize::new(0) });
        let connector = Arc::new(MilvusConnector::new(secret.clone(), "127.0.0.0/8".parse().unwrap()));
        let (schedules, events) = (Arc::default(), Arc::default());
        Self { fake, objects, data, snapshots, instance, secret, connector, schedules, events }
    }

    /// What the jobs run on, with a catalog of its own that knows the instance.
    pub async fn jobs(&self) -> Jobs {
        let catalog = Arc::new(MemoryCatalog::new());
        register(catalog.as_ref(), &self.instance).await;
        Jobs {
            ports: Ports {
                catalog,
                objects: self.objects.clone(),
                milvus: self.connector.clone(),
                continuation: Arc::new(Alone),
                copy_workers: Arc::new(Alone),
                schedules: self.schedules.clone(),
                events: self.events.clone(),
                clock: Arc::new(RealClock),
                ids: Arc::new(SeededIds::new(1)),
            },
            settings: Settings {
                snapshots: SnapshotBuckets::new(self.snapshots.clone(), []),
                endpoints: AllowedEndpoints::any(),
                prices: Prices::default(),
                cursor_key: milvault_jobs::CursorKey::new("of a test"),
                billing_account: String::new(),
                lease: TimeDelta::seconds(60),
                stall: TimeDelta::seconds(30),
                import_stall: TimeDelta::seconds(30),
                imports_in_flight: 32,
                objects_per_page: 3,
                copies_in_flight: 4,
            },
        }
    }

    /// Another server, with a bucket and a root path of its own.
    pub async fn beside(&self, line: Line) -> Self {
        let data = bucket(OTHER);
        let store = DataBucket { objects: self.objects.clone(), bucket: data.clone(), root: "other/root".to_owned() };
        let fake = FakeMilvus::start(line, store).await;
        Self {
            instance: instance("other", &fake, &data, "other/root"),
            objects: self.objects.clone(),
            snapshots: self.snapshots.clone(),
            secret: self.secret.clone(),
            connector: self.connector.clone(),
            schedules: self.schedules.clone(),
            events: self.events.clone(),
            fake,
            data,
        }
    }

    pub async fn milvus(&self) -> Arc<dyn Milvus> {
        self.connector.connect(&self.instance).await.unwrap()
    }
}

pub fn name(collection: &str) -> CollectionName {
    CollectionName::new("default", collection)
}

/// The real time: the server is real enough to need some.
struct RealClock;

#[async_trait]
impl Clock for RealClock {
    fn now(&self) -> Time {
        Utc::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Takes a backup of everything, until it is over.
pub async fn back_up(jobs: &Jobs, world: &World) -> Backup {
    back_up_as(jobs, world, "nightly").await
}

/// Takes a backup of everything under this name, until it is over.
pub async fn back_up_as(jobs: &Jobs, world: &World, name: &str) -> Backup {
    back_up_for(jobs, world, name, None).await
}

/// Takes a backup of everything that is kept for so long, until it is over.
pub async fn back_up_for(jobs: &Jobs, world: &World, name: &str, expires_in: Option<TimeDelta>) -> Backup {
    back_up_of(BackupKind::Manual, jobs, world, name, expires_in).await
}

/// Likewise, for who asks.
pub async fn back_up_of(
    kind: BackupKind,
    jobs: &Jobs,
    world: &World,
    name: &str,
    expires_in: Option<TimeDelta>,
) -> Backup {
    let request = CreateBackup {
        instance_id: world.instance.id.clone(),
        name: name.parse().unwrap(),
        kind,
        selection: Vec::new(),
        expires_in,
        idempotency: None,
    };
    take(jobs, world, request).await
}

/// Takes a backup of these collections and databases, until it is over.
pub async fn back_up_only(jobs: &Jobs, world: &World, selection: &[&str]) -> Backup {
    let request = CreateBackup {
        instance_id: world.instance.id.clone(),
        name: "selected".parse().unwrap(),
        kind: BackupKind::Manual,
        selection: selection.iter().map(|pattern| pattern.parse().unwrap()).collect(),
        expires_in: None,
        idempotency: None,
    };
    take(jobs, world, request).await
}

async fn take(jobs: &Jobs, world: &World, request: CreateBackup) -> Backup {
    let accepted = backup::create(jobs, request).await.unwrap();
    loop {
        let deadline = Deadline::at(jobs.now() + TimeDelta::minutes(5));
        backup::run(jobs, &world.instance.id, &accepted.id, deadline).await.unwrap();
        let found = jobs.ports.catalog.backup(&world.instance.id, &accepted.id).await.unwrap().unwrap().value;
        if !matches!(found.state, BackupState::Pending | BackupState::Running(_)) {
            return found;
        }
    }
}

pub fn available(backup: &Backup) -> &Snapshot {
    match &backup.state {
        BackupState::Available(snapshot) => snapshot,
        state => panic!("the backup is {state:?}"),
    }
}

pub async fn captured(world: &World, backup: &Backup) -> Vec<CollectionCapture> {
    let (objects, bucket, instance) = (world.objects.as_ref(), &world.snapshots, &world.instance.id);
    let manifest = snapshot::manifest(objects, bucket, instance, &backup.id).await.unwrap();
    let mut collections = Vec::new();
    for page in &manifest.collection_pages {
        collections.extend(snapshot::collections(objects, bucket, instance, &backup.id, page).await.unwrap());
    }
    collections
}

/// What is in a log of the fake: rows or deletes.
#[derive(Deserialize)]
struct Log {
    events: Vec<Event>,
}

#[derive(Clone, Copy, Deserialize)]
struct Event {
    key: i64,
    timestamp: u64,
}

/// The copies of a collection's logs in the snapshot bucket, by their source keys.
async fn copies_of(world: &World, collection: i64) -> BTreeMap<String, String> {
    let (objects, bucket) = (world.objects.as_ref(), &world.snapshots);
    let (mut found, mut after) = (BTreeMap::new(), None);
    loop {
        let listing = objects.list(bucket, "", after.as_deref()).await.unwrap();
        for object in &listing.objects {
            let body = objects.get(bucket, &object.key).await.unwrap().unwrap();
            let Some((source, log)) = copy_of(&body) else { continue };
            if source.split('/').nth(1) == Some(&collection.to_string()) {
                assert!(found.insert(source.to_owned(), log.to_owned()).is_none(), "{source} is there twice");
            }
        }
        after = listing.objects.last().map(|object| object.key.clone());
        if !listing.more {
            return found;
        }
    }
}

/// Flushes a collection, and waits until that is over.
pub async fn flush(milvus: &dyn Milvus, name: &CollectionName) {
    let flush = milvus.flush(name, OnRateLimit::Wait).await.unwrap();
    while !milvus.is_flushed(name, &flush).await.unwrap() {}
}

/// The source key and the content of a log's copy; `None` for what is none.
pub fn copy_of(body: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(binlog::note(body)?).ok()?;
    text.strip_prefix("the content of ")?.split_once('\n')
}

/// The primary keys that a captured collection's logs have at its point in time, by partition. A row that is there twice
/// is a failure.
pub async fn content(world: &World, capture: &CollectionCapture) -> BTreeMap<String, BTreeSet<i64>> {
    let (mut rows, mut deleted) = (Vec::new(), BTreeMap::<i64, u64>::new());
    let mut folders = BTreeMap::<i64, String>::new();
    for (key, log) in copies_of(world, capture.id).await {
        let parts: Vec<&str> = key.split('/').collect();
        let [kind, _, partition, segment] = parts[..4] else { panic!("{key}") };
        let (partition, segment): (i64, i64) = (partition.parse().unwrap(), segment.parse().unwrap());
        // Every field has all of the rows: one of them tells.
        let tells = kind == "delta_log" || *folders.entry(segment).or_insert_with(|| parts[4].to_owned()) == parts[4];
        if !tells || !capture.segments.iter().any(|known| known.id == segment) {
            continue;
        }
        let log: Log = serde_json::from_str(&log).unwrap();
        let at_its_moment = log.events.into_iter().filter(|event| event.timestamp <= capture.flush_timestamp);
        if kind == "delta_log" {
            for delete in at_its_moment {
                let at = deleted.entry(delete.key).or_default();
                *at = delete.timestamp.max(*at);
            }
        } else {
            rows.extend(at_its_moment.map(|row| (partition, row)));
        }
    }
    let mut found: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for (partition, row) in rows {
        if deleted.get(&row.key).is_none_or(|at| *at < row.timestamp) {
            let partition = capture.partitions.iter().find(|known| known.id == partition).unwrap();
            let is_new = found.entry(partition.name.clone()).or_default().insert(row.key);
            assert!(is_new, "row {} of {} is there twice", row.key, capture.name);
        }
    }
    found
}

/// Restores all of a backup in place of what is live.
pub fn request(backup: &Backup, into: &Instance) -> CreateRestore {
    CreateRestore {
        instance_id: into.id.clone(),
        source_instance_id: backup.instance_id.clone(),
        backup: BackupSelector::Id(backup.id.clone()),
        selection: Vec::new(),
        rename: BTreeMap::new(),
        damaged: DamagedBackup::Refuse,
        mode: RestoreMode::Replace,
        reload: Reload::AsBefore,
        on_error: OnError::Stop,
        keep_previous_hours: 24,
        idempotency: None,
    }
}

/// Works on a restore until it is over.
pub async fn drive(jobs: &Jobs, into: &Instance, id: &RestoreId) -> Restore {
    loop {
        let deadline = Deadline::at(Utc::now() + TimeDelta::minutes(5));
        restore::run(jobs, &into.id, id, deadline).await.unwrap();
        let found = jobs.ports.catalog.restore(&into.id, id).await.unwrap().unwrap().value;
        if !matches!(found.state, RestoreState::Pending | RestoreState::Running(_)) {
            return found;
        }
    }
}

/// Restores all of a backup, until that is over.
pub async fn restore(jobs: &Jobs, backup: &Backup, into: &Instance) -> Restore {
    restore_as(jobs, request(backup, into), into).await
}

/// Restores what is asked for, until that is over.
pub async fn restore_as(jobs: &Jobs, request: CreateRestore, into: &Instance) -> Restore {
    let accepted = restore::create(jobs, request).await.unwrap();
    drive(jobs, into, &accepted.id).await
}

/// Leaves a gap among the ids of a collection's fields: a collection that is made after it has other ones.
pub async fn leave_a_gap(fake: &FakeMilvus, collection: &str) {
    fake.add_field(collection, "dropped").await;
    fake.add_field(collection, "kept").await;
    fake.drop_field(collection, "dropped").await;
}
