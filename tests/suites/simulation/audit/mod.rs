//! The invariants, judged by what is stored and by what Milvus remembers.

mod available;
mod rest;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use milvault_harness::{MemoryCatalog, MemoryObjects, list_all, locked};
use milvault_jobs::Error;
use milvault_model::{
    Backup, BackupId, BackupPhase, BackupState, BackupStatus, CollectionName, InstanceId, RestoreId, RestoreStatus,
    Time,
};
use milvault_ports::{Bucket, Catalog, Lease, Objects, PageRequest, Write};

use crate::{
    automatic::{Automatic, Scheduler},
    belongings::{Backed, Belongings},
    billing::Bill,
    format::{self, Stored},
    ports::{Servers, at_once},
    rules::Rule,
    world::{WorkerId, World},
};

/// A rule that doesn't hold, with the evidence.
#[derive(Debug)]
pub(crate) struct Breach {
    rule: Rule,
    what: String,
}

impl Breach {
    pub(crate) fn new(rule: Rule, what: String) -> Self {
        Self { rule, what }
    }

    /// Adds what it is about.
    pub(crate) fn of(self, what: &str) -> Self {
        Self { what: format!("{what}: {}", self.what), ..self }
    }
}

/// A snapshot that can't be read isn't whole.
impl From<String> for Breach {
    fn from(what: String) -> Self {
        Self::new(Rule::Whole, what)
    }
}

/// Checks every effect on the catalog and the snapshot bucket.
pub(crate) struct Audit {
    pub(crate) world: Arc<World>,
    pub(crate) catalog: Arc<MemoryCatalog>,
    pub(crate) objects: Arc<MemoryObjects>,
    pub(crate) servers: Servers,
    bucket: Bucket,
    pub(crate) seen: Mutex<Seen>,
    pub(crate) scheduler: Scheduler,
    pub(crate) automatic: Mutex<Automatic>,
    pub(crate) bill: Mutex<Bill>,
    /// Whether nothing goes wrong with calls.
    is_calm: bool,
}

/// What an audit checks.
pub(crate) struct Watched {
    pub(crate) catalog: Arc<MemoryCatalog>,
    pub(crate) objects: Arc<MemoryObjects>,
    pub(crate) servers: Servers,
    /// The bucket for snapshots.
    pub(crate) bucket: Bucket,
}

#[derive(Default)]
pub(crate) struct Seen {
    /// The newest fence of each instance.
    fences: BTreeMap<InstanceId, u64>,
    /// The last lease of each worker.
    leases: BTreeMap<WorkerId, Lease>,
    /// The workers that work under another worker's lease.
    copy_workers: BTreeSet<WorkerId>,
    backups: BTreeMap<BackupId, Followed>,
    /// The backup for which each data object was copied.
    copied_for: BTreeMap<String, String>,
    /// The keys written by requests that had been given up.
    late_comers: BTreeSet<String>,
    pub(crate) points: BTreeMap<BackupId, Points>,
    /// What belonged to each name according to backups.
    pub(crate) belongings: BTreeMap<BackupId, Backed>,
    /// What belonged to each name when a restore was accepted, or began its swap.
    pub(crate) before: BTreeMap<RestoreId, Belongings>,
    /// When restores began to swap.
    pub(crate) swaps: BTreeMap<RestoreId, Time>,
    pub(crate) before_rollback: BTreeMap<RestoreId, Belongings>,
    pub(crate) restores: BTreeMap<RestoreId, RestoreStatus>,
    /// The collections that were live under the names that a restore has swapped.
    pub(crate) replaced: BTreeMap<(RestoreId, CollectionName), Option<i64>>,
    /// The answer to each idempotency key.
    answers: BTreeMap<String, BackupId>,
    /// How many collections backups left out because of trouble with them.
    pub(crate) troubles: u32,
}

/// A backup's collections' points in time, by id.
type Points = BTreeMap<i64, u64>;

/// A backup as it was last seen.
struct Followed {
    status: BackupStatus,
    /// Whether everything was in place when the backup was stopped.
    was_published: bool,
    living: Option<Living>,
}

/// What must be in the bucket while a backup is living.
struct Living {
    /// Documents' keys and SHA-256.
    documents: BTreeMap<String, String>,
    /// Data objects' keys, sizes and ETags.
    data: BTreeMap<String, (u64, String)>,
}

/// An object as a listing shows it: size and ETag.
type Shown = (u64, String);

