//! A history: what callers, the schedule, Lambda and Milvus do, drawn from a seed, until all work is done.

mod actions;
mod beginning;
mod milvus;
mod work;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use chrono::TimeDelta;
use milvault_harness::{MemoryCatalog, MemoryObjects, SeededIds, locked};
use milvault_jobs::{Jobs, Ports, Settings, backup::CreateBackup, restore::CreateRestore};
use milvault_model::{
    Backup, BackupId, BackupKind, BackupStatus, CollectionName, DueKind, InstanceId, JobRef, Plan, RequestedSwitch,
    RestoreId, RestoreStatus, Time,
};
use milvault_ports::{Catalog, CopyTask, Deadline, Objects, PageRequest};

use crate::{
    audit::Audit,
    billing::Tariff,
    broken::Defect,
    calls::Network,
    ports::{Port, Report, Servers, at_once},
    rules::Rule,
    workers::Workers,
    world::{Blow, Follow, World},
};

use work::work;

/// The names of collections: few, so that they collide.
const COLLECTIONS: [&str; 3] = ["items", "users", "orders"];
const ALIASES: [&str; 2] = ["current", "latest"];

/// The ending of a collection that a backup leaves out because of trouble with it.
pub(crate) const LEFT_OUT: &str = "left out of a backup";

/// The number of events between two looks at everything that must exist.
const LOOK_EVERY: u32 = 64;

/// More sweeps than the remaining work needs, one every five minutes, once calls don't fail any more.
const MOST_SWEEPS: u32 = 60;

/// What became of a history.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<String>,
    /// How often each known violation occurred.
    pub(crate) known: BTreeMap<Rule, u32>,
    /// The fingerprint of everything that happened, if it was followed.
    pub(crate) fingerprint: u64,
    /// How many backups and restores ended in each way.
    pub(crate) endings: BTreeMap<&'static str, u32>,
}

/// Runs the history of a seed.
pub(crate) fn live(seed: u64, defect: Option<Defect>, follow: Follow) -> Outcome {
    let world = World::new(seed, follow);
    let told = world.clone();
    let lived = catch_unwind(AssertUnwindSafe(move || {
        let mut history = History::begin(world, seed, defect);
        history.go_on();
        history.come_to_rest();
        history.endings()
    }));
    let panicked = || Some("something panicked".to_owned());
    Outcome {
        violation: told.violation().or_else(|| if lived.is_err() { panicked() } else { None }),
        known: told.known(),
        fingerprint: told.fingerprint(),
        endings: lived.unwrap_or_default(),
    }
}

pub(crate) struct History {
    pub(crate) world: Arc<World>,
    network: Arc<Network>,
    workers: Workers,
    catalog: Arc<MemoryCatalog>,
    objects: Arc<MemoryObjects>,
    offered_catalog: Arc<dyn Catalog>,
    offered_objects: Arc<dyn Objects>,
    servers: Servers,
    pub(crate) audit: Arc<Audit>,
    ids: Arc<SeededIds>,
    settings: Settings,
    pub(crate) tariff: Tariff,
    pub(crate) instances: Vec<InstanceId>,
    /// How long an invocation works, in seconds.
    slice: u64,
    /// How many actions of a hundred are about restores, in addition to the usual ones.
    restores: u64,
    next_key: u64,
    events: u32,
    /// After how many events of a thousand something happens in a Milvus, between any two calls of a worker.
    restlessness: u64,
    moves: u64,
    swap_moves: u64,
    /// Whether only the remaining work is done.
    is_ending: bool,
    /// When each server will next act by itself.
    planned: BTreeMap<InstanceId, Time>,
}

impl History {
    /// Lets callers, the schedule and Milvus do what they do.
    fn go_on(&mut self) {
        let actions = self.world.draw(|random| random.between(10, 50));
        for _ in 0..actions {
            let gap = self.world.draw(|random| match random.below(20) {
                0 => random.between(60, 900) * 1000,
                _ => random.below(15_000),
            });
            self.advance(TimeDelta::milliseconds(gap.cast_signed()));
            if self.world.is_over() {
                return;
            }
            self.act();
        }
    }

    /// Stops all faults and lets the sweep find the remaining work.
    fn come_to_rest(&mut self) {
        self.is_ending = true;
        self.network.calm_down();
        for _ in 0..MOST_SWEEPS {
            self.world.invoke(Invocation::Sweep);
            self.advance(TimeDelta::minutes(5));
            if self.world.is_over() {
                return;
            }
            if self.is_at_rest() {
                self.audit.at_rest(&self.instances);
                return self.come_to_the_bill();
            }
        }
        self.world.violate(Rule::Rest, format!("work is left after {MOST_SWEEPS} sweeps"));
    }

