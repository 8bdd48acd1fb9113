//! A fake Milvus and its bucket, reached through the adapter that the functions use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_fake_milvus::{Access, DataBucket, FakeMilvus, Line};
use milvault_harness::{
    MemoryCatalog, MemoryEvents, MemoryObjects, MemorySchedules, RealClock, backup_request, binlog, bucket, drive,
    instance, list_all, locked, ports, register, settings, take_backup,
};
use milvault_jobs::{
    Jobs, Ports, Settings, SnapshotBuckets,
    backup::CreateBackup,
    restore::{self, BackupSelector, CreateRestore, DamagedBackup},
};
use milvault_milvus::{MilvusConnector, SecretError, SecretSource};
use milvault_model::{
    Auth, Backup, BackupKind, BackupState, CollectionCapture, CollectionName, Instance, OnError, Reload, Restore,
    RestoreMode, Snapshot, Storage,
};
use milvault_ports::{Bucket, Connector, Milvus, Objects, OnRateLimit};
use serde::Deserialize;

/// The root path of a server that isn't given another.
pub const ROOT: &str = "files";
const DATA: &str = "milvus-data";
const OTHER: &str = "other-data";

fn served(id: &str, fake: &FakeMilvus, data: &Bucket, root: &str) -> Instance {
    Instance {
        endpoint: fake.endpoint().to_owned(),
        storage: Some(Storage { bucket: data.name.clone(), root_path: root.parse().unwrap() }),
        management_endpoint: Some(fake.management().to_owned()),
        ..instance(id)
    }
}

/// A running server and what jobs on it need.
pub struct World {
    /// The server.
    pub fake: FakeMilvus,
    /// Every bucket.
    pub objects: Arc<MemoryObjects>,
    /// The server's own bucket.
    pub data: Bucket,
    /// The bucket for snapshots.
    pub snapshots: Bucket,
    /// The server as it is registered.
    pub instance: Instance,
    /// The secret with its credentials.
    pub secret: Arc<Secret>,
    /// The adapter.
    pub connector: Arc<dyn Connector>,
    /// The scheduler.
    pub schedules: Arc<MemorySchedules>,
    /// The event bus.
    pub events: Arc<MemoryEvents>,
}

/// One secret for every instance, and how often it was read.
pub struct Secret {
    says: Mutex<Result<String, SecretError>>,
    reads: AtomicUsize,
}

impl Secret {
    /// Has every later read return this.
    pub fn set(&self, says: Result<&str, SecretError>) {
        *locked(&self.says) = says.map(str::to_owned);
    }

    /// How often it has been read.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl SecretSource for Secret {
    async fn secret(&self, _: &str) -> Result<String, SecretError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        locked(&self.says).clone()
    }
}

impl World {
    /// A server of this line that is open to everyone.
    pub async fn of(line: Line) -> Self {
        Self::with(line, Access::Open, None).await
    }

    /// A server with this root path, with which it is also registered.
    pub async fn rooted(line: Line, root: &str) -> Self {
        Self::started(line, Access::Open, None, root).await
    }

    /// A server that only `access` may use, and a connector with this secret.
    pub async fn with(line: Line, access: Access, secret: Option<&str>) -> Self {
        Self::started(line, access, secret, ROOT).await
    }

    async fn started(line: Line, access: Access, secret: Option<&str>, root: &str) -> Self {
        let [data, other, snapshots] = [DATA, OTHER, "snapshots"].map(bucket);
        let objects = Arc::new(MemoryObjects::new([&data, &other, &snapshots]));
        let store = DataBucket { objects: objects.clone(), bucket: data.clone(), root: root.to_owned() };
        let fake = FakeMilvus::start_for(line, store, access).await;
        let auth = secret.map(|_| Auth { secret_arn: "arn:aws:secretsmanager:eu-west-1:1:secret:milvus".to_owned() });
        let instance = Instance { auth, ..served("fake", &fake, &data, root) };
        let says = Mutex::new(Ok(secret.unwrap_or_default().to_owned()));
        let secret = Arc::new(Secret { says, reads: AtomicUsize::new(0) });
        let connector = Arc::new(MilvusConnector::new(secret.clone(), "127.0.0.0/8".parse().unwrap()));
        let (schedules, events) = (Arc::default(), Arc::default());
        Self { fake, objects, data, snapshots, instance, secret, connector, schedules, events }
    }

    /// The jobs on this world, with a new catalog that has the instance.
    pub async fn jobs(&self) -> Jobs {
        let catalog = Arc::new(MemoryCatalog::new());
        register(catalog.as_ref(), &self.instance).await;
        Jobs {
            ports: Ports {
                milvus: self.connector.clone(),
                schedules: self.schedules.clone(),
                events: self.events.clone(),
                ..ports(catalog, self.objects.clone(), Arc::new(RealClock))
            },
            settings: Settings {
                stall: TimeDelta::seconds(30),
                import_stall: TimeDelta::seconds(30),
                objects_per_page: 3,
                copies_in_flight: 4,
                ..settings(SnapshotBuckets::new(self.snapshots.clone(), []))
            },
        }
    }

