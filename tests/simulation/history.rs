//! A history: what callers, the schedule, Lambda and Milvus do, drawn from a seed; then rest.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};

use chrono::TimeDelta;
use milvault_billing::meter::meter;
use milvault_jobs::{
    IdempotencyKey, Jobs, Ports, Precondition, Settings, SnapshotBuckets,
    backup::{self, CreateBackup},
    deletion,
    restore::{self, BackupSelector, CreateRestore, DamagedBackup},
    schedule::{self, RunEnd},
    scrub,
    sweep::{SweepMode, sweep},
};
use milvault_memory::{MemoryCatalog, MemoryObjects, SeededIds};
use milvault_model::{
    AllowedEndpoints, Backup, BackupId, BackupKind, BackupStatus, CollectionName, DueKind, Instance, InstanceId,
    JobRef, OnError, Plan, Reload, Restore, RestoreId, RestoreMode, RestoreStatus, Storage, Time, Wanted,
};
use milvault_ports::{Bucket, Catalog, CopyTask, Deadline, Expect, Lease, Objects, PageRequest, Write};

use crate::{
    audit::Audit,
    belongings::Right,
    billing::Tariff,
    broken::Defect,
    calls::{Faults, Network},
    ports::{Port, Report, Servers, at_once, locked},
    random::Random,
    rules::Rule,
    server::{Habits, ROOT, Server},
    workers::Workers,
    world::{Blow, Follow, World},
};

/// The names that collections and backups have: few, so that they meet.
const COLLECTIONS: [&str; 3] = ["items", "users", "orders"];
const BACKUPS: [&str; 4] = ["daily", "weekly", "before the migration", "test"];

/// Those that users have something to do with: a restore may make another one.
const USED: [&str; 4] = ["items", "users", "orders", "copy"];
/// Those that they may be given.
const RENAMED: [&str; 5] = ["items", "users", "orders", "copy", "archive"];
const ALIASES: [&str; 2] = ["current", "latest"];

/// The ending of a collection that a backup leaves out because of trouble with it.
pub(crate) const LEFT_OUT: &str = "left out of a backup";

/// More keys than a server needs.
const KEYS: u64 = 1_000_000;

/// The most that goes on between calls: what there is to back up must not grow faster than it is backed up.
const MOST_MOVES: u64 = 50;

/// How often everything that must be there is looked at, in events.
const LOOK_EVERY: u32 = 64;

/// More sweeps than any work that is left needs, every five minutes, when nothing goes wrong any more.
const MOST_SWEEPS: u32 = 60;

/// An invocation of a function.
#[derive(Debug, Clone)]
pub(crate) enum Invocation {
    /// Of `create-backup`, by a caller.
    Create(CreateBackup),
    /// Of the job's function, by itself or the sweep.
    Run(JobRef),
    /// Of `restore`, by a caller.
    Restore(CreateRestore),
    /// Of `restore`, to roll back.
    Rollback(InstanceId, RestoreId),
    /// Of `delete`, to stop a restore.
    Cancel(InstanceId, RestoreId),
    /// Of `create-backup`, by itself, to copy a page.
    Copy(CopyTask, Report),
    /// Of `create-backup`, to verify a backup.
    Verify(InstanceId, BackupId),
    /// Of `delete`.
    Delete(InstanceId, BackupId),
    /// Of `auto-backup`.
    SetAutoBackup(InstanceId, Plan, Wanted),
    /// Of `create-backup`, by the scheduler.
    Scheduled(InstanceId, Option<Time>),
    /// Of `retention-sweep`.
    Sweep,
    /// Of `usage`.
    Meter,
}

/// What became of a history.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<String>,
    /// How often rules were broken of which that is known.
    pub(crate) known: BTreeMap<Rule, u32>,
    /// Of all that happened, if it was followed.
    pub(crate) fingerprint: u64,
    /// How many backups ended how.
    pub(crate) endings: BTreeMap<&'static str, u32>,
}

/// Lives through the history of a seed.
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
    /// How often, in a hundred actions, someone wants something of restores beside the others'.
    restores: u64,
    next_key: u64,
    events: u32,
    /// How often, in a thousand events, something goes on in a Milvus: between any two calls of whoever is at work.
    restlessness: u64,
    moves: u64,
    swap_moves: u64,
    /// Whether nothing goes on any more but what is left to do.
    is_ending: bool,
    /// When each server is going to do something by itself.
    planned: BTreeMap<InstanceId, Time>,
}

