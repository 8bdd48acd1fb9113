//! A scheduler and an event bus in memory, and a world without others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use milvault_jobs::{
    backup::{CopyReport, CopyTask},
    ports::{
        Connector, Continuation, ContinuationError, CopyWorkers, EVENTS_AT_ONCE, Events, EventsError, Milvus,
        MilvusError, Schedules, SchedulesError,
    },
};
use milvault_model::{BackupId, Instance, InstanceId, JobRef, Notice, Plan, Time};

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
