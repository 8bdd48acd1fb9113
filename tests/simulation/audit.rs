//! The invariants, judged by what is stored and by what Milvus remembers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use chrono::TimeDelta;
use milvault_jobs::Error;
use milvault_memory::{MemoryCatalog, MemoryObjects};
use milvault_model::{
    Backup, BackupId, BackupPhase, BackupState, BackupStatus, CollectionName, CollectionPattern, FailureCode,
    InstanceId, RestoreId, RestoreStatus, Time, restore_owns,
};
use milvault_ports::{Bucket, Catalog, Lease, LeasePurpose, Objects, PageRequest, Write};

use crate::{
    automatic::{Automatic, Scheduler},
    belongings::{Backed, Belongings},
    billing::Bill,
    content,
    format::{self, Cause, Entry, Stored},
    journal::Span,
    ports::{Servers, at_once, locked},
    rules::Rule,
    server::Server,
    world::{WorkerId, World},
};

/// A rule that doesn't hold, and how.
#[derive(Debug)]
pub(crate) struct Breach {
    rule: Rule,
    what: String,
}

impl Breach {
    pub(crate) fn new(rule: Rule, what: String) -> Self {
        Self { rule, what }
    }

    /// Says of what.
    pub(crate) fn of(self, what: &str) -> Self {
        Self { what: format!("{what}: {}", self.what), ..self }
    }
}

/// What can't be read isn't whole.
impl From<String> for Breach {
    fn from(what: String) -> Self {
        Self::new(Rule::Whole, what)
    }
}

/// Sees every effect on the catalog and the snapshot bucket.
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

#[derive(Default)]
pub(crate) struct Seen {
    /// The newest fence of each instance.
    fences: BTreeMap<InstanceId, u64>,
    /// What each worker was granted last.
    leases: BTreeMap<WorkerId, Lease>,
    /// Who works under another one's lease.
    copy_workers: BTreeSet<WorkerId>,
    backups: BTreeMap<BackupId, Followed>,
    /// For which backup each data object was copied.
    copied_for: BTreeMap<String, String>,
    /// What requests have written that were given up.
    late_comers: BTreeSet<String>,
    pub(crate) points: BTreeMap<BackupId, Points>,
    /// What belonged to names as backups have it.
    pub(crate) belongings: BTreeMap<BackupId, Backed>,
    /// What belonged to names when restores were accepted, or began to swap, and when they were to be rolled back.
    pub(crate) before: BTreeMap<RestoreId, Belongings>,
    /// When restores began to swap.
    pub(crate) swaps: BTreeMap<RestoreId, Time>,
    pub(crate) before_rollback: BTreeMap<RestoreId, Belongings>,
    pub(crate) restores: BTreeMap<RestoreId, RestoreStatus>,
    /// What was live under the names that a restore has swapped.
    pub(crate) replaced: BTreeMap<(RestoreId, CollectionName), Option<i64>>,
    /// What was answered to each idempotency key.
    answers: BTreeMap<String, BackupId>,
    /// How often backups left something out because of trouble with it.
    pub(crate) troubles: u32,
}

/// A backup's collections' points in time, by id.
type Points = BTreeMap<i64, u64>;

/// A backup as it was last seen.
struct Followed {
    status: BackupStatus,
    /// Whether all of it was there when it was stopped.
    was_published: bool,
    living: Option<Living>,
}

/// What must be in the bucket while a backup lives.
struct Living {
    /// Documents' keys and SHA-256.
    documents: BTreeMap<String, String>,
    /// Data objects' keys, sizes and ETags.
    data: BTreeMap<String, (u64, String)>,
}

/// An object as a listing shows it: size and ETag.
type Shown = (u64, String);

impl Audit {
    pub(crate) fn new(
        world: Arc<World>,
        catalog: Arc<MemoryCatalog>,
        objects: Arc<MemoryObjects>,
        servers: Servers,
        bucket: Bucket,
        is_calm: bool,
    ) -> Self {
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
        let mut found = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let listing = at_once(self.objects.list(&self.bucket, prefix, after.as_deref())).expect("it is there");
            after = listing.objects.last().map(|object| object.key.clone());
            found.extend(listing.objects.into_iter().map(|object| (object.key, (object.size, object.etag))));
            if !listing.more {
                return found;
            }
        }
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

    /// A worker works under another one's lease.
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

    /// Compares an instance's records with what they were.
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

