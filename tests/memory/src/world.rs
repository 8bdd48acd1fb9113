//! A scheduler and an event bus in memory, a world without others, and everything put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_jobs::{Jobs, Ports, Settings, SnapshotBuckets};
use milvault_model::{
    AllowedEndpoints, Backup, BackupId, BackupKind, BackupState, CaptureMethod, Instance, InstanceId, JobRef, Notice,
    Plan, Prices, Region, Snapshot, Time, Totals,
};
use milvault_ports::{
    Bucket, Connector, Continuation, ContinuationError, CopyReport, CopyTask, CopyWorkers, EVENTS_AT_ONCE, Events,
    EventsError, Milvus, MilvusError, Schedules, SchedulesError,
};

use crate::{MemoryCatalog, MemoryObjects, SeededIds, TestClock};

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Schedules in memory, for a test to look at and to fire.
#[derive(Debug, Default)]
pub struct MemorySchedules {
    plans: Mutex<BTreeMap<InstanceId, Plan>>,
    failures: Mutex<u32>,
}

impl MemorySchedules {
    /// The plan that the instance's schedule was given last.
    pub fn plan(&self, instance: &InstanceId) -> Option<Plan> {
        locked(&self.plans).get(instance).cloned()
    }

    /// So many of the next requests fail without an effect.
    pub fn fail(&self, times: u32) {
        *locked(&self.failures) = times;
    }

    fn admit(&self) -> Result<(), SchedulesError> {
        let mut failures = locked(&self.failures);
        if *failures == 0 {
            return Ok(());
        }
        *failures -= 1;
        Err(SchedulesError("throttled".to_owned()))
    }
}

#[async_trait]
impl Schedules for MemorySchedules {
    async fn put(&self, instance: &InstanceId, plan: &Plan) -> Result<(), SchedulesError> {
        self.admit()?;
        locked(&self.plans).insert(instance.clone(), plan.clone());
        Ok(())
    }

    async fn remove(&self, instance: &InstanceId) -> Result<(), SchedulesError> {
        self.admit()?;
        locked(&self.plans).remove(instance);
        Ok(())
    }
}

/// What was published, in its order.
#[derive(Debug, Default)]
pub struct MemoryEvents(Mutex<Vec<Notice>>);

impl MemoryEvents {
    /// Everything that was published so far.
    pub fn published(&self) -> Vec<Notice> {
        locked(&self.0).clone()
    }
}

#[async_trait]
impl Events for MemoryEvents {
    async fn publish(&self, notices: &[Notice]) -> Result<(), EventsError> {
        if notices.is_empty() || notices.len() > EVENTS_AT_ONCE {
            return Err(EventsError(format!("{} events at once", notices.len())));
        }
        locked(&self.0).extend_from_slice(notices);
        Ok(())
    }
}

/// No other invocations and no server: whoever runs a job runs it again by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

#[async_trait]
impl Continuation for Alone {
    async fn resume(&self, _: &JobRef) -> Result<(), ContinuationError> {
        Ok(())
    }

    async fn verify(&self, _: &InstanceId, _: &BackupId) -> Result<(), ContinuationError> {
        Ok(())
    }

    async fn begin_run(&self, _: &InstanceId, _: Time) -> Result<(), ContinuationError> {
        Ok(())
    }
}

#[async_trait]
impl CopyWorkers for Alone {
    async fn copy(&self, _: &CopyTask) -> Result<CopyReport, ContinuationError> {
        Err(ContinuationError("there are no others".to_owned()))
    }
}

#[async_trait]
impl Connector for Alone {
    async fn connect(&self, _: &Instance) -> Result<Arc<dyn Milvus>, MilvusError> {
        Err(MilvusError::Unreachable("there is no server".to_owned()))
    }
}

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
        let ports = Ports {
            catalog: catalog.clone(),
            objects: objects.clone(),
            milvus: Arc::new(Alone),
            continuation: Arc::new(Alone),
            copy_workers: Arc::new(Alone),
            schedules: Arc::new(MemorySchedules::default()),
            events: events.clone(),
            clock: clock.clone(),
            ids: Arc::new(SeededIds::new(1)),
        };
        let settings = Settings {
            snapshots: SnapshotBuckets::new(snapshots[0].clone(), snapshots[1..].iter().cloned()),
            endpoints: AllowedEndpoints::any(),
            prices: Prices::default(),
            cursor_key: milvault_jobs::CursorKey::new("of a test"),
            billing_account: String::new(),
            lease: TimeDelta::seconds(60),
            stall: TimeDelta::seconds(600),
            import_stall: TimeDelta::seconds(300),
            imports_in_flight: 32,
            objects_per_page: 10,
            copies_in_flight: 1,
        };
        Self { jobs: Jobs { ports, settings }, catalog, objects, events, clock }
    }
}

/// A finished backup of this size, which stored all of it.
pub fn available(instance: &InstanceId, id: BackupId, region: &Region, made: Time, size_bytes: u64) -> Backup {
    let totals = Totals {
        size_bytes,
        added_bytes: size_bytes,
        found_bytes: 0,
        objects: 1,
        collections: 1,
        entities: 1,
        counted_exactly: 1,
    };
    Backup {
        name: format!("of {}", made.format("%Y-%m-%d %H %M %S")).parse().unwrap_or_else(|_| unreachable!("a name")),
        id,
        instance_id: instance.clone(),
        kind: BackupKind::Manual,
        method: CaptureMethod::Binlog,
        region: region.clone(),
        engine_version: "2.6.0".to_owned(),
        selection: Vec::new(),
        created_at: made,
        expires_at: None,
        kept_until: None,
        all_locked_until: None,
        locked_until: None,
        deletion_requested_at: None,
        cancel_requested_at: None,
        pins: BTreeSet::new(),
        verification: None,
        state: BackupState::Available(Snapshot {
            started_at: made,
            completed_at: made,
            point_in_time: made,
            totals,
            completeness: Default::default(),
            captured_as: None,
        }),
    }
}
