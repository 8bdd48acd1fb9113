//! A scheduler and an event bus in memory, and ports with nothing behind them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use milvault_model::{BackupId, Instance, InstanceId, JobRef, Notice, Plan, Time};
use milvault_ports::{
    Connector, Continuation, ContinuationError, CopyReport, CopyTask, CopyWorkers, EVENTS_AT_ONCE, Events, EventsError,
    Milvus, MilvusError, Schedules, SchedulesError,
};

use crate::locked;

/// Schedules in memory, for a test to read.
#[derive(Debug, Default)]
pub struct MemorySchedules {
    plans: Mutex<BTreeMap<InstanceId, Plan>>,
    failures: Mutex<u32>,
}

impl MemorySchedules {
    /// The last plan of the instance's schedule.
    pub fn plan(&self, instance: &InstanceId) -> Option<Plan> {
        locked(&self.plans).get(instance).cloned()
    }

    /// Has this many of the next requests fail without an effect.
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

/// An event bus in memory: what was published, in order.
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

/// Ports without other invocations and without a server: a test resumes its jobs itself.
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
