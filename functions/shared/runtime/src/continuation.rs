//! Further invocations: a job's next one, and those that copy for a backup.

use async_trait::async_trait;
use aws_sdk_lambda::{Client, error::DisplayErrorContext, primitives::Blob, types::InvocationType};
use milvault_model::{BackupId, InstanceId, JobRef, Time};
use milvault_ports::{Continuation, ContinuationError, CopyReport, CopyTask, CopyWorkers};
use serde_json::{Value, json};

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
        self.invoke(function, json!({ "resume": job })).await
    }

    async fn verify(&self, instance: &InstanceId, backup: &BackupId) -> Result<(), ContinuationError> {
        let event = json!({ "action": "verify", "instanceId": instance, "backupId": backup });
        self.invoke(&self.create_backup_function, event).await
    }

    async fn begin_run(&self, instance: &InstanceId, scheduled_for: Time) -> Result<(), ContinuationError> {
        let event = json!({ "scheduled": { "instanceId": instance, "time": scheduled_for.to_rfc3339() } });
        self.invoke(&self.create_backup_function, event).await
    }
}

impl LambdaContinuation {
    async fn invoke(&self, function: &str, event: Value) -> Result<(), ContinuationError> {
        self.client
            .invoke()
            .function_name(function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(event.to_string()))
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
            .payload(Blob::new(json!({ "copyPage": task }).to_string()))
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
