//! What a history begins with.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use chrono::TimeDelta;
use milvault_harness::{MemoryCatalog, MemoryObjects, Random, SeededIds, bucket, instance, register, settings};
use milvault_jobs::{Settings, SnapshotBuckets};
use milvault_model::{Instance, InstanceId, Storage, Time};
use milvault_ports::Bucket;

use super::{ALIASES, COLLECTIONS, History, collection};
use crate::{
    audit::{Audit, Watched},
    belongings::Right,
    billing::Tariff,
    broken::Defect,
    calls::{Faults, Network},
    ports::{Servers, at_once},
    server::{Habits, ROOT, Server},
    workers::Workers,
    world::World,
};

/// More keys than one server needs.
const KEYS: u64 = 1_000_000;

/// What the servers of a history have in common.
struct Beginning<'a> {
    world: &'a World,
    catalog: &'a MemoryCatalog,
    objects: &'a Arc<MemoryObjects>,
    habits: Habits,
    defect: Option<Defect>,
}

impl Beginning<'_> {
    /// Registers an instance and makes its server.
    fn server(&self, id: &InstanceId, source: &Bucket, first_key: u64) -> Server {
        let instance = Instance {
            storage: Some(Storage { bucket: source.name.clone(), root_path: ROOT.parse().unwrap() }),
            management_endpoint: Some(format!("http://{id}:9091")),
            copy_workers: self.world.draw(|random| u8::try_from(random.between(1, 3)).unwrap_or(1)),
            created_at: self.world.now(),
            ..instance(id.as_str())
        };
        at_once(register(self.catalog, &instance));
        let random = self.world.draw(|random| Random::new(random.below(u64::MAX)));
        let mut server = Server::new(source.clone(), self.objects.clone(), self.habits, random, first_key);
        let now = self.world.now();
        self.world.draw(|random| populate(&mut server, random, now));
        server.keeps_what_it_is_to_drop = self.defect == Some(Defect::ImportsAgainIntoTheSame);
        server.lie = self.defect.and_then(Defect::lie);
        if self.habits.is_haunted {
            self.world.draw(|random| server.haunt(collection("ghost"), random));
        }
        server
    }
}

/// Gives a server collections, rows, grants and aliases.
fn populate(server: &mut Server, random: &mut Random, now: Time) {
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
}

/// The habits of the servers; with a defect, those that it needs to show.
fn habits(world: &World, defect: Option<Defect>) -> Habits {
    let mut habits = world.draw(Habits::draw);
    if let Some(defect) = defect {
        // A collection is left out because of the defect, not because of a ghost.
        habits.is_haunted = defect == Defect::IsHaunted;
        habits.caches_aliases |= defect == Defect::BelievesDescriptions;
        habits.adds_fields |= defect == Defect::CountsFields;
        habits.moves_grants |= defect == Defect::GrantsNothing;
    }
    habits
}

/// The deployment's settings, with the prices of a tariff.
fn draw_settings(world: &World, snapshots: Bucket) -> (Settings, Tariff) {
    let copies_in_flight = world.draw(|random| random.between(1, 4)).try_into().unwrap_or(1);
    let now = world.now();
    let tariff = world.draw(|random| Tariff::draw(random, now));
    let settings = Settings {
        prices: tariff.prices(),
        import_stall: TimeDelta::seconds(60),
        imports_in_flight: world.draw(|random| random.between(1, 4)).try_into().unwrap_or(1),
        objects_per_page: world.draw(|random| random.between(1, 12)).try_into().unwrap_or(1),
        copies_in_flight,
        ..settings(SnapshotBuckets::new(snapshots, []))
    };
    (settings, tariff)
}

impl History {
    /// Draws what there is before anything happens.
    pub(super) fn begin(world: Arc<World>, seed: u64, defect: Option<Defect>) -> Self {
        let faults = world.draw(Faults::draw);
        let instances: Vec<InstanceId> = ["orders", "search"][..world.draw(|r| usize::from(r.permille(250))) + 1]
            .iter()
            .map(|id| id.parse().expect("an id"))
            .collect();
        let snapshots = bucket("snapshots");
        let sources: Vec<Bucket> = instances.iter().map(|id| bucket(&format!("milvus-{id}"))).collect();
        let objects = Arc::new(MemoryObjects::new(sources.iter().chain([&snapshots])).with_page(7));
        let catalog = Arc::new(MemoryCatalog::new());
        let habits = habits(&world, defect);
        let beginning = Beginning { world: &world, catalog: &catalog, objects: &objects, habits, defect };
        let mut servers = BTreeMap::new();
        for ((id, source), number) in instances.iter().zip(&sources).zip(0..) {
            servers.insert(id.clone(), beginning.server(id, source, 1 + number * KEYS));
        }
        let servers: Servers = Arc::new(Mutex::new(servers));
        let (settings, tariff) = draw_settings(&world, snapshots.clone());
        let watched =
            Watched { catalog: catalog.clone(), objects: objects.clone(), servers: servers.clone(), bucket: snapshots };
        let audit = Arc::new(Audit::new(world.clone(), watched, faults.are_none()));
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
}