fn bucket(name: &str) -> Bucket {
    Bucket { region: "eu-west-1".parse().expect("a region"), name: name.to_owned() }
}

fn collection(name: &str) -> CollectionName {
    CollectionName::new("default", name)
}

impl History {
    fn begin(world: Arc<World>, seed: u64, defect: Option<Defect>) -> Self {
        let faults = world.draw(Faults::draw);
        let instances: Vec<InstanceId> = ["orders", "search"][..world.draw(|r| usize::from(r.permille(250))) + 1]
            .iter()
            .map(|id| id.parse().expect("an id"))
            .collect();
        let snapshots = bucket("snapshots");
        let sources: Vec<Bucket> = instances.iter().map(|id| bucket(&format!("milvus-{id}"))).collect();
        let objects = Arc::new(MemoryObjects::new(sources.iter().chain([&snapshots])).with_page(7));
        let catalog = Arc::new(MemoryCatalog::new());
        let mut habits = world.draw(Habits::draw);
        if let Some(defect) = defect {
            // What is left out then is for the defect.
            habits.is_haunted = defect == Defect::IsHaunted;
            habits.caches_aliases |= defect == Defect::BelievesDescriptions;
            habits.adds_fields |= defect == Defect::CountsFields;
            habits.moves_grants |= defect == Defect::GrantsNothing;
        }
        let mut servers = BTreeMap::new();
        for ((id, source), number) in instances.iter().zip(&sources).zip(0..) {
            let instance = Instance {
                id: id.clone(),
                name: id.to_string(),
                endpoint: format!("http://{id}:19530"),
                region: source.region.clone(),
                storage: Some(Storage { bucket: source.name.clone(), root_path: ROOT.parse().unwrap() }),
                auth: None,
                management_endpoint: Some(format!("http://{id}:9091")),
                copy_workers: world.draw(|random| u8::try_from(random.between(1, 3)).unwrap_or(1)),
                created_at: world.now(),
                reported_engine_version: None,
            };
            let put = Write::Instance(Box::new(instance), Expect::Absent);
            at_once(catalog.commit(vec![put])).expect("there is none");
            let random = world.draw(|random| Random::new(random.below(u64::MAX)));
            let mut server = Server::new(source.clone(), objects.clone(), habits, random, 1 + number * KEYS);
            let now = world.now();
            world.draw(|random| {
                for name in COLLECTIONS.iter().take(random.between(1, 3).try_into().unwrap_or(1)) {
                    server.create(&collection(name), random, now);
                    server.insert(&collection(name), random, now);
                    if random.permille(300) {
                        drop(server.add_another_field(&collection(name)));
                        server.insert(&collection(name), random, now);
                    }
                    for right in Right::all_on(&collection(name)) {
                        if server.has_role(right.role) && random.permille(400) {
                            drop(server.give_believed(right));
                        }
                    }
                }
                for alias in ALIASES {
                    let name = random.pick(&COLLECTIONS).unwrap_or(&"items");
                    drop(server.point_believed(alias, &collection(name)));
                }
                server.believe_belongings();
            });
            server.keeps_what_it_is_to_drop = defect == Some(Defect::ImportsAgainIntoTheSame);
            server.lie = defect.and_then(Defect::lie);
            if habits.is_haunted {
                world.draw(|random| server.haunt(collection("ghost"), random));
            }
            servers.insert(id.clone(), server);
        }
        let servers: Servers = Arc::new(Mutex::new(servers));
        let (lease, stall) = (TimeDelta::seconds(60), TimeDelta::seconds(600));
        let copies_in_flight = world.draw(|random| random.between(1, 4)).try_into().unwrap_or(1);
        let tariff = {
            let now = world.now();
            world.draw(|random| Tariff::draw(random, now))
        };
        let settings = Settings {
            snapshots: SnapshotBuckets::new(snapshots.clone(), []),
            endpoints: AllowedEndpoints::any(),
            prices: tariff.prices(),
            cursor_key: milvault_jobs::CursorKey::new("of a test"),
            billing_account: String::new(),
            lease,
            stall,
            import_stall: TimeDelta::seconds(60),
            imports_in_flight: world.draw(|random| random.between(1, 4)).try_into().unwrap_or(1),
            objects_per_page: world.draw(|random| random.between(1, 12)).try_into().unwrap_or(1),
            copies_in_flight,
        };
        let audit = Arc::new(Audit::new(
            world.clone(),
            catalog.clone(),
            objects.clone(),
            servers.clone(),
            snapshots,
            faults.are_none(),
        ));
        world.note(|| format!("{faults:?}, {habits:?}"));
        let restores = world.draw(|random| *random.pick(&[0, 0, 40]).unwrap_or(&0));
        let restlessness = world.draw(|random| *random.pick(&[0, 2, 10, 30]).unwrap_or(&0));
        let is_of_restores = defect.is_some_and(Defect::is_of_restores);
        Self {
            network: Arc::new(Network::new(world.clone(), faults)),
            workers: Workers::new(world.clone()),
            offered_catalog: crate::broken::catalog(defect, catalog.clone()),
            offered_objects: crate::broken::objects(defect, objects.clone()),
            catalog,
            objects,
            servers,
            audit,
            ids: Arc::new(SeededIds::new(seed)),
            settings,
            tariff,
            instances,
            slice: world.draw(|random| random.between(3, 40)),
            restores: if is_of_restores { 40 } else { restores },
            next_key: 0,
            events: 0,
            restlessness: if is_of_restores { 30 } else { restlessness },
            moves: 0,
            swap_moves: 0,
            is_ending: false,
            planned: BTreeMap::new(),
            world,
        }
    }

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

