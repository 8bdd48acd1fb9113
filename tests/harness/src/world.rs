//! The jobs over ports in memory.

use std::sync::Arc;

use chrono::TimeDelta;
use milvault_jobs::{CursorKey, Jobs, Ports, Settings, SnapshotBuckets};
use milvault_model::{AllowedEndpoints, Prices, Time};
use milvault_ports::{Bucket, Catalog, Clock, Objects};

use crate::{Alone, MemoryCatalog, MemoryEvents, MemoryObjects, MemorySchedules, SeededIds, TestClock};

/// The jobs over ports in memory, for tests that need no Milvus.
pub struct MemoryWorld {
    /// What is tested.
    pub jobs: Jobs,
    /// Its catalog.
    pub catalog: Arc<MemoryCatalog>,
    /// Its buckets.
    pub objects: Arc<MemoryObjects>,
    /// Its event bus.
    pub events: Arc<MemoryEvents>,
    /// Its clock.
    pub clock: Arc<TestClock>,
}

impl MemoryWorld {
    /// A world with these buckets for snapshots, the deployment's own first, at this time.
    pub fn new(snapshots: &[Bucket], now: Time) -> Self {
        let (catalog, events) = (Arc::new(MemoryCatalog::new()), Arc::new(MemoryEvents::default()));
        let (objects, clock) = (Arc::new(MemoryObjects::new(snapshots)), Arc::new(TestClock::new(now)));
        let ports = Ports { events: events.clone(), ..ports(catalog.clone(), objects.clone(), clock.clone()) };
        let settings = settings(SnapshotBuckets::new(snapshots[0].clone(), snapshots[1..].iter().cloned()));
        Self { jobs: Jobs { ports, settings }, catalog, objects, events, clock }
    }
}

/// Ports with these three; behind all others there is nothing but memory.
pub fn ports(catalog: Arc<dyn Catalog>, objects: Arc<dyn Objects>, clock: Arc<dyn Clock>) -> Ports {
    Ports {
        catalog,
        objects,
        milvus: Arc::new(Alone),
        continuation: Arc::new(Alone),
        copy_workers: Arc::new(Alone),
        schedules: Arc::new(MemorySchedules::default()),
        events: Arc::new(MemoryEvents::default()),
        clock,
        ids: Arc::new(SeededIds::new(1)),
    }
}

/// Settings with these buckets for snapshots; a test changes the values that it is about.
pub fn settings(snapshots: SnapshotBuckets) -> Settings {
    Settings {
        snapshots,
        endpoints: AllowedEndpoints::any(),
        prices: Prices::default(),
        cursor_key: CursorKey::new("of a test"),
        billing_account: String::new(),
        lease: TimeDelta::seconds(60),
        stall: TimeDelta::seconds(600),
        import_stall: TimeDelta::seconds(300),
        imports_in_flight: 32,
        objects_per_page: 10,
        copies_in_flight: 1,
    }
}
