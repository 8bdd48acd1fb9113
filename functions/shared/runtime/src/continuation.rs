//! Further invocations: a job's next one, and those that copy for a backup.

use async_trait::async_trait;
use aws_sdk_lambda::{Client, error::DisplayErrorContext, primitives::Blob, types::InvocationType};
use milvault_model::{BackupId, InstanceId, JobRef, Time};
use milvault_ports::{
    BackgroundEvent, Continuation, ContinuationError, CopyReport, CopyTask, CopyWorkers, Scheduled, Verify,
};
use serde_json::json;

/// Invokes the functions that work on jobs.
pub(crate) struct LambdaContinuation {
    pub(crate) client: Client,
    pub(crate) create_backup_function: String,
    pub(crate) restore_function: String,
}

#[async_trait]
impl Continuation for LambdaContinuation {
    async fn resume(&self, job: &JobRef) -> Result<(), ContinuationError> {
        let function = match job {
            JobRef::Backup { .. } => &self.create_backup_function,
            JobRef::Restore { .. } => &self.restore_function,
        };
        self.invoke(function, BackgroundEvent::Resume(job.clone())).await
    }

    async fn verify(&self, instance: &InstanceId, backup: &BackupId) -> Result<(), ContinuationError> {
        let verify = Verify { instance_id: instance.clone(), backup_id: backup.clone() };
        self.invoke(&self.create_backup_function, BackgroundEvent::Verify(verify)).await
    }

    async fn begin_run(&self, instance: &InstanceId, scheduled_for: Time) -> Result<(), ContinuationError> {
        let scheduled = Scheduled { instance_id: instance.clone(), time: Some(scheduled_for) };
        self.invoke(&self.create_backup_function, BackgroundEvent::Scheduled(scheduled)).await
    }
}

impl LambdaContinuation {
    async fn invoke(&self, function: &str, event: BackgroundEvent) -> Result<(), ContinuationError> {
        self.client
            .invoke()
            .function_name(function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(json!(event).to_string()))
            .send()
            .await
            .map(drop)
            .map_err(|error| ContinuationError(format!("{function}: {}", DisplayErrorContext(error))))
    }
}

/// Invokes the backup function to copy a page, and waits for its answer.
pub(crate) struct LambdaCopyWorkers {
    pub(crate) client: Client,
    pub(crate) function: String,
}

#[async_trait]
impl CopyWorkers for LambdaCopyWorkers {
    async fn copy(&self, task: &CopyTask) -> Result<CopyReport, ContinuationError> {
        let failed = |reason: String| ContinuationError(format!("{}: {reason}", self.function));
        let answered = self
            .client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::RequestResponse)
            .payload(Blob::new(json!(BackgroundEvent::CopyPage(task.clone())).to_string()))
            .send()
            .await
            .map_err(|error| failed(DisplayErrorContext(error).to_string()))?;
        let answer = answered.payload().map(Blob::as_ref).unwrap_or_default();
        match answered.function_error() {
            Some(error) => Err(failed(format!("{error}: {}", String::from_utf8_lossy(answer)))),
            None => serde_json::from_slice(answer).map_err(|error| failed(error.to_string())),
        }
    }
}