    /// Another server, with its own bucket and root path.
    pub async fn beside(&self, line: Line) -> Self {
        let data = bucket(OTHER);
        let store = DataBucket { objects: self.objects.clone(), bucket: data.clone(), root: "other/root".to_owned() };
        let fake = FakeMilvus::start(line, store).await;
        Self {
            instance: served("other", &fake, &data, "other/root"),
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

    /// A connection to the server.
    pub async fn milvus(&self) -> Arc<dyn Milvus> {
        self.connector.connect(&self.instance).await.unwrap()
    }
}

/// A collection of the database `default`.
pub fn name(collection: &str) -> CollectionName {
    CollectionName::new("default", collection)
}

/// Takes a backup of everything and returns it when it is over.
pub async fn back_up(jobs: &Jobs, world: &World) -> Backup {
    back_up_as(jobs, world, "nightly").await
}

/// Takes a backup of everything under this name and returns it when it is over.
pub async fn back_up_as(jobs: &Jobs, world: &World, name: &str) -> Backup {
    take_backup(jobs, backup_request(&world.instance.id, name)).await
}

/// Takes a backup of everything that expires after this time and returns it when it is over.
pub async fn back_up_for(jobs: &Jobs, world: &World, name: &str, expires_in: TimeDelta) -> Backup {
    let request = backup_request(&world.instance.id, name);
    take_backup(jobs, CreateBackup { expires_in: Some(expires_in), ..request }).await
}

/// Likewise, as an automatic backup.
pub async fn back_up_automatically(jobs: &Jobs, world: &World, name: &str, expires_in: TimeDelta) -> Backup {
    let request = backup_request(&world.instance.id, name);
    take_backup(jobs, CreateBackup { kind: BackupKind::Auto, expires_in: Some(expires_in), ..request }).await
}

/// Takes a backup of these collections and databases and returns it when it is over.
pub async fn back_up_only(jobs: &Jobs, world: &World, selection: &[&str]) -> Backup {
    let selection = selection.iter().map(|pattern| pattern.parse().unwrap()).collect();
    let request = backup_request(&world.instance.id, "selected");
    take_backup(jobs, CreateBackup { selection, ..request }).await
}

/// The snapshot of a backup, which has to be AVAILABLE.
pub fn available(backup: &Backup) -> &Snapshot {
    match &backup.state {
        BackupState::Available(snapshot) => snapshot,
        state => panic!("the backup is {state:?}"),
    }
}

/// The collections that a backup's documents have.
pub async fn captured(world: &World, backup: &Backup) -> Vec<CollectionCapture> {
    milvault_harness::captured(world.objects.as_ref(), &world.snapshots, backup).await
}

/// The rows or deletes in a log of the fake.
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
    let mut found = BTreeMap::new();
    for object in list_all(objects, bucket, "").await {
        let body = objects.get(bucket, &object.key).await.unwrap().unwrap();
        let Some((source, log)) = copy_of(&body) else { continue };
        if source.split('/').nth(1) == Some(&collection.to_string()) {
            assert!(found.insert(source.to_owned(), log.to_owned()).is_none(), "{source} is there twice");
        }
    }
    found
}

/// Flushes a collection and waits until the flush is over.
pub async fn flush(milvus: &dyn Milvus, name: &CollectionName) {
    let flush = milvus.flush(name, OnRateLimit::Wait).await.unwrap();
    while !milvus.is_flushed(name, &flush).await.unwrap() {}
}

/// The source key and the content of a log's copy; `None` for any other object.
pub fn copy_of(body: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(binlog::note(body)?).ok()?;
    text.strip_prefix("the content of ")?.split_once('\n')
}

/// The primary keys in a captured collection's logs at its point in time, by partition. Panics if a row is there twice.
pub async fn content(world: &World, capture: &CollectionCapture) -> BTreeMap<String, BTreeSet<i64>> {
    let (mut rows, mut deleted) = (Vec::new(), BTreeMap::<i64, u64>::new());
    let mut folders = BTreeMap::<i64, String>::new();
    for (key, log) in copies_of(world, capture.id).await {
        let parts: Vec<&str> = key.split('/').collect();
        let [kind, _, partition, segment] = parts[..4] else { panic!("{key}") };
        let (partition, segment): (i64, i64) = (partition.parse().unwrap(), segment.parse().unwrap());
        // Every field has all rows: one field is enough.
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

/// A request for a restore of all of a backup in place of what is live.
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

/// Restores all of a backup and returns the restore when it is over.
pub async fn restore(jobs: &Jobs, backup: &Backup, into: &Instance) -> Restore {
    restore_as(jobs, request(backup, into), into).await
}

/// Carries out a restore and returns it when it is over.
pub async fn restore_as(jobs: &Jobs, request: CreateRestore, into: &Instance) -> Restore {
    let accepted = restore::create(jobs, request).await.unwrap();
    drive(jobs, &into.id, &accepted.id).await
}

/// Leaves a gap among the ids of a collection's fields, so that a collection made from its schema has other ids.
pub async fn leave_a_gap(fake: &FakeMilvus, collection: &str) {
    fake.add_field(collection, "dropped").await;
    fake.add_field(collection, "kept").await;
    fake.drop_field(collection, "dropped").await;
}