    /// Everything that is promised of a backup that became AVAILABLE.
    fn inspect(&self, backup: &Backup) -> Result<(Living, Points), Breach> {
        let instance = backup.instance_id.as_str();
        let stored = format::read(&format::folder(instance, backup.id.as_str()), |key| self.get(key))?;
        let living = Living::of(instance, &stored);
        living.is_whole(&self.list(""), |key| self.get(key))?;
        let says = |breach: Breach| self.report(breach.of(&format!("{} is AVAILABLE, but", backup.id)));
        for check in [
            are_totals_right(backup, &stored),
            self.is_added_right(backup, &stored),
            self.is_of_what_it_says(backup, &stored),
            self.is_complete(backup, &stored),
            self.is_what_it_leaves_out_right(backup, &stored),
            self.is_its_content_right(backup, &stored),
        ] {
            check.unwrap_or_else(says);
        }
        locked(&self.seen).belongings.insert(backup.id.clone(), Backed::read(&stored));
        let points = stored.collections.iter().map(|captured| (captured.id, captured.flush_timestamp)).collect();
        Ok((living, points))
    }

    fn report(&self, breach: Breach) {
        self.world.violate(breach.rule, breach.what);
    }

    /// What it added is what copies were made for it of, whoever heard of them.
    fn is_added_right(&self, backup: &Backup, stored: &Stored) -> Result<(), Breach> {
        let seen = locked(&self.seen);
        let is_own = |entry: &&Entry| {
            let key = format::data_key(backup.instance_id.as_str(), &entry.key);
            seen.copied_for.get(&key).is_some_and(|by| by == backup.id.as_str())
        };
        let added: u64 = stored.entries.iter().filter(is_own).map(|entry| entry.size).sum();
        let of_record = backup.state.snapshot().map(|snapshot| snapshot.totals.added_bytes).unwrap_or_default();
        let claimed = [stored.added_bytes, of_record];
        let is_right = claimed == [added; 2];
        if is_right {
            Ok(())
        } else {
            Err(Breach::new(Rule::Added, format!("it added {added} bytes and claims {claimed:?}")))
        }
    }

    fn is_its_content_right(&self, backup: &Backup, stored: &Stored) -> Result<(), Breach> {
        let servers = locked(&self.servers);
        let server = servers.get(&backup.instance_id).ok_or_else(|| "it is of no instance".to_owned())?;
        let instance = backup.instance_id.as_str();
        content::compare(stored, server, |entry| self.get(&format::data_key(instance, entry)))
    }

    /// Each collection has a name that it had while the backup was made, and one of its names then was asked for.
    fn is_of_what_it_says(&self, backup: &Backup, stored: &Stored) -> Result<(), Breach> {
        let servers = locked(&self.servers);
        let server = servers.get(&backup.instance_id).ok_or_else(|| "it is of no instance".to_owned())?;
        let span = Span { from: backup.created_at, until: self.world.now() };
        let mut names = BTreeSet::new();
        for captured in &stored.collections {
            let name: CollectionName = captured.name.parse().map_err(|_| format!("{} is no name", captured.name))?;
            let wrong = |what: &str| Err(Breach::new(Rule::Identity, format!("{name} ({}) {what}", captured.id)));
            let held = server.journal.names_of(captured.id, span);
            if !held.contains(&&name) {
                return wrong("is in it, and never had that name");
            }
            if !held.iter().any(|name| CollectionPattern::selects(&backup.selection, name)) {
                return wrong("is in it, and nobody asked for it");
            }
            if !names.insert(name.clone()) {
                return wrong("is in it, and so is another one of that name");
            }
        }
        Ok(())
    }

    /// Every selected collection that existed all the while is in it or named as missing, and so is every selected name.
    fn is_complete(&self, backup: &Backup, stored: &Stored) -> Result<(), Breach> {
        let servers = locked(&self.servers);
        let server = servers.get(&backup.instance_id).ok_or_else(|| "it is of no instance".to_owned())?;
        let span = Span { from: backup.created_at, until: self.world.now() };
        let is_selected = |name: &CollectionName| {
            !restore_owns(&name.collection) && CollectionPattern::selects(&backup.selection, name)
        };
        let troubled = || stored.left_out.iter().filter(|left_out| left_out.cause == Cause::Trouble);
        let is_left_out = |name: &CollectionName| troubled().any(|left_out| left_out.name == name.to_string());
        let is_named = |id: &i64| troubled().any(|left_out| left_out.id == *id);
        let is_incomplete = !server.shows_all() || stored.left_out.iter().any(|of| of.cause == Cause::Trouble);
        let completeness = backup.state.snapshot().map(|snapshot| &snapshot.completeness);
        if completeness.is_none_or(|completeness| completeness.is_complete() == is_incomplete) {
            let what = format!("it says that it is {completeness:?}, with {:?}", stored.left_out);
            return Err(Breach::new(Rule::Complete, what));
        }
        let is_in = |id: &i64| stored.collections.iter().any(|captured| captured.id == *id);
        if !server.shows_all() {
            return Ok(());
        }
        let missing = |what: String| Err(Breach::new(Rule::Complete, format!("{what} is not in it")));
        for (id, names) in server.journal.all_the_while(span) {
            // Where one of its names isn't asked for, it may have had that one when it mattered.
            let is_asked_for = names.iter().all(|name| is_selected(name));
            if is_asked_for && !is_in(&id) && !is_named(&id) {
                let name = server.name_of(id).map(|name| name.to_string()).unwrap_or_default();
                return missing(format!("{name} ({id})"));
            }
        }
        for name in server.journal.names_all_the_while(span) {
            let ids = server.journal.ids_of(name, span);
            if is_selected(name) && !ids.iter().any(|id| is_in(id) || is_named(id)) && !is_left_out(name) {
                return missing(format!("{name}, which was {ids:?},"));
            }
        }
        if let Some(ghost) = &server.ghost
            && is_selected(&ghost.name)
            && !is_left_out(&ghost.name)
        {
            return missing(format!("{}, which can't be described,", ghost.name));
        }
        Ok(())
    }