    /// Nothing goes wrong any more; the sweep finds what is left to do.
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
        // Whoever isn't through a margin after the deadline is ended by Lambda, wherever they are.
        let deadline = self.world.now() + TimeDelta::seconds(self.slice.cast_signed());
        let margin = TimeDelta::seconds(self.world.draw(|random| random.between(3, 20)).cast_signed());
        let world = self.world.clone();
        self.world.at(deadline + margin, Box::new(move || world.strike(id, Blow::Killed)));
        self.workers.start(id, Box::pin(work(self.world.clone(), port, jobs, invocation, Deadline::at(deadline))));
    }

    fn act(&mut self) {
        let instance = self.world.draw(|random| random.pick(&self.instances).cloned());
        let Some(instance) = instance else { return };
        let restores = self.restores;
        if self.world.draw(|random| random.permille(restores * 10)) {
            return match self.world.draw(|random| random.below(10)) {
                0..6 => self.ask_for_a_restore(instance),
                6..8 => self.about_a_restore(instance, Invocation::Rollback),
                _ => self.about_a_restore(instance, Invocation::Cancel),
            };
        }
        match self.world.draw(|random| random.below(100)) {
            0..14 => self.ask_for_a_backup(instance),
            14..22 => self.about_a_backup(instance, Invocation::Delete),
            22..26 => self.about_a_backup(instance, Invocation::Verify),
            44..52 => self.ask_for_a_restore(instance),
            52..55 => self.about_a_restore(instance, Invocation::Rollback),
            55..57 => self.about_a_restore(instance, Invocation::Cancel),
            26..36 => self.world.invoke(Invocation::Sweep),
            57..59 => self.ask_for_automatic_backups(instance),
            59..63 => self.deliver_a_run(instance),
            63..67 => self.world.invoke(Invocation::Meter),
            36..44 => {
                if let Ok(Some(job)) = at_once(self.catalog.job(&instance)) {
                    self.world.invoke(Invocation::Run(job));
                }
            }
            _ => self.milvus_goes_on(&instance),
        }
    }

    /// What servers do by themselves, and what goes on in them at any moment.
    fn servers_go_on(&mut self, is_swapping: bool) {
        // A swap is soon over, and nothing that users do meanwhile is to be backed up.
        let (moves, restlessness) = match is_swapping {
            true => (&mut self.swap_moves, self.restlessness * 3),
            false => (&mut self.moves, self.restlessness),
        };
        let is_restless = restlessness > 0 && *moves < MOST_MOVES && !self.is_ending;
        if is_restless
            && self.world.draw(|random| random.permille(restlessness))
            && let Some(instance) = self.world.draw(|random| random.pick(&self.instances).cloned())
        {
            *moves += 1;
            self.milvus_goes_on(&instance);
        }
        let now = self.world.now();
        let mut garbage = Vec::new();
        for (instance, server) in locked(&self.servers).iter_mut() {
            if server.next_sorting().is_some_and(|at| at <= now) {
                server.tick(now);
            }
            // An event, so that the clock stops there.
            if let Some(at) = server.next_sorting()
                && self.planned.insert(instance.clone(), at) != Some(at)
            {
                self.world.at(at, Box::new(|| {}));
            }
            let (world, servers, objects) = (&self.world, &self.servers, &self.objects);
            garbage.extend(server.take_doomed().into_iter().map(|(at, key)| {
                let (world, servers, objects) = (world.clone(), servers.clone(), objects.clone());
                let (instance, bucket) = (instance.clone(), server.bucket.clone());
                (at, Garbage { world, servers, instance, objects, bucket, key })
            }));
        }
        for (at, garbage) in garbage {
            garbage.goes(at);
        }
    }

    fn ask_for_a_backup(&mut self, instance_id: InstanceId) {
        self.next_key += 1;
        let number = self.next_key;
        let request = self.world.draw(|random| CreateBackup {
            instance_id,
            name: random.pick(&BACKUPS).unwrap_or(&"daily").parse().expect("a name"),
            kind: BackupKind::Manual,
            selection: match random.below(4) {
                0 => random.pick(&COLLECTIONS).map(|name| format!("default.{name}").parse().expect("a pattern")),
                _ => None,
            }
            .into_iter()
            .collect(),
            expires_in: random.permille(200).then(|| TimeDelta::minutes(random.between(3, 20).cast_signed())),
            idempotency: random
                .permille(500)
                .then(|| IdempotencyKey { key: format!("key {number}"), request_hash: number.to_string() }),
        });
        // The same request again, at once or later, has one effect if it has a key.
        if request.idempotency.is_some() && self.world.draw(|random| random.permille(400)) {
            let (world, again) = (self.world.clone(), request.clone());
            // Half of them while the first may still be under way.
            let latest = if self.world.draw(|random| random.permille(500)) { 500 } else { 60_000 };
            let delay = self.world.draw(|random| random.below(latest)).cast_signed();
            let deliver = Box::new(move || world.invoke(Invocation::Create(again)));
            self.world.after(TimeDelta::milliseconds(delay), deliver);
        }
        self.world.invoke(Invocation::Create(request));
    }

    fn ask_for_a_restore(&mut self, instance_id: InstanceId) {
        let source = self.world.draw(|random| match random.below(4) {
            0 => random.pick(&self.instances).cloned(),
            _ => None,
        });
        let source_instance_id = source.unwrap_or_else(|| instance_id.clone());
        let available: Vec<BackupId> = self
            .backups(&source_instance_id)
            .into_iter()
            .filter(|backup| backup.state.status() == BackupStatus::Available)
            .map(|backup| backup.id)
            .collect();
        let Some(id) = self.world.draw(|random| random.pick(&available).cloned()) else { return };
        self.next_key += 1;
        let number = self.next_key;
        let request = self.world.draw(|random| {
            let one = collection(random.pick(&COLLECTIONS).unwrap_or(&"items"));
            let way = random.below(6);
            CreateRestore {
                instance_id,
                source_instance_id,
                backup: BackupSelector::Id(id),
                selection: if way < 2 { vec![one.to_string().parse().expect("a pattern")] } else { Vec::new() },
                rename: if way == 0 { [(one, collection("copy"))].into() } else { BTreeMap::new() },
                damaged: DamagedBackup::Refuse,
                mode: if random.permille(150) { RestoreMode::Create } else { RestoreMode::Replace },
                reload: if random.permille(200) { Reload::None } else { Reload::AsBefore },
                on_error: if random.permille(300) { OnError::Continue } else { OnError::Stop },
                keep_previous_hours: if random.permille(300) { 0 } else { 1 },
                idempotency: random
                    .permille(500)
                    .then(|| IdempotencyKey { key: format!("key {number}"), request_hash: number.to_string() }),
            }
        });
        self.world.invoke(Invocation::Restore(request));
    }

    fn about_a_restore(&self, instance: InstanceId, invocation: impl Fn(InstanceId, RestoreId) -> Invocation) {
        let page = PageRequest { after: None, limit: 1000 };
        let found = at_once(self.catalog.restores(&instance, page));
        let ids: Vec<RestoreId> = found.map(|page| page.items.into_iter().map(|r| r.id).collect()).unwrap_or_default();
        if let Some(id) = self.world.draw(|random| random.pick(&ids).cloned()) {
            self.world.invoke(invocation(instance, id));
        }
    }

    fn about_a_backup(&self, instance: InstanceId, invocation: impl Fn(InstanceId, BackupId) -> Invocation) {
        let ids: Vec<BackupId> = self.backups(&instance).into_iter().map(|backup| backup.id).collect();
        if let Some(id) = self.world.draw(|random| random.pick(&ids).cloned()) {
            self.world.invoke(invocation(instance, id));
        }
    }

    fn backups(&self, instance: &InstanceId) -> Vec<Backup> {
        let page = PageRequest { after: None, limit: 1000 };
        let found = at_once(self.catalog.backups(instance, page));
        found.map(|page| page.items.into_iter().map(|backup| backup.value).collect()).unwrap_or_default()
    }

    fn milvus_goes_on(&self, instance: &InstanceId) {
        let now = self.world.now();
        let mut servers = locked(&self.servers);
        let Some(server) = servers.get_mut(instance) else { return };
        server.tick(now);
        // Who drops or makes collections while they are being swapped is told which is where, and isn't followed here.
        let is_swapping = self.audit.is_swapping(instance);
        let what = self.world.draw(|random| {
            let name = collection(random.pick(&USED).unwrap_or(&"items"));
            let what = churn(server, &name, random, now, is_swapping);
            server.believe_belongings();
            what
        });
        drop(servers);
        self.world.note(|| format!("Milvus of {instance}: {what}"));
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

/// Something that goes on in a Milvus while it is backed up.
fn churn(server: &mut Server, name: &CollectionName, random: &mut Random, now: Time, is_swapping: bool) -> String {
    match if is_swapping { random.between(16, 63) } else { random.below(78) } {
        0..20 => {
            server.insert(name, random, now);
            format!("inserts into {name}")
        }
        20..32 => {
            server.delete(name, random, now);
            format!("deletes from {name}")
        }
        32..36 => {
            server.seal(name, now);
            format!("seals {name}")
        }
        36..40 => {
            server.seal_by_policy(name, random, now);
            format!("seals some of {name}")
        }
        40..50 => {
            server.compact(name, random, now);
            format!("compacts {name}")
        }
        50..54 => {
            let alias = *random.pick(&ALIASES).unwrap_or(&"current");
            format!("points {alias} at {name}: {:?}", server.point_believed(alias, name))
        }
        54..55 => {
            let alias = *random.pick(&ALIASES).unwrap_or(&"current");
            format!("drops alias {alias}: {:?}", server.drop_believed_alias(alias))
        }
        55..60 => {
            let rights: Vec<Right> = Right::all_on(name).filter(|right| server.has_role(right.role)).collect();
            match random.pick(&rights).cloned() {
                Some(right) if random.permille(700) => {
                    format!("grants {right}: {:?}", server.give_believed(right.clone()))
                }
                Some(right) => format!("revokes {right}: {:?}", server.revoke_believed(right.clone())),
                None => "grants nothing".to_owned(),
            }
        }
        60..62 => format!("adds a field to {name}: {:?}", server.add_another_field(name)),
        62..64 => {
            server.restart(random, now);
            "starts anew".to_owned()
        }
        64..66 => {
            server.drop_believed(name, now);
            format!("drops {name}")
        }
        66..69 => {
            server.drop_believed(name, now);
            server.create(name, random, now);
            server.insert(name, random, now);
            format!("drops {name} and has it again")
        }
        69..73 => {
            let to = collection(random.pick(&RENAMED).unwrap_or(&"items"));
            server.rename_believed(name, &to, now);
            format!("renames {name} to {to}, and what had that name to this one's")
        }
        _ => {
            server.create(name, random, now);
            format!("has {name}")
        }
    }
}

/// A file that a server's garbage collection is to remove.
struct Garbage {
    world: Arc<World>,
    servers: Servers,
    instance: InstanceId,
    objects: Arc<MemoryObjects>,
    bucket: Bucket,
    key: String,
}

impl Garbage {
    /// It goes at that time, or later if garbage is held then.
    fn goes(self, at: Time) {
        let world = self.world.clone();
        world.at(
            at,
            Box::new(move || {
                let held_until = locked(&self.servers).get(&self.instance).map(|server| server.held_until);
                match held_until.filter(|until| *until > self.world.now()) {
                    Some(until) => self.goes(until),
                    None => drop(at_once(self.objects.delete(&self.bucket, &[self.key]))),
                }
            }),
        );
    }
}

/// What a function does with its event.
async fn work(world: Arc<World>, port: Arc<Port>, jobs: Jobs, invocation: Invocation, deadline: Deadline) {
    let worker = port.worker;
    let result = match &invocation {
        Invocation::Create(request) => create(&port, &jobs, request, deadline).await,
        Invocation::Run(JobRef::Backup { instance_id, backup_id }) => {
            let end = backup::run(&jobs, instance_id, backup_id, deadline).await;
            if end.is_err() && world.draw(|random| random.permille(300)) {
                let (again, told) = (invocation.clone(), world.clone());
                world.after(TimeDelta::seconds(60), Box::new(move || told.invoke(again)));
            }
            end.map(|end| format!("{end:?}"))
        }
        Invocation::Run(JobRef::Restore { instance_id, restore_id }) => {
            let end = restore::run(&jobs, instance_id, restore_id, deadline).await;
            end.map(|end| format!("{end:?}"))
        }
        Invocation::Restore(request) => {
            let created = restore::create(&jobs, request.clone()).await;
            follow_up(&jobs, created).await
        }
        Invocation::Rollback(instance, id) => {
            let accepted = restore::rollback(&jobs, instance, id, None).await;
            follow_up(&jobs, accepted).await
        }
        Invocation::Cancel(instance, id) => {
            let stopped = restore::cancel(&jobs, instance, id).await;
            stopped.map(|restore| format!("{:?}", restore.state.status()))
        }
        Invocation::Copy(task, report) => {
            let lease = Lease { instance_id: task.instance_id.clone(), fence: task.fence };
            port.audit.lent(&lease, worker);
            let done = backup::copy_page(&jobs, task.clone(), deadline).await;
            let shown = format!("{done:?}");
            *locked(&report.0) = Some(done.map_err(|error| error.to_string()));
            Ok(shown)
        }
        Invocation::Verify(instance, id) => {
            let found = scrub::verify(&jobs, instance, id, deadline).await;
            found.map(|found| format!("{:?}", found.verification))
        }
        Invocation::Delete(instance, id) => {
            let deleted = deletion::delete(&jobs, instance, id, deadline).await;
            deleted.map(|backup| format!("{:?}", backup.state.status()))
        }
        Invocation::SetAutoBackup(instance, plan, wanted) => {
            let changed = schedule::change(&jobs, instance, &|_| plan.clone(), *wanted, &Precondition::None).await;
            changed.map(|(record, told)| format!("{:?}, {told:?}", record.switch))
        }
        Invocation::Scheduled(instance, time) => match schedule::run(&jobs, instance, *time).await {
            Ok(RunEnd::Begun(backup)) => {
                let end = backup::run(&jobs, instance, &backup.id, deadline).await;
                Ok(format!("{}, {end:?}", backup.id))
            }
            end => end.map(|end| format!("{end:?}")),
        },
        Invocation::Meter => {
            let region = "eu-west-1".parse().expect("a region");
            meter(&jobs, &region, deadline).await.map(|report| format!("{report:?}"))
        }
        Invocation::Sweep => sweep(&jobs, SweepMode::Act, deadline).await.map(|report| format!("{report:?}")),
    };
    world.note(|| format!("[{worker}] is done: {result:?}"));
}

/// Has the work on an accepted restore begun.
async fn follow_up(
    jobs: &Jobs,
    accepted: Result<Restore, milvault_jobs::Error>,
) -> Result<String, milvault_jobs::Error> {
    let restore = accepted?;
    let job = JobRef::Restore { instance_id: restore.instance_id.clone(), restore_id: restore.id.clone() };
    let taken_up = jobs.ports.continuation.resume(&job).await;
    Ok(format!("{}, {taken_up:?}", restore.id))
}

async fn create(
    port: &Port,
    jobs: &Jobs,
    request: &CreateBackup,
    deadline: Deadline,
) -> Result<String, milvault_jobs::Error> {
    let created = backup::create(jobs, request.clone()).await;
    if let Some(key) = &request.idempotency {
        match &created {
            Ok(backup) => port.audit.answered(&key.key, &backup.id),
            Err(error) => port.audit.refused(&request.instance_id, &key.key, error),
        }
    }
    let backup = created?;
    let job = JobRef::Backup { instance_id: backup.instance_id.clone(), backup_id: backup.id.clone() };
    // An HTTP caller's job begins in an invocation of its own, a direct caller's in this one.
    if port.network.world.draw(|random| random.permille(700)) {
        let taken_up = jobs.ports.continuation.resume(&job).await;
        return Ok(format!("{}, {taken_up:?}", backup.id));
    }
    let end = backup::run(jobs, &backup.instance_id, &backup.id, deadline).await;
    Ok(format!("{}, {end:?}", backup.id))
}
