//! The catalog in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use chrono::{SecondsFormat, TimeDelta};
use milvault_model::{
    Account, AutoBackup, Backup, BackupId, BackupName, CollectionRestore, Due, DueKind, Hour, Instance, InstanceId,
    JobRef, Notice, Region, Restore, RestoreId, Time, UsageExport, UsageRecord,
};
use milvault_ports::{
    Catalog, CatalogError, DueEntry, DueItem, Expect, Idempotency, Lease, LeasePurpose, Page, PageRequest, Versioned,
    Write,
};
use ulid::Ulid;

use crate::locked;

/// The most items in one DynamoDB transaction. An instance takes two: itself and its line in the list of instances.
const LARGEST_COMMIT: usize = 100;

/// A catalog in memory, without limits except those of a commit: at most 100 items, none of them twice.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    records: Mutex<Records>,
    requests: AtomicU64,
}

#[derive(Debug, Default)]
struct Records {
    instances: BTreeMap<InstanceId, Versioned<Instance>>,
    backups: BTreeMap<(InstanceId, BackupId), Versioned<Backup>>,
    names: BTreeMap<(InstanceId, BackupName), BackupId>,
    restores: BTreeMap<(InstanceId, RestoreId), Versioned<Restore>>,
    ledgers: BTreeMap<(RestoreId, u32), CollectionRestore>,
    leases: BTreeMap<InstanceId, LeaseRecord>,
    idempotency: BTreeMap<(String, String), Idempotency>,
    accounts: BTreeMap<(Region, String), Versioned<Account>>,
    usage: BTreeMap<(Region, Hour), BTreeMap<String, UsageRecord>>,
    exports: BTreeMap<Region, Versioned<UsageExport>>,
    auto_backups: BTreeMap<InstanceId, Versioned<AutoBackup>>,
    notices: BTreeMap<(InstanceId, String), Notice>,
}

fn account_key(instance: &InstanceId, backup: &BackupId) -> String {
    format!("{instance}#{backup}")
}

/// The lease of an instance, kept when its holder or the instance is gone: the fence only grows.
#[derive(Debug, Default)]
struct LeaseRecord {
    fence: u64,
    /// The lease's end while a worker holds it, even after that time.
    held_until: Option<Time>,
    /// The job, and the time from which the sweep resumes it.
    job: Option<(JobRef, Time)>,
}

impl LeaseRecord {
    fn is_free(&self, now: Time) -> bool {
        self.held_until.is_none_or(|until| until <= now)
    }

    fn is_held_by(&self, lease: &Lease) -> bool {
        self.fence == lease.fence && self.held_until.is_some()
    }

    fn drive_from(&mut self, time: Time) {
        if let Some((_, due)) = &mut self.job {
            *due = time;
        }
    }
}

impl MemoryCatalog {
    /// An empty catalog.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many requests it has answered.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        locked(&self.records)
    }
}

/// A unique name of the record that a write changes.
fn record_of(write: &Write) -> String {
    match write {
        Write::Instance(instance, _) => format!("instance {}", instance.id),
        Write::RemoveInstance(id, _) => format!("instance {id}"),
        Write::Backup(backup, _) => format!("backup {} {}", backup.instance_id, backup.id),
        Write::Restore(restore, _) => format!("restore {} {}", restore.instance_id, restore.id),
        Write::LedgerLine(restore, line) => format!("ledger {restore} {}", line.number),
        Write::ClaimName(instance, name, _) | Write::ReleaseName(instance, name, _) => {
            format!("name {instance} {name}")
        }
        Write::ClaimJob(job, _) => format!("lease {}", job.instance_id()),
        Write::ReleaseJob(lease) | Write::HoldLease(lease) => format!("lease {}", lease.instance_id),
        Write::Account(account, _) => {
            format!("account {} {} {}", account.region, account.instance_id, account.backup_id)
        }
        Write::RemoveAccount(account, _) => {
            format!("account {} {} {}", account.region, account.instance_id, account.backup_id)
        }
        Write::Usage(record) => format!("usage {} {} {}", record.region, record.hour, record.place()),
        Write::UsageExport(export, _) => format!("export {}", export.region),
        Write::AutoBackup(record, _) => format!("automatic backups {}", record.instance_id),
        Write::RemoveAutoBackup(id, _) => format!("automatic backups {id}"),
        Write::Notice(notice) => format!("notice {} {}", notice.instance_id, notice.id),
        Write::RemoveNotice(instance, id) => format!("notice {instance} {id}"),
        Write::Idempotency(record) => format!("idempotency {:?} {:?}", record.scope, record.key),
    }
}