    /// What it leaves out is missing for the reason that it gives.
    fn is_what_it_leaves_out_right(&self, backup: &Backup, stored: &Stored) -> Result<(), Breach> {
        let servers = locked(&self.servers);
        let server = servers.get(&backup.instance_id).ok_or_else(|| "it is of no instance".to_owned())?;
        let span = Span { from: backup.created_at, until: self.world.now() };
        for left_out in &stored.left_out {
            let name: CollectionName = left_out.name.parse().map_err(|_| format!("{} is no name", left_out.name))?;
            let is_right = match left_out.cause {
                Cause::Restores => restore_owns(&name.collection),
                Cause::Dropped => server.journal.was_dropped(&name, span),
                Cause::Trouble => {
                    locked(&self.seen).troubles += 1;
                    // A network on which nothing gets through for long is trouble enough.
                    let is_of_the_weather = !self.is_calm && left_out.reason.contains("Milvus doesn't answer");
                    !server.is_sound()
                        || server.ghost.as_ref().is_some_and(|ghost| ghost.name == name)
                        || server.journal.was_dropped(&name, span)
                        || is_of_the_weather
                }
            };
            if !is_right {
                let what = format!("{name} is left out for {:?}: {}", left_out.cause, left_out.reason);
                let rule = if left_out.cause == Cause::Trouble { Rule::Unharmed } else { Rule::Complete };
                return Err(Breach::new(rule, what));
            }
        }
        Ok(())
    }

    /// These keys were written or removed.
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

    /// Looks at everything that must be there now.
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

    /// When nothing is due any more, nothing may be left over.
    pub(crate) fn at_rest(&self, instances: &[InstanceId]) {
        self.look();
        self.automatic_at_rest(instances);
        self.nothing_is_left_of_restores(instances);
        let needed: BTreeSet<String> =
            locked(&self.seen).living().flat_map(|(_, living)| living.keys().cloned().collect::<Vec<_>>()).collect();
        let stored: BTreeSet<String> = self.list("").into_keys().collect();
        let left = stored.difference(&needed);
        let (late, left): (Vec<&String>, Vec<&String>) =
            left.partition(|key| locked(&self.seen).late_comers.contains(*key));
        let (data, documents): (Vec<&String>, Vec<&String>) = left.into_iter().partition(|key| format::is_data(key));
        let (of_publishing, data) = data.into_iter().partition(|key| locked(&self.seen).is_of_publishing(key));
        let of_the_living = |key: &&String| locked(&self.seen).living().any(|(id, _)| key.contains(id.as_str()));
        let (superfluous, documents) = documents.into_iter().partition(of_the_living);
        for (rule, left) in [
            (Rule::NoLateComers, late),
            (Rule::NoDataOfPublishing, of_publishing),
            (Rule::NoData, data),
            (Rule::NoDocuments, documents),
            (Rule::OnlyNamedDocuments, superfluous),
        ] {
            let left: Vec<&String> = left;
            if let Some(one) = left.first() {
                self.world.violate(rule, format!("{} objects are left that nobody needs, such as {one}", left.len()));
            }
        }
        self.who_owns_what(instances);
        for instance in instances {
            let now = self.world.now();
            let lease = at_once(self.catalog.acquire(instance, &LeasePurpose::Garbage, now, TimeDelta::seconds(1)));
            if !matches!(lease, Ok(Some(_))) {
                self.world.violate(Rule::Rest, format!("the lease of {instance} isn't free: {lease:?}"));
            }
            for backup in self.backups(instance) {
                if let Some(breach) = self.is_unfinished(&backup) {
                    self.report(breach.of(backup.id.as_str()));
                }
            }
        }
    }