impl Audit {
    pub(crate) fn new(world: Arc<World>, watched: Watched, is_calm: bool) -> Self {
        let Watched { catalog, objects, servers, bucket } = watched;
        Self {
            world,
            catalog,
            objects,
            servers,
            bucket,
            seen: Mutex::default(),
            scheduler: Scheduler::default(),
            automatic: Mutex::default(),
            bill: Mutex::default(),
            is_calm,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        at_once(self.objects.get(&self.bucket, key)).expect("the snapshot bucket is there")
    }

    fn list(&self, prefix: &str) -> BTreeMap<String, Shown> {
        let listed = at_once(list_all(self.objects.as_ref(), &self.bucket, prefix));
        listed.into_iter().map(|object| (object.key, (object.size, object.etag))).collect()
    }

    fn backups(&self, instance: &InstanceId) -> Vec<Backup> {
        let page = PageRequest { after: None, limit: 10_000 };
        let found = at_once(self.catalog.backups(instance, page)).expect("the catalog in memory answers");
        found.items.into_iter().map(|backup| backup.value).collect()
    }

    /// A lease was granted.
    pub(crate) fn granted(&self, lease: &Lease, worker: WorkerId) {
        let mut seen = locked(&self.seen);
        let newest = seen.fences.insert(lease.instance_id.clone(), lease.fence);
        seen.leases.insert(worker, lease.clone());
        if newest.is_some_and(|newest| newest >= lease.fence) {
            self.world.violate(Rule::Fence, format!("fence {} came after {newest:?}", lease.fence));
        }
    }

    /// A worker began to work under another worker's lease.
    pub(crate) fn lent(&self, lease: &Lease, worker: WorkerId) {
        let mut seen = locked(&self.seen);
        seen.leases.insert(worker, lease.clone());
        seen.copy_workers.insert(worker);
    }

    /// A copy was made.
    pub(crate) fn copied(&self, key: &str, stored_by: &str) {
        locked(&self.seen).copied_for.insert(key.to_owned(), stored_by.to_owned());
    }

    fn requires_newest(&self, lease: &Lease, what: &str) {
        let newest = locked(&self.seen).fences.get(&lease.instance_id).copied();
        if newest != Some(lease.fence) {
            self.world.violate(
                Rule::Fence,
                format!("a worker with fence {} {what} after {newest:?} was granted", lease.fence),
            );
        }
    }

    /// A lease was renewed.
    pub(crate) fn renewed(&self, lease: &Lease) {
        self.requires_newest(lease, "renewed its lease");
    }

    /// A worker is about to write into a bucket.
    pub(crate) fn writes(&self, worker: WorkerId, bucket: &Bucket, key: &str) {
        let seen = locked(&self.seen);
        let Some(lease) = seen.leases.get(&worker).filter(|_| *bucket == self.bucket) else { return };
        let newest = seen.fences.get(&lease.instance_id).copied();
        if newest != Some(lease.fence) {
            let fence = lease.fence;
            let rule = if seen.copy_workers.contains(&worker) { Rule::LentFence } else { Rule::Fence };
            drop(seen);
            self.world
                .violate(rule, format!("worker {worker} writes {key} under fence {fence}, now that it is {newest:?}"));
        }
    }

    /// A commit took effect.
    pub(crate) fn committed(&self, writes: &[Write]) {
        let mut about = BTreeSet::new();
        for write in writes {
            self.automatic_on(write);
            match write {
                Write::HoldLease(lease) | Write::ReleaseJob(lease) => {
                    self.requires_newest(lease, "committed");
                    about.insert(lease.instance_id.clone());
                }
                Write::Backup(backup, _) => drop(about.insert(backup.instance_id.clone())),
                Write::LedgerLine(restore, line) => self.went_on(restore, line),
                Write::Restore(restore, _) => self.restores_on(restore),
                _ => {}
            }
        }
        for instance in about {
            self.follow(&instance);
        }
        self.bills(writes);
    }

    /// A request for a backup was answered.
    pub(crate) fn answered(&self, key: &str, backup: &BackupId) {
        let first = locked(&self.seen).answers.entry(key.to_owned()).or_insert_with(|| backup.clone()).clone();
        if first != *backup {
            self.world.violate(Rule::Once, format!("one request made two backups: {first} and {backup}"));
        }
    }

    /// A request for a backup was refused.
    pub(crate) fn refused(&self, instance: &InstanceId, key: &str, error: &Error) {
        let (Error::NameTaken(_, in_the_way) | Error::BackupInProgress(in_the_way)) = error else { return };
        let known = at_once(self.catalog.idempotency(&format!("create-backup#{instance}"), key));
        if known.is_ok_and(|known| known.is_some_and(|known| known.resource == in_the_way.to_string())) {
            self.world.violate(Rule::Once, format!("a request was refused because of what it made itself: {error}"));
        }
    }

    /// Compares an instance's backups with how they were last seen.
    fn follow(&self, instance: &InstanceId) {
        for backup in self.backups(instance) {
            let status = backup.state.status();
            let mut seen = locked(&self.seen);
            let followed = seen.backups.entry(backup.id.clone()).or_insert_with(|| Followed {
                status: BackupStatus::Pending,
                was_published: false,
                living: None,
            });
            let before = std::mem::replace(&mut followed.status, status);
            if matches!(&backup.state, BackupState::Running(run) if matches!(run.phase, BackupPhase::Publish(_))) {
                followed.was_published = true;
            }
            if !backup.is_living() {
                followed.living = None;
            }
            drop(seen);
            if !follows(before, status) {
                self.world.violate(Rule::Status, format!("{} was {before:?} and became {status:?}", backup.id));
            }
            if before != BackupStatus::Available && status == BackupStatus::Available {
                match self.inspect(&backup) {
                    Ok((living, points)) => {
                        locked(&self.seen).points.insert(backup.id.clone(), points);
                        if let Some(followed) = locked(&self.seen).backups.get_mut(&backup.id) {
                            followed.living = Some(living);
                        }
                    }
                    Err(breach) => self.report(breach.of(&format!("{} is AVAILABLE, but", backup.id))),
                }
            }
        }
    }

    fn report(&self, breach: Breach) {
        self.world.violate(breach.rule, breach.what);
    }

    /// Checks keys that were written or removed.
    pub(crate) fn touched(&self, bucket: &Bucket, keys: &[String]) {
        if *bucket != self.bucket {
            return;
        }
        let mut seen = locked(&self.seen);
        if self.world.is_late() {
            seen.late_comers.extend(keys.iter().cloned());
        }
        let mut lost = None;
        for key in keys {
            for (backup, living) in seen.living() {
                let is_whole = match (living.data.get(key), living.documents.get(key)) {
                    (Some(object), _) => self.list(key).get(key) == Some(object),
                    (_, Some(hash)) => self.get(key).is_some_and(|body| format::sha256(&body) == *hash),
                    (None, None) => true,
                };
                if !is_whole {
                    lost = Some(format!("{key} of the living {backup} is gone or changed"));
                }
            }
        }
        drop(seen);
        if let Some(lost) = lost {
            self.world.violate(Rule::Whole, lost);
        }
    }

    /// Checks everything that must exist now.
    pub(crate) fn look(&self) {
        self.look_at_names();
        self.look_at_belongings();
        let listed = self.list("");
        let lost = locked(&self.seen).living().find_map(|(backup, living)| {
            let lost = living.is_whole(&listed, |key| self.get(key)).err()?;
            Some(format!("{backup} is AVAILABLE, but {lost}"))
        });
        if let Some(lost) = lost {
            self.world.violate(Rule::Whole, lost);
        }
    }
}

impl Seen {
    fn living(&self) -> impl Iterator<Item = (&BackupId, &Living)> {
        self.backups.iter().filter_map(|(id, followed)| Some((id, followed.living.as_ref()?)))
    }
}

impl Living {
    fn of(instance: &str, stored: &Stored) -> Self {
        let data = stored.entries.iter();
        Self {
            documents: stored.documents.clone(),
            data: data
                .map(|entry| (format::data_key(instance, &entry.key), (entry.size, entry.etag.clone())))
                .collect(),
        }
    }

    fn keys(&self) -> impl Iterator<Item = &String> {
        self.documents.keys().chain(self.data.keys())
    }

    fn is_whole(&self, listed: &BTreeMap<String, Shown>, get: impl Fn(&str) -> Option<Vec<u8>>) -> Result<(), String> {
        for (key, object) in &self.data {
            match listed.get(key) {
                None => return Err(format!("{key} is missing")),
                Some(found) if found != object => return Err(format!("{key} is {found:?}, not {object:?}")),
                Some(_) => {}
            }
        }
        for (key, hash) in &self.documents {
            if get(key).is_none_or(|body| format::sha256(&body) != *hash) {
                return Err(format!("{key} is missing or changed"));
            }
        }
        Ok(())
    }
}

/// Whether a backup can change from one status to the other. Nothing harms stored data here, so none may be DAMAGED.
fn follows(before: BackupStatus, after: BackupStatus) -> bool {
    use BackupStatus::{Available, Cancelled, Deleted, Deleting, Failed, Pending, Running};
    before == after
        || matches!(
            (before, after),
            (Pending, Running)
                | (Running, Available | Failed | Cancelled)
                | (Available, Deleting)
                | (Deleting, Deleted)
        )
}
