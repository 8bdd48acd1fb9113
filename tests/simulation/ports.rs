//! The ports as an invocation gets them: in-memory ones behind a network on which everything may happen.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use futures::FutureExt;
use milvault_model::{
    Account, AutoBackup, Backup, BackupId, BackupName, CollectionCapture, CollectionName, CollectionRestore, DueKind,
    Grant, Hour, IndexCapture, Instance, InstanceId, JobRef, Loaded, Notice, PrimaryKey, Principal, Region, Restore,
    RestoreId, RestorePhase, Time, UsageExport, UsageRecord,
};
use milvault_ports::{
    Bucket, Catalog, CatalogError, Clock, CollectionDescription, Connector, Continuation, ContinuationError,
    CopyOutcome, CopyReport, CopyRequest, CopyTask, CopyWorkers, DueEntry, FlushResult, GarbageHold, Idempotency,
    ImportRequest, ImportStatus, ImportTasks, Lease, LeasePurpose, Listing, LockMode, Locking, Milvus, MilvusError,
    Objects, ObjectsError, OnRateLimit, Pace, Page, PageRequest, PutMode, PutOutcome, Segment, SegmentFiles, Versioned,
    Write,
};

use crate::{
    audit::Audit,
    belongings::{Right, rights_in, written},
    calls::{Nature, Network},
    fields,
    history::Invocation,
    server::{Lie, Server},
    world::WorkerId,
};

/// Milvus servers by the instance that each is registered as.
pub(crate) type Servers = Arc<Mutex<BTreeMap<InstanceId, Server>>>;

/// Where an invocation leaves its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report(pub(crate) Arc<Mutex<Option<Result<CopyReport, String>>>>);

/// What an invocation is given, whatever the port.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) network: Arc<Network>,
    pub(crate) worker: WorkerId,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) servers: Servers,
    pub(crate) audit: Arc<Audit>,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an in-memory port answers, which never waits.
pub(crate) fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("a port in memory answers at once")
}

fn no_catalog<T>(reason: String) -> Result<T, CatalogError> {
    Err(CatalogError::Unavailable(reason))
}

fn no_objects<T>(reason: String) -> Result<T, ObjectsError> {
    Err(ObjectsError::Unavailable(reason))
}

fn no_milvus<T>(reason: String) -> Result<T, MilvusError> {
    Err(MilvusError::Unreachable(reason))
}

impl Port {
    /// A read of the catalog.
    async fn look<T: Send + 'static>(
        &self,
        name: String,
        read: impl FnOnce(&dyn Catalog) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let catalog = self.catalog.clone();
        let effect = move || read(catalog.as_ref());
        self.network.call(self.worker, Nature::Read, name, effect, no_catalog).await
    }

    /// A call of the server of an instance.
    async fn ask<T: Send + 'static>(
        &self,
        instance: &InstanceId,
        nature: Nature,
        name: String,
        ask: impl FnOnce(&mut Server, Time) -> Result<T, MilvusError> + Send + 'static,
    ) -> Result<T, MilvusError> {
        let (servers, world, instance) = (self.servers.clone(), self.network.world.clone(), instance.clone());
        let effect = move || {
            let now = world.now();
            let mut servers = locked(&servers);
            let Some(server) = servers.get_mut(&instance) else { return no_milvus("no server".into()) };
            server.tick(now);
            server.answers()?;
            ask(server, now)
        };
        self.network.call(self.worker, nature, name, effect, no_milvus).await
    }
}

/// What a call is called, where anybody follows the history: much of the time would go into it.
macro_rules! title {
    ($port:expr, $($words:tt)*) => {
        $port.network.world.title(|| format!($($words)*))
    };
}

fn show(write: &Write) -> String {
    match write {
        Write::Backup(backup, expect) => format!("{} {:?} if {expect:?}", backup.id, backup.state),
        other => format!("{other:?}"),
    }
}