    /// The accounts are right to the byte.
    fn who_owns_what(&self, instances: &[InstanceId]) {
        let mut owned: BTreeMap<BackupId, u64> = BTreeMap::new();
        for (key, (size, _)) in self.list("").into_iter().filter(|(key, _)| format::is_data(key)) {
            let seen = locked(&self.seen);
            let owner = seen.living().filter(|(_, living)| living.keys().any(|known| *known == key)).map(|(id, _)| id);
            if let Some(owner) = owner.min() {
                *owned.entry(owner.clone()).or_default() += size;
            }
        }
        for instance in instances {
            for backup in self.backups(instance) {
                let account = at_once(self.catalog.account(&backup.region, instance, &backup.id)).expect("it answers");
                let account = account.map(|account| account.value.bytes()).unwrap_or_default();
                let truth = owned.get(&backup.id).copied().unwrap_or_default();
                if account != truth {
                    let what = format!("{} owns {truth} bytes, and its account says {account}", backup.id);
                    self.world.violate(Rule::Owned, what);
                }
            }
        }
    }

    fn is_unfinished(&self, backup: &Backup) -> Option<Breach> {
        let breach = |rule, what| Some(Breach::new(rule, what));
        let holder = at_once(self.catalog.backup_named(&backup.instance_id, &backup.name)).expect("it answers");
        let has_name = holder.as_ref() == Some(&backup.id);
        if has_name != backup.is_living() {
            return breach(Rule::Status, format!("is {:?}, and its name belongs to {holder:?}", backup.state.status()));
        }
        match &backup.state {
            BackupState::Failed { failure, ended_at, .. } => {
                // A backup of nothing but what can't be captured fails.
                let is_of_nothing = failure.message.contains("no collection could be backed up");
                let has_trouble = |server: &Server| !server.is_sound() || server.ghost.is_some();
                let is_troubled = locked(&self.servers).get(&backup.instance_id).is_some_and(has_trouble);
                let span = Span { from: backup.created_at, until: *ended_at };
                let has_all_the_while = |server: &Server| {
                    let is_users = |name: &CollectionName| !restore_owns(&name.collection);
                    let is_there = |(_, names): (i64, Vec<&CollectionName>)| names.into_iter().all(is_users);
                    server.journal.all_the_while(span).filter(|(id, _)| server.lists(*id)).any(is_there)
                };
                let was_emptied = !locked(&self.servers).get(&backup.instance_id).is_some_and(has_all_the_while);
                let is_asked_for_by_name = !backup.selection.is_empty();
                let is_excused = match failure.code {
                    _ if is_of_nothing && (is_troubled || was_emptied) => true,
                    // What was asked for by name isn't there, or goes.
                    FailureCode::CollectionDropped | FailureCode::MilvusRefused => is_asked_for_by_name,
                    FailureCode::SourceChanged => is_asked_for_by_name || !self.is_calm,
                    FailureCode::SourceInconsistent => is_asked_for_by_name && is_troubled,
                    FailureCode::MilvusUnreachable | FailureCode::StorageUnreachable => !self.is_calm,
                    _ => false,
                };
                if is_excused { None } else { breach(Rule::Unharmed, format!("failed: {failure:?}")) }
            }
            BackupState::Available(_) | BackupState::Cancelled { .. } | BackupState::Deleted { .. } => None,
            other => breach(Rule::Status, format!("is {:?} for ever", other.status())),
        }
    }
}

impl Seen {
    /// Whether a data object was copied for a backup that was stopped in its last phase.
    fn is_of_publishing(&self, key: &str) -> bool {
        let of = self.copied_for.get(key).and_then(|by| self.backups.iter().find(|(id, _)| id.as_str() == by));
        of.is_some_and(|(_, followed)| {
            followed.was_published && matches!(followed.status, BackupStatus::Cancelled | BackupStatus::Failed)
        })
    }

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

fn are_totals_right(backup: &Backup, stored: &Stored) -> Result<(), Breach> {
    let size: u64 = stored.entries.iter().map(|entry| entry.size).sum();
    let of_record = backup.state.snapshot().map(|snapshot| snapshot.totals).unwrap_or_default();
    let claimed = [stored.size_bytes, of_record.size_bytes];
    let is_right = claimed == [size; 2] && of_record.objects == stored.entries.len() as u64;
    if is_right {
        Ok(())
    } else {
        Err(Breach::new(Rule::Totals, format!("it has {size} bytes and claims {claimed:?}")))
    }
}

/// Whether a backup can go from one status to the other. Nobody harms what is stored, so none may be DAMAGED.
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