/// Checks the limits of a DynamoDB transaction.
fn admit(writes: &[Write]) -> Result<(), CatalogError> {
    let items: usize = writes
        .iter()
        .map(|write| if matches!(write, Write::Instance(..) | Write::RemoveInstance(..)) { 2 } else { 1 })
        .sum();
    if items > LARGEST_COMMIT {
        return Err(CatalogError::Unavailable(format!("a commit of {items} items is too large")));
    }
    let mut seen = BTreeSet::new();
    match writes.iter().map(record_of).find(|record| !seen.insert(record.clone())) {
        Some(twice) => Err(CatalogError::Unavailable(format!("two writes of a commit are about {twice}"))),
        None => Ok(()),
    }
}

fn meets<T>(found: Option<&Versioned<T>>, expect: Expect) -> bool {
    match expect {
        Expect::Absent => found.is_none(),
        Expect::Version(version) => found.is_some_and(|found| found.version == version),
    }
}

fn changed<T>(value: T, expect: Expect) -> Versioned<T> {
    let version = match expect {
        Expect::Absent => 1,
        Expect::Version(version) => version + 1,
    };
    Versioned { value, version }
}

impl Records {
    /// Whether the condition of a write holds.
    fn permit(&self, write: &Write) -> bool {
        let is_ours = |lease: &Lease| self.leases.get(&lease.instance_id).is_some_and(|found| found.is_held_by(lease));
        match write {
            Write::Instance(instance, expect) => meets(self.instances.get(&instance.id), *expect),
            Write::RemoveInstance(id, version) => meets(self.instances.get(id), Expect::Version(*version)),
            Write::Backup(backup, expect) => {
                meets(self.backups.get(&(backup.instance_id.clone(), backup.id.clone())), *expect)
            }
            Write::Restore(restore, expect) => {
                meets(self.restores.get(&(restore.instance_id.clone(), restore.id.clone())), *expect)
            }
            Write::Account(account, expect) => {
                let key = account_key(&account.instance_id, &account.backup_id);
                meets(self.accounts.get(&(account.region.clone(), key)), *expect)
            }
            Write::RemoveAccount(account, version) => {
                let key = account_key(&account.instance_id, &account.backup_id);
                meets(self.accounts.get(&(account.region.clone(), key)), Expect::Version(*version))
            }
            Write::Usage(record) => {
                let of_hour = self.usage.get(&(record.region.clone(), record.hour));
                of_hour.is_none_or(|records| !records.contains_key(&record.place()))
            }
            Write::UsageExport(export, expect) => meets(self.exports.get(&export.region), *expect),
            Write::ClaimName(instance, name, _) => !self.names.contains_key(&(instance.clone(), name.clone())),
            Write::ClaimJob(job, _) => self.leases.get(job.instance_id()).is_none_or(|lease| lease.job.is_none()),
            Write::ReleaseJob(lease) | Write::HoldLease(lease) => is_ours(lease),
            Write::Idempotency(record) => !self.idempotency.contains_key(&(record.scope.clone(), record.key.clone())),
            Write::AutoBackup(record, expect) => meets(self.auto_backups.get(&record.instance_id), *expect),
            Write::RemoveAutoBackup(id, version) => meets(self.auto_backups.get(id), Expect::Version(*version)),
            Write::LedgerLine(..) | Write::ReleaseName(..) | Write::Notice(_) | Write::RemoveNotice(..) => true,
        }
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Instance(instance, expect) => {
                self.instances.insert(instance.id.clone(), changed(*instance, expect));
            }
            Write::RemoveInstance(id, _) => {
                self.instances.remove(&id);
            }
            Write::Backup(backup, expect) => {
                let key = (backup.instance_id.clone(), backup.id.clone());
                self.backups.insert(key, changed(*backup, expect));
            }
            Write::Restore(restore, expect) => {
                let key = (restore.instance_id.clone(), restore.id.clone());
                self.restores.insert(key, changed(*restore, expect));
            }
            Write::LedgerLine(restore, line) => {
                self.ledgers.insert((restore, line.number), *line);
            }
            Write::ClaimName(instance, name, backup) => {
                self.names.insert((instance, name), backup);
            }
            Write::ReleaseName(instance, name, backup) => {
                let key = (instance, name);
                if self.names.get(&key) == Some(&backup) {
                    self.names.remove(&key);
                }
            }
            Write::ClaimJob(job, due) => {
                let record = self.leases.entry(job.instance_id().clone()).or_default();
                record.job = Some((job, due));
            }
            Write::ReleaseJob(lease) => {
                let record = self.leases.entry(lease.instance_id).or_default();
                record.job = None;
                record.held_until = None;
            }
            Write::HoldLease(_) => {}
            Write::Account(account, expect) => {
                let key = (account.region.clone(), account_key(&account.instance_id, &account.backup_id));
                self.accounts.insert(key, changed(*account, expect));
            }
            Write::RemoveAccount(account, _) => {
                let key = (account.region.clone(), account_key(&account.instance_id, &account.backup_id));
                self.accounts.remove(&key);
            }
            Write::Usage(record) => {
                let of_hour = self.usage.entry((record.region.clone(), record.hour)).or_default();
                of_hour.insert(record.place(), *record);
            }
            Write::UsageExport(export, expect) => {
                self.exports.insert(export.region.clone(), changed(*export, expect));
            }
            Write::AutoBackup(record, expect) => {
                self.auto_backups.insert(record.instance_id.clone(), changed(*record, expect));
            }
            Write::RemoveAutoBackup(id, _) => {
                self.auto_backups.remove(&id);
            }
            Write::Notice(notice) => {
                self.notices.insert((notice.instance_id.clone(), notice.id.clone()), *notice);
            }
            Write::RemoveNotice(instance, id) => {
                self.notices.remove(&(instance, id));
            }
            Write::Idempotency(record) => {
                self.idempotency.insert((record.scope.clone(), record.key.clone()), record);
            }
        }
    }

    fn held(&mut self, lease: &Lease) -> Option<&mut LeaseRecord> {
        self.leases.get_mut(&lease.instance_id).filter(|record| record.is_held_by(lease))
    }

    /// Every entry of a kind that is due by `now`, in the order of due times.
    fn due(&self, kind: DueKind, now: Time) -> BTreeMap<String, DueEntry> {
        let of_record = |due: Option<Due>, item: DueItem| due.map(|due| (due, item));
        let backups = self.backups.iter().filter_map(|((instance, id), backup)| {
            of_record(backup.value.due(), DueItem::Backup(instance.clone(), id.clone()))
        });
        let restores = self.restores.iter().filter_map(|((instance, id), restore)| {
            of_record(restore.value.due(), DueItem::Restore(instance.clone(), id.clone()))
        });
        let jobs = self.leases.iter().filter_map(|(instance, lease)| {
            let due = lease.job.as_ref().map(|(_, at)| Due { kind: DueKind::Job, at: *at });
            of_record(due, DueItem::Job(instance.clone()))
        });
        let auto_backups = self
            .auto_backups
            .iter()
            .filter_map(|(instance, record)| of_record(record.value.due(), DueItem::AutoBackup(instance.clone())));
        let notices = self.notices.values().filter_map(|notice| {
            of_record(Some(notice.due()), DueItem::Notice(notice.instance_id.clone(), notice.id.clone()))
        });
        backups
            .chain(restores)
            .chain(jobs)
            .chain(auto_backups)
            .chain(notices)
            .filter(|(due, _)| due.kind == kind && due.at <= now)
            .map(|(Due { at, .. }, item)| {
                let cursor = format!("{}/{item:?}", at.to_rfc3339_opts(SecondsFormat::Nanos, true));
                (cursor, DueEntry { at, item })
            })
            .collect()
    }
}