#[async_trait]
impl Catalog for Port {
    async fn commit(&self, writes: Vec<Write>) -> Result<(), CatalogError> {
        let name = title!(self, "commit {}", writes.iter().map(show).collect::<Vec<_>>().join("; "));
        let (catalog, audit) = (self.catalog.clone(), self.audit.clone());
        let effect = move || {
            let result = at_once(catalog.commit(writes.clone()));
            if result.is_ok() {
                audit.committed(&writes);
            }
            result
        };
        self.network.call(self.worker, Nature::Guarded, name, effect, no_catalog).await
    }

    async fn instance(&self, id: &InstanceId) -> Result<Option<Versioned<Instance>>, CatalogError> {
        let id = id.clone();
        self.look(title!(self, "instance {id}"), move |catalog| at_once(catalog.instance(&id))).await
    }

    async fn instances(&self, page: PageRequest) -> Result<Page<Instance>, CatalogError> {
        self.look("instances".to_owned(), move |catalog| at_once(catalog.instances(page))).await
    }

    async fn job(&self, instance: &InstanceId) -> Result<Option<JobRef>, CatalogError> {
        let instance = instance.clone();
        self.look(title!(self, "job {instance}"), move |catalog| at_once(catalog.job(&instance))).await
    }

    async fn backup(&self, instance: &InstanceId, id: &BackupId) -> Result<Option<Versioned<Backup>>, CatalogError> {
        let (instance, id) = (instance.clone(), id.clone());
        self.look(title!(self, "backup {id}"), move |catalog| at_once(catalog.backup(&instance, &id))).await
    }

    async fn backup_named(&self, instance: &InstanceId, name: &BackupName) -> Result<Option<BackupId>, CatalogError> {
        let (instance, name) = (instance.clone(), name.clone());
        self.look(title!(self, "backup named {name}"), move |catalog| at_once(catalog.backup_named(&instance, &name)))
            .await
    }