    fn is_at_rest(&self) -> bool {
        let now = self.world.now();
        let is_due = |kind| {
            let page = PageRequest { after: None, limit: 1 };
            at_once(self.catalog.due(kind, now, page)).is_ok_and(|page| !page.items.is_empty())
        };
        let has_job = |instance| at_once(self.catalog.job(instance)).is_ok_and(|job| job.is_some());
        self.workers.are_idle() && !DueKind::ALL.into_iter().any(is_due) && !self.instances.iter().any(has_job)
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, by: TimeDelta) {
        let until = self.world.now() + by;
        loop {
            for invocation in self.world.take_arrivals() {
                self.start(invocation);
            }
            self.workers.work();
            self.events += 1;
            let is_swapping = self.instances.iter().any(|instance| self.audit.is_swapping(instance));
            self.servers_go_on(is_swapping);
            if is_swapping {
                self.audit.look_at_names();
            }
            if self.events.is_multiple_of(LOOK_EVERY) {
                self.audit.look();
            }
            if self.world.is_over() || !self.world.step(until) {
                return self.world.pass(until);
            }
        }
    }

    fn start(&mut self, invocation: Invocation) {
        let id = self.workers.next();
        self.world.note(|| format!("[{id}] {invocation:?}"));
        let port = Arc::new(Port {
            network: self.network.clone(),
            worker: id,
            catalog: self.offered_catalog.clone(),
            objects: self.offered_objects.clone(),
            servers: self.servers.clone(),
            audit: self.audit.clone(),
        });
        let ports = Ports {
            catalog: port.clone(),
            objects: port.clone(),
            milvus: port.clone(),
            continuation: port.clone(),
            copy_workers: port.clone(),
            schedules: port.clone(),
            events: port.clone(),
            clock: port.clone(),
            ids: self.ids.clone(),
        };
        let jobs = Jobs { ports, settings: self.settings.clone() };
        // Lambda ends an invocation that still runs a margin after its deadline.
        let deadline = self.world.now() + TimeDelta::seconds(self.slice.cast_signed());
        let margin = TimeDelta::seconds(self.world.draw(|random| random.between(3, 20)).cast_signed());
        let world = self.world.clone();
        self.world.at(deadline + margin, Box::new(move || world.strike(id, Blow::Killed)));
        self.workers.start(id, Box::pin(work(self.world.clone(), port, jobs, invocation, Deadline::at(deadline))));
    }

    fn backups(&self, instance: &InstanceId) -> Vec<Backup> {
        let page = PageRequest { after: None, limit: 1000 };
        let found = at_once(self.catalog.backups(instance, page));
        found.map(|page| page.items.into_iter().map(|backup| backup.value).collect()).unwrap_or_default()
    }

    fn endings(&self) -> BTreeMap<&'static str, u32> {
        let mut endings = BTreeMap::new();
        match locked(&self.audit.seen).troubles {
            0 => {}
            troubles => drop(endings.insert(LEFT_OUT, troubles)),
        }
        for instance in &self.instances {
            let page = PageRequest { after: None, limit: 1000 };
            for restore in at_once(self.catalog.restores(instance, page)).map(|page| page.items).unwrap_or_default() {
                let ending = match restore.state.status() {
                    RestoreStatus::Completed => "restore COMPLETED",
                    RestoreStatus::RolledBack => "restore ROLLED_BACK",
                    RestoreStatus::Failed => "restore FAILED",
                    RestoreStatus::Cancelled => "restore CANCELLED",
                    _ => "restore unfinished",
                };
                *endings.entry(ending).or_default() += 1;
            }
        }
        for backup in self.instances.iter().flat_map(|instance| self.backups(instance)) {
            let ending = match backup.state.status() {
                BackupStatus::Available if backup.kind == BackupKind::Auto => "automatic AVAILABLE",
                BackupStatus::Available => "AVAILABLE",
                BackupStatus::Deleted => "DELETED",
                BackupStatus::Failed => "FAILED",
                BackupStatus::Cancelled => "CANCELLED",
                _ => "unfinished",
            };
            *endings.entry(ending).or_default() += 1;
        }
        endings
    }
}

/// An invocation of a function.
#[derive(Debug, Clone)]
pub(crate) enum Invocation {
    /// `create-backup`, by a caller.
    Create(CreateBackup),
    /// The function of a job, by itself or by the sweep.
    Run(JobRef),
    /// `restore`, by a caller.
    Restore(CreateRestore),
    /// `restore`, to roll back.
    Rollback(InstanceId, RestoreId),
    /// `delete`, to stop a restore.
    Cancel(InstanceId, RestoreId),
    /// `create-backup`, by itself, to copy a page.
    Copy(CopyTask, Report),
    /// `create-backup`, to verify a backup.
    Verify(InstanceId, BackupId),
    /// Of `delete`.
    Delete(InstanceId, BackupId),
    /// Of `auto-backup`.
    SetAutoBackup(InstanceId, Plan, RequestedSwitch),
    /// `create-backup`, by the scheduler.
    Scheduled(InstanceId, Option<Time>),
    /// Of `retention-sweep`.
    Sweep,
    /// Of `usage`.
    Meter,
}

fn collection(name: &str) -> CollectionName {
    CollectionName::new("default", name)
}
