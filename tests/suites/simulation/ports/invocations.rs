//! The invocations that an invocation starts.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_harness::locked;
use milvault_model::{BackupId, InstanceId, JobRef, Time};
use milvault_ports::{Clock, Continuation, ContinuationError, CopyReport, CopyTask, CopyWorkers};

use super::{Port, title};
use crate::{calls::Nature, history::Invocation};

fn no_invocation<T>(reason: String) -> Result<T, ContinuationError> {
    Err(ContinuationError(reason))
}

/// The place for an invocation's answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report(pub(crate) Arc<Mutex<Option<Result<CopyReport, String>>>>);

impl Port {
    /// Invokes a function without waiting for it.
    async fn start(&self, invocation: Invocation) -> Result<(), ContinuationError> {
        let network = self.network.clone();
        let name = title!(self, "start {invocation:?}");
        let effect = move || {
            // Lambda may deliver an event twice, and may lose an accepted one.
            let faults = network.faults();
            let times = network.world.draw(|random| match random.below(1000) {
                lot if lot < faults.answer_lost * 4 => 2,
                lot if lot < faults.answer_lost * 4 + faults.refused * 2 => 0,
                _ => 1,
            });
            for _ in 0..times {
                network.world.invoke(invocation.clone());
            }
            Ok(())
        };
        self.network.call(self.outgoing(Nature::Guarded, name), effect, no_invocation).await
    }
}

#[async_trait]
impl Continuation for Port {
    async fn resume(&self, job: &JobRef) -> Result<(), ContinuationError> {
        self.start(Invocation::Run(job.clone())).await
    }

    async fn verify(&self, instance: &InstanceId, backup: &BackupId) -> Result<(), ContinuationError> {
        self.start(Invocation::Verify(instance.clone(), backup.clone())).await
    }

    async fn begin_run(&self, instance: &InstanceId, scheduled_for: Time) -> Result<(), ContinuationError> {
        self.start(Invocation::Scheduled(instance.clone(), Some(scheduled_for))).await
    }
}

#[async_trait]
impl CopyWorkers for Port {
    async fn copy(&self, task: &CopyTask) -> Result<CopyReport, ContinuationError> {
        let (world, report) = (self.network.world.clone(), Report::default());
        let invocation = Invocation::Copy(task.clone(), report.clone());
        let name = title!(self, "have page {} copied", task.page);
        let effect = move || {
            world.invoke(invocation);
            Ok(())
        };
        // A lost request isn't repeated: its sender has given it up by then.
        self.network.call(self.outgoing(Nature::Read, name), effect, no_invocation).await?;
        while self.now() < task.until {
            self.network.world.pause(TimeDelta::milliseconds(250)).await;
            if let Some(report) = locked(&report.0).take() {
                return report.map_err(ContinuationError);
            }
        }
        no_invocation("it takes too long".to_owned())
    }
}