    async fn backups(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Versioned<Backup>>, CatalogError> {
        let instance = instance.clone();
        self.look(title!(self, "backups {instance}"), move |catalog| at_once(catalog.backups(&instance, page))).await
    }

    async fn restore(&self, instance: &InstanceId, id: &RestoreId) -> Result<Option<Versioned<Restore>>, CatalogError> {
        let (instance, id) = (instance.clone(), id.clone());
        self.look(title!(self, "restore {id}"), move |catalog| at_once(catalog.restore(&instance, &id))).await
    }

    async fn restores(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Restore>, CatalogError> {
        let instance = instance.clone();
        self.look(title!(self, "restores {instance}"), move |catalog| at_once(catalog.restores(&instance, page))).await
    }

    async fn ledger(&self, restore: &RestoreId, page: PageRequest) -> Result<Page<CollectionRestore>, CatalogError> {
        let restore = restore.clone();
        self.look(title!(self, "ledger {restore}"), move |catalog| at_once(catalog.ledger(&restore, page))).await
    }

    async fn auto_backup(&self, instance: &InstanceId) -> Result<Option<Versioned<AutoBackup>>, CatalogError> {
        let instance = instance.clone();
        self.look(title!(self, "automatic backups {instance}"), move |catalog| at_once(catalog.auto_backup(&instance)))
            .await
    }

    async fn notices(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Notice>, CatalogError> {
        let instance = instance.clone();
        self.look(title!(self, "notices {instance}"), move |catalog| at_once(catalog.notices(&instance, page))).await
    }

    async fn account(
        &self,
        region: &Region,
        instance: &InstanceId,
        backup: &BackupId,
    ) -> Result<Option<Versioned<Account>>, CatalogError> {
        let (region, instance, backup) = (region.clone(), instance.clone(), backup.clone());
        self.look(title!(self, "account {backup}"), move |catalog| {
            at_once(catalog.account(&region, &instance, &backup))
        })
        .await
    }

    async fn accounts(&self, region: &Region, page: PageRequest) -> Result<Page<Versioned<Account>>, CatalogError> {
        let region = region.clone();
        self.look("accounts".to_owned(), move |catalog| at_once(catalog.accounts(&region, page))).await
    }

    async fn usage(
        &self,
        region: &Region,
        hour: Hour,
        instance: Option<&InstanceId>,
        page: PageRequest,
    ) -> Result<Page<UsageRecord>, CatalogError> {
        let (region, instance) = (region.clone(), instance.cloned());
        let look = move |catalog: &dyn Catalog| at_once(catalog.usage(&region, hour, instance.as_ref(), page));
        self.look(title!(self, "usage {hour}"), look).await
    }

    async fn usage_export(&self, region: &Region) -> Result<Option<Versioned<UsageExport>>, CatalogError> {
        let region = region.clone();
        self.look("export".to_owned(), move |catalog| at_once(catalog.usage_export(&region))).await
    }

    async fn idempotency(&self, scope: &str, key: &str) -> Result<Option<Idempotency>, CatalogError> {
        let (scope, key) = (scope.to_owned(), key.to_owned());
        self.look(title!(self, "idempotency {key}"), move |catalog| at_once(catalog.idempotency(&scope, &key))).await
    }

    async fn acquire(
        &self,
        instance: &InstanceId,
        purpose: &LeasePurpose,
        now: Time,
        ttl: TimeDelta,
    ) -> Result<Option<Lease>, CatalogError> {
        let (catalog, audit, worker) = (self.catalog.clone(), self.audit.clone(), self.worker);
        let (instance, purpose) = (instance.clone(), purpose.clone());
        let name = title!(self, "acquire {instance}");
        let effect = move || {
            let result = at_once(catalog.acquire(&instance, &purpose, now, ttl));
            if let Ok(Some(lease)) = &result {
                audit.granted(lease, worker);
            }
            result
        };
        self.network.call(self.worker, Nature::Unguarded, name, effect, no_catalog).await
    }

    async fn renew(&self, lease: &Lease, until: Time) -> Result<bool, CatalogError> {
        let (catalog, audit, lease) = (self.catalog.clone(), self.audit.clone(), lease.clone());
        let name = title!(self, "renew {}", lease.fence);
        let effect = move || {
            let result = at_once(catalog.renew(&lease, until));
            if let Ok(true) = &result {
                audit.renewed(&lease);
            }
            result
        };
        self.network.call(self.worker, Nature::Unguarded, name, effect, no_catalog).await
    }

    async fn release(&self, lease: &Lease, due: Time) -> Result<(), CatalogError> {
        let (catalog, lease) = (self.catalog.clone(), lease.clone());
        let name = title!(self, "release {}", lease.fence);
        let effect = move || at_once(catalog.release(&lease, due));
        self.network.call(self.worker, Nature::Guarded, name, effect, no_catalog).await
    }

    async fn held_until(&self, lease: &Lease) -> Result<Option<Time>, CatalogError> {
        let lease = lease.clone();
        self.look(title!(self, "held until {}", lease.fence), move |catalog| at_once(catalog.held_until(&lease))).await
    }

    async fn due(&self, kind: DueKind, now: Time, page: PageRequest) -> Result<Page<DueEntry>, CatalogError> {
        self.look(title!(self, "due {kind:?}"), move |catalog| at_once(catalog.due(kind, now, page))).await
    }
}

#[async_trait]
impl Objects for Port {
    async fn list(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<Listing, ObjectsError> {
        let (objects, bucket, prefix) = (self.objects.clone(), bucket.clone(), prefix.to_owned());
        let after = after.map(str::to_owned);
        let name = title!(self, "list {} {prefix}", bucket.name);
        let effect = move || at_once(objects.list(&bucket, &prefix, after.as_deref()));
        self.network.call(self.worker, Nature::Read, name, effect, no_objects).await
    }

    async fn copy(&self, request: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError> {
        let (objects, audit) = (self.objects.clone(), self.audit.clone());
        let (from, to) = (request.from.clone(), request.to.clone());
        let (from_key, from_etag) = (request.from_key.to_owned(), request.from_etag.to_owned());
        let (to_key, size, stored_by) = (request.to_key.to_owned(), request.size, request.stored_by.to_owned());
        audit.writes(self.worker, &to, &to_key);
        let name = title!(self, "copy {to_key}");
        let effect = move || {
            let request = CopyRequest {
                from: &from,
                from_key: &from_key,
                from_etag: &from_etag,
                size,
                to: &to,
                to_key: &to_key,
                stored_by: &stored_by,
            };
            let result = at_once(objects.copy(request));
            if let Ok(CopyOutcome::Copied { .. }) = &result {
                audit.copied(&to_key, &stored_by);
            }
            audit.touched(&to, std::slice::from_ref(&to_key));
            result
        };
        self.network.call(self.worker, Nature::Unguarded, name, effect, no_objects).await
    }

    async fn put(&self, bucket: &Bucket, key: &str, body: Vec<u8>, mode: PutMode) -> Result<PutOutcome, ObjectsError> {
        let (objects, audit) = (self.objects.clone(), self.audit.clone());
        let (bucket, key) = (bucket.clone(), key.to_owned());
        audit.writes(self.worker, &bucket, &key);
        let name = title!(self, "put {key}");
        let effect = move || {
            let result = at_once(objects.put(&bucket, &key, body, mode));
            audit.touched(&bucket, &[key]);
            result
        };
        self.network.call(self.worker, Nature::Unguarded, name, effect, no_objects).await
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let (objects, bucket, key) = (self.objects.clone(), bucket.clone(), key.to_owned());
        let name = title!(self, "get {key}");
        let effect = move || at_once(objects.get(&bucket, &key));
        self.network.call(self.worker, Nature::Read, name, effect, no_objects).await
    }

    async fn get_range(&self, bucket: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectsError> {
        let (objects, bucket, key) = (self.objects.clone(), bucket.clone(), key.to_owned());
        let name = title!(self, "get {range:?} of {key}");
        let effect = move || at_once(objects.get_range(&bucket, &key, range));
        self.network.call(self.worker, Nature::Read, name, effect, no_objects).await
    }

    async fn delete(&self, bucket: &Bucket, keys: &[String]) -> Result<(), ObjectsError> {
        let (objects, audit) = (self.objects.clone(), self.audit.clone());
        let (bucket, keys) = (bucket.clone(), keys.to_vec());
        for key in &keys {
            audit.writes(self.worker, &bucket, key);
        }
        let name = title!(self, "delete {}", keys.join(" "));
        let effect = move || {
            let result = at_once(objects.delete(&bucket, &keys));
            audit.touched(&bucket, &keys);
            result
        };
        self.network.call(self.worker, Nature::Unguarded, name, effect, no_objects).await
    }

    async fn locking(&self, bucket: &Bucket) -> Result<Option<Locking>, ObjectsError> {
        let (objects, bucket) = (self.objects.clone(), bucket.clone());
        let name = title!(self, "locking of {}", bucket.name);
        let effect = move || at_once(objects.locking(&bucket));
        self.network.call(self.worker, Nature::Read, name, effect, no_objects).await
    }

    async fn lock(&self, bucket: &Bucket, key: &str, mode: LockMode, until: Time) -> Result<(), ObjectsError> {
        let (objects, bucket, key) = (self.objects.clone(), bucket.clone(), key.to_owned());
        let name = title!(self, "lock {key}");
        let effect = move || at_once(objects.lock(&bucket, &key, mode, until));
        self.network.call(self.worker, Nature::Unguarded, name, effect, no_objects).await
    }
}

#[async_trait]
impl Clock for Port {
    fn now(&self) -> Time {
        self.network.world.now()
    }

    async fn sleep(&self, duration: Duration) {
        let duration = TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(365));
        self.network.world.pause(duration).await;
    }
}

impl Port {
    /// Has a function invoked that nobody waits for.
    async fn start(&self, invocation: Invocation) -> Result<(), ContinuationError> {
        let network = self.network.clone();
        let name = title!(self, "start {invocation:?}");
        let effect = move || {
            // At least once: a second delivery is Lambda's right, and an accepted one that gets lost does happen.
            let faults = network.faults();
            let times = network.world.draw(|random| match random.below(1000) {
                lot if lot < faults.answer_lost * 4 => 2,
                lot if lot < faults.answer_lost * 4 + faults.refused * 2 => 0,
                _ => 1,
            });
            for _ in 0..times {
                network.world.invoke(invocation.clone());
            }
            Ok(())
        };
        self.network.call(self.worker, Nature::Guarded, name, effect, no_invocation).await
    }
}

fn no_invocation<T>(reason: String) -> Result<T, ContinuationError> {
    Err(ContinuationError(reason))
}

#[async_trait]
impl Continuation for Port {
    async fn resume(&self, job: &JobRef) -> Result<(), ContinuationError> {
        self.start(Invocation::Run(job.clone())).await
    }

    async fn verify(&self, instance: &InstanceId, backup: &BackupId) -> Result<(), ContinuationError> {
        self.start(Invocation::Verify(instance.clone(), backup.clone())).await
    }

    async fn begin_run(&self, instance: &InstanceId, scheduled_for: Time) -> Result<(), ContinuationError> {
        self.start(Invocation::Scheduled(instance.clone(), Some(scheduled_for))).await
    }
}

#[async_trait]
impl CopyWorkers for Port {
    async fn copy(&self, task: &CopyTask) -> Result<CopyReport, ContinuationError> {
        let (world, report) = (self.network.world.clone(), Report::default());
        let invocation = Invocation::Copy(task.clone(), report.clone());
        let name = title!(self, "have page {} copied", task.page);
        let effect = move || {
            world.invoke(invocation);
            Ok(())
        };
        // It isn't retried: whoever asked for it has given it up by then.
        self.network.call(self.worker, Nature::Read, name, effect, no_invocation).await?;
        while self.now() < task.until {
            self.network.world.pause(TimeDelta::milliseconds(250)).await;
            if let Some(report) = locked(&report.0).take() {
                return report.map_err(ContinuationError);
            }
        }
        no_invocation("it takes too long".to_owned())
    }
}

#[async_trait]
impl Connector for Port {
    async fn connect(&self, instance: &Instance) -> Result<Arc<dyn Milvus>, MilvusError> {
        Ok(Arc::new(Connection { port: self.clone(), instance: instance.id.clone() }))
    }
}

struct Connection {
    port: Port,
    instance: InstanceId,
}

impl Connection {
    async fn about<T: Send + 'static>(
        &self,
        what: &str,
        name: &CollectionName,
        ask: impl FnOnce(&mut Server, &CollectionName, Time) -> Result<T, MilvusError> + Send + 'static,
    ) -> Result<T, MilvusError> {
        self.named(Nature::Guarded, what, name, ask).await
    }

    /// A call that nothing but its worker's lease keeps from taking effect at the wrong time.
    async fn change<T: Send + 'static>(
        &self,
        what: &str,
        name: &CollectionName,
        ask: impl FnOnce(&mut Server, &CollectionName, Time) -> Result<T, MilvusError> + Send + 'static,
    ) -> Result<T, MilvusError> {
        let ask = move |server: &mut Server, name: &CollectionName, now| {
            server.takes_changes()?;
            ask(server, name, now)
        };
        self.named(Nature::Unguarded, what, name, ask).await
    }

    async fn named<T: Send + 'static>(
        &self,
        nature: Nature,
        what: &str,
        name: &CollectionName,
        ask: impl FnOnce(&mut Server, &CollectionName, Time) -> Result<T, MilvusError> + Send + 'static,
    ) -> Result<T, MilvusError> {
        let (title, name) = (title!(self.port, "{what} {name}"), name.clone());
        self.port.ask(&self.instance, nature, title, move |server, now| ask(server, &name, now)).await
    }
}

#[async_trait]
impl Milvus for Connection {
    async fn version(&self) -> Result<String, MilvusError> {
        self.port
            .ask(&self.instance, Nature::Guarded, "version".to_owned(), |server, _| Ok(server.version().to_owned()))
            .await
    }

    async fn principal(&self) -> Result<Principal, MilvusError> {
        let ask = |server: &mut Server, _| Ok(server.principal());
        self.port.ask(&self.instance, Nature::Guarded, "principal".to_owned(), ask).await
    }

    async fn databases(&self) -> Result<Vec<String>, MilvusError> {
        self.port
            .ask(&self.instance, Nature::Guarded, "databases".to_owned(), |_, _| Ok(vec!["default".to_owned()]))
            .await
    }

    async fn collections(&self, database: &str) -> Result<Vec<(String, i64)>, MilvusError> {
        let database = database.to_owned();
        let ask = move |server: &mut Server, _| {
            let listed = server.listed().into_iter().filter(|(name, _)| name.database == database);
            Ok(listed.map(|(name, id)| (name.collection, id)).collect())
        };
        self.port.ask(&self.instance, Nature::Guarded, "collections".to_owned(), ask).await
    }

    async fn collection_id(&self, name: &CollectionName) -> Result<Option<i64>, MilvusError> {
        let ask = |server: &mut Server, name: &CollectionName, _| match server.describe(name) {
            Ok(found) => Ok(Some(found.id)),
            Err(MilvusError::NoCollection(_)) => Ok(None),
            Err(error) => Err(error),
        };
        self.about("collection id", name, ask).await
    }

    async fn describe(&self, name: &CollectionName) -> Result<CollectionDescription, MilvusError> {
        let ask = |server: &mut Server, name: &CollectionName, _| {
            let described = server.describe(name)?;
            // The component that keeps them is asked, as the adapter does.
            let aliases = match server.lie {
                Some(Lie::DescribedAliases) => described.aliases,
                _ => server.aliases_of(described.id),
            };
            Ok(CollectionDescription { aliases, ..described })
        };
        self.about("describe", name, ask).await
    }

    async fn flush(&self, name: &CollectionName, _: OnRateLimit) -> Result<FlushResult, MilvusError> {
        self.about("flush", name, |server, name, now| server.flush(name, now)).await
    }

    async fn is_flushed(&self, name: &CollectionName, flush: &FlushResult) -> Result<bool, MilvusError> {
        let timestamp = flush.timestamp;
        self.about("is flushed", name, move |server, name, now| server.is_flushed(name, timestamp, now)).await
    }

    async fn segments(&self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError> {
        self.about("segments", name, |server, name, _| server.segments(name)).await
    }

    async fn segment_files(
        &self,
        _: &str,
        collection: i64,
        segments: &[i64],
    ) -> Result<Option<Vec<SegmentFiles>>, MilvusError> {
        let segments = segments.to_vec();
        let ask = move |server: &mut Server, _| server.segment_files(collection, &segments);
        self.port.ask(&self.instance, Nature::Guarded, title!(self.port, "files of {collection}"), ask).await
    }

    async fn hold_garbage(&self, duration: Duration) -> Result<GarbageHold, MilvusError> {
        let ask = move |server: &mut Server, now| Ok(server.hold_garbage(duration, now));
        self.port.ask(&self.instance, Nature::Guarded, "hold garbage".to_owned(), ask).await
    }

    async fn release_garbage(&self, _: &GarbageHold) -> Result<(), MilvusError> {
        let ask = |server: &mut Server, now| {
            server.held_until = now;
            Ok(())
        };
        self.port.ask(&self.instance, Nature::Guarded, "release garbage".to_owned(), ask).await
    }

    async fn count(&self, name: &CollectionName) -> Result<u64, MilvusError> {
        self.about("count", name, |server, name, _| server.count(name)).await
    }

    async fn database_properties(&self, _: &str) -> Result<Vec<(String, String)>, MilvusError> {
        Ok(Vec::new())
    }

    async fn access_control(&self) -> Result<Option<String>, MilvusError> {
        let ask = |server: &mut Server, _| server.roles().map(|_| Some(written(&server.rights(None))));
        self.port.ask(&self.instance, Nature::Guarded, "access control".to_owned(), ask).await
    }

    async fn restore_access_control(&self, _: &str) -> Result<Vec<String>, MilvusError> {
        Ok(Vec::new())
    }

    fn captured_grants(&self, captured: &str) -> Result<Vec<Grant>, MilvusError> {
        Ok(rights_in(captured).iter().map(Right::grant).collect())
    }

    async fn roles(&self) -> Result<Vec<String>, MilvusError> {
        let ask = |server: &mut Server, _| server.roles();
        self.port.ask(&self.instance, Nature::Guarded, "roles".to_owned(), ask).await
    }

    async fn grants(&self, role: &str, _: &str) -> Result<Vec<Grant>, MilvusError> {
        let (title, role) = (title!(self.port, "grants of {role}"), role.to_owned());
        let ask =
            move |server: &mut Server, _| Ok(server.rights(Some(&role)).iter().map(Right::grant).collect::<Vec<_>>());
        self.port.ask(&self.instance, Nature::Guarded, title, ask).await
    }

    async fn grant(&self, grant: &Grant) -> Result<(), MilvusError> {
        let (title, right) = (title!(self.port, "grant {grant}"), Right::from(grant));
        let ask = move |server: &mut Server, _| {
            server.takes_changes()?;
            server.give(right)
        };
        self.port.ask(&self.instance, Nature::Unguarded, title, ask).await
    }

    async fn ensure_database(&self, database: &str, _: &[(String, String)]) -> Result<(), MilvusError> {
        self.port
            .ask(&self.instance, Nature::Guarded, title!(self.port, "ensure database {database}"), |_, _| Ok(()))
            .await
    }

    async fn some_keys(&self, name: &CollectionName, limit: usize) -> Result<Vec<PrimaryKey>, MilvusError> {
        self.about("some keys of", name, move |server, name, _| server.some_keys(name, limit)).await
    }

    async fn find_keys(&self, name: &CollectionName, keys: &[PrimaryKey]) -> Result<Vec<PrimaryKey>, MilvusError> {
        let keys = keys.to_vec();
        self.about("find keys of", name, move |server, name, _| server.find_keys(name, &keys)).await
    }

    async fn create(&self, name: &CollectionName, capture: &CollectionCapture) -> Result<(), MilvusError> {
        let (created, added) = fields::created_and_added(&capture.fields);
        let all: Vec<usize> = created.iter().chain(&added).copied().collect();
        let capture = capture.clone();
        let ask = move |server: &mut Server, name: &CollectionName, now| {
            let created = if server.lie == Some(Lie::FieldsByPlace) { all } else { created };
            server.make(name, &capture, &created, now)
        };
        self.change("create", name, ask).await?;
        for field in added {
            let ask = move |server: &mut Server, name: &CollectionName, _| match server.lie {
                Some(Lie::FieldsByPlace) => Ok(()),
                _ => server.add_field(name, field),
            };
            self.change("add a field to", name, ask).await?;
        }
        Ok(())
    }

    async fn ensure_index(&self, name: &CollectionName, _: &IndexCapture) -> Result<(), MilvusError> {
        self.change("index", name, |server, name, _| server.describe(name).map(drop)).await
    }

    async fn set_properties(&self, name: &CollectionName, _: &[(String, String)]) -> Result<(), MilvusError> {
        self.change("set properties of", name, |server, name, _| server.describe(name).map(drop)).await
    }

    async fn indexing(&self, name: &CollectionName) -> Result<Pace, MilvusError> {
        self.about("indexing", name, |server, name, _| server.describe(name).map(|_| Pace::Done)).await
    }

    async fn import(&self, request: ImportRequest<'_>) -> Result<i64, MilvusError> {
        let prefixes = [request.data.insert_prefix, request.data.delta_prefix].map(str::to_owned);
        let (partition, end) = (request.partition.to_owned(), request.end_timestamp);
        let ask =
            move |server: &mut Server, name: &CollectionName, now| server.import(name, &partition, prefixes, end, now);
        self.change("import into", request.collection, ask).await
    }

    async fn import_tasks(&self, name: &CollectionName) -> Result<ImportTasks, MilvusError> {
        self.about("imports into", name, |server, name, _| server.import_tasks(name)).await
    }

    async fn import_status(&self, task: i64) -> Result<ImportStatus, MilvusError> {
        let ask = move |server: &mut Server, now| server.import_status(task, now);
        self.port.ask(&self.instance, Nature::Guarded, title!(self.port, "import {task}"), ask).await
    }

    async fn load(&self, name: &CollectionName, how: &Loaded) -> Result<(), MilvusError> {
        match how {
            Loaded::No => Ok(()),
            _ => self.change("load", name, |server, name, now| server.load(name, now)).await,
        }
    }

    async fn loading(&self, name: &CollectionName) -> Result<Pace, MilvusError> {
        self.about("loading", name, |server, name, now| server.loading(name, now)).await
    }

    async fn release(&self, name: &CollectionName) -> Result<(), MilvusError> {
        self.change("release", name, |server, name, _| server.release(name)).await
    }

    async fn rename(&self, from: &CollectionName, to: &str) -> Result<(), MilvusError> {
        let to = to.to_owned();
        let title = title!(self.port, "rename to {to}:");
        self.change(&title, from, move |server, from, now| server.rename(from, &to, now)).await
    }

    async fn drop_collection(&self, name: &CollectionName) -> Result<(), MilvusError> {
        let (audit, instance) = (self.port.audit.clone(), self.instance.clone());
        let ask = move |server: &mut Server, name: &CollectionName, now| {
            let is_kept = server.keeps_what_it_is_to_drop && audit.phase(&instance) == Some(RestorePhase::Import);
            if let Some(id) = server.id_of(name).filter(|_| !is_kept) {
                if server.keeps_from_dropping(id) {
                    return Err(MilvusError::Refused(format!("{name} has an alias")));
                }
                audit.drops(&instance, name, id, now);
                server.drop_collection(name, now);
            }
            Ok(())
        };
        self.change("drop", name, ask).await
    }

    async fn alias_target(&self, _: &str, alias: &str) -> Result<Option<String>, MilvusError> {
        let alias = alias.to_owned();
        let title = title!(self.port, "target of {alias}");
        self.port.ask(&self.instance, Nature::Guarded, title, move |server, _| Ok(server.alias_target(&alias))).await
    }

    async fn point_alias(&self, alias: &str, at: &CollectionName) -> Result<(), MilvusError> {
        let alias = alias.to_owned();
        let title = title!(self.port, "point {alias} at");
        self.change(&title, at, move |server, at, _| server.point_alias(&alias, at)).await
    }

    async fn drop_alias(&self, _: &str, alias: &str) -> Result<(), MilvusError> {
        let alias = alias.to_owned();
        let ask = move |server: &mut Server, _| {
            server.takes_changes()?;
            server.drop_alias(&alias);
            Ok(())
        };
        self.port.ask(&self.instance, Nature::Unguarded, "drop alias".to_owned(), ask).await
    }
}