/// The requested page of a listing, from its entries with their sort keys in order.
fn page<T>(
    entries: impl Iterator<Item = (String, T)>,
    request: &PageRequest,
    comes_after: fn(&str, &str) -> bool,
) -> Page<T> {
    let after = request.after.as_deref();
    let mut rest = entries.filter(|(key, _)| after.is_none_or(|after| comes_after(key, after))).peekable();
    let taken: Vec<(String, T)> = rest.by_ref().take(request.limit).collect();
    let next = taken.last().filter(|_| rest.peek().is_some()).map(|(key, _)| key.clone());
    Page { items: taken.into_iter().map(|(_, item)| item).collect(), next }
}

fn ascending(key: &str, after: &str) -> bool {
    key > after
}

fn descending(key: &str, after: &str) -> bool {
    key < after
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn commit(&self, writes: Vec<Write>) -> Result<(), CatalogError> {
        admit(&writes)?;
        let mut records = self.records();
        if let Some(refused) = writes.iter().position(|write| !records.permit(write)) {
            return Err(CatalogError::Conflict(refused));
        }
        for write in writes {
            records.apply(write);
        }
        Ok(())
    }

    async fn instance(&self, id: &InstanceId) -> Result<Option<Versioned<Instance>>, CatalogError> {
        Ok(self.records().instances.get(id).cloned())
    }

    async fn instances(&self, request: PageRequest) -> Result<Page<Instance>, CatalogError> {
        let records = self.records();
        let entries = records.instances.iter().map(|(id, found)| (id.to_string(), found.value.clone()));
        Ok(page(entries, &request, ascending))
    }

    async fn job(&self, instance: &InstanceId) -> Result<Option<JobRef>, CatalogError> {
        let records = self.records();
        Ok(records.leases.get(instance).and_then(|lease| lease.job.as_ref()).map(|(job, _)| job.clone()))
    }

    async fn backup(&self, instance: &InstanceId, id: &BackupId) -> Result<Option<Versioned<Backup>>, CatalogError> {
        Ok(self.records().backups.get(&(instance.clone(), id.clone())).cloned())
    }

    async fn backup_named(&self, instance: &InstanceId, name: &BackupName) -> Result<Option<BackupId>, CatalogError> {
        Ok(self.records().names.get(&(instance.clone(), name.clone())).cloned())
    }

    async fn backups(
        &self,
        instance: &InstanceId,
        request: PageRequest,
    ) -> Result<Page<Versioned<Backup>>, CatalogError> {
        let records = self.records();
        let [oldest, newest] = [Ulid::nil(), Ulid(u128::MAX)].map(|ulid| (instance.clone(), BackupId::new(ulid)));
        let entries = records.backups.range(oldest..=newest).rev();
        Ok(page(entries.map(|((_, id), found)| (id.to_string(), found.clone())), &request, descending))
    }

    async fn restore(&self, instance: &InstanceId, id: &RestoreId) -> Result<Option<Versioned<Restore>>, CatalogError> {
        Ok(self.records().restores.get(&(instance.clone(), id.clone())).cloned())
    }

    async fn restores(&self, instance: &InstanceId, request: PageRequest) -> Result<Page<Restore>, CatalogError> {
        let records = self.records();
        let entries = records.restores.iter().rev().filter(|((of, _), _)| of == instance);
        Ok(page(entries.map(|((_, id), found)| (id.to_string(), found.value.clone())), &request, descending))
    }

    async fn ledger(&self, restore: &RestoreId, request: PageRequest) -> Result<Page<CollectionRestore>, CatalogError> {
        let records = self.records();
        let lines = records.ledgers.range((restore.clone(), 0)..=(restore.clone(), u32::MAX));
        Ok(page(lines.map(|((_, number), line)| (format!("{number:010}"), line.clone())), &request, ascending))
    }

    async fn auto_backup(&self, instance: &InstanceId) -> Result<Option<Versioned<AutoBackup>>, CatalogError> {
        Ok(self.records().auto_backups.get(instance).cloned())
    }

    async fn notices(&self, instance: &InstanceId, request: PageRequest) -> Result<Page<Notice>, CatalogError> {
        let records = self.records();
        let rest = records.notices.range((instance.clone(), String::new())..);
        let entries = rest.take_while(|((of, _), _)| of == instance);
        Ok(page(entries.map(|((_, id), notice)| (id.clone(), notice.clone())), &request, ascending))
    }

    async fn account(
        &self,
        region: &Region,
        instance: &InstanceId,
        backup: &BackupId,
    ) -> Result<Option<Versioned<Account>>, CatalogError> {
        Ok(self.records().accounts.get(&(region.clone(), account_key(instance, backup))).cloned())
    }

    async fn accounts(&self, region: &Region, request: PageRequest) -> Result<Page<Versioned<Account>>, CatalogError> {
        let records = self.records();
        let entries = records.accounts.iter().filter(|((of, _), _)| of == region);
        Ok(page(entries.map(|((_, key), found)| (key.clone(), found.clone())), &request, ascending))
    }

    async fn usage(
        &self,
        region: &Region,
        hour: Hour,
        instance: Option<&InstanceId>,
        request: PageRequest,
    ) -> Result<Page<UsageRecord>, CatalogError> {
        let records = self.records();
        let of_hour = records.usage.get(&(region.clone(), hour)).into_iter().flatten();
        let entries = of_hour.filter(|(_, record)| instance.is_none_or(|instance| record.instance_id == *instance));
        Ok(page(entries.map(|(place, record)| (place.clone(), record.clone())), &request, ascending))
    }

    async fn usage_export(&self, region: &Region) -> Result<Option<Versioned<UsageExport>>, CatalogError> {
        Ok(self.records().exports.get(region).cloned())
    }

    async fn idempotency(&self, scope: &str, key: &str) -> Result<Option<Idempotency>, CatalogError> {
        Ok(self.records().idempotency.get(&(scope.to_owned(), key.to_owned())).cloned())
    }

    async fn acquire(
        &self,
        instance: &InstanceId,
        purpose: &LeasePurpose,
        now: Time,
        ttl: TimeDelta,
    ) -> Result<Option<Lease>, CatalogError> {
        let mut records = self.records();
        let record = records.leases.entry(instance.clone()).or_default();
        let suits = match (purpose, &record.job) {
            (LeasePurpose::Job(wanted), Some((job, _))) => wanted == job,
            (LeasePurpose::Garbage, None) => true,
            _ => false,
        };
        if !suits || !record.is_free(now) {
            return Ok(None);
        }
        let until = now + ttl;
        record.fence += 1;
        record.held_until = Some(until);
        record.drive_from(until);
        Ok(Some(Lease { instance_id: instance.clone(), fence: record.fence }))
    }

    async fn renew(&self, lease: &Lease, until: Time) -> Result<bool, CatalogError> {
        let mut records = self.records();
        let Some(record) = records.held(lease) else { return Ok(false) };
        record.held_until = Some(until);
        record.drive_from(until);
        Ok(true)
    }

    async fn held_until(&self, lease: &Lease) -> Result<Option<Time>, CatalogError> {
        Ok(self.records().held(lease).and_then(|record| record.held_until))
    }

    async fn release(&self, lease: &Lease, due: Time) -> Result<(), CatalogError> {
        if let Some(record) = self.records().held(lease) {
            record.held_until = None;
            record.drive_from(due);
        }
        Ok(())
    }

    async fn due(&self, kind: DueKind, now: Time, request: PageRequest) -> Result<Page<DueEntry>, CatalogError> {
        let entries = self.records().due(kind, now).into_iter();
        Ok(page(entries, &request, ascending))
    }
}
