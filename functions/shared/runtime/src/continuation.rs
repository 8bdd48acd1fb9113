//! The next invocation: the job's function, invoked asynchronously.

use async_trait::async_trait;
use aws_sdk_lambda::{Client, error::DisplayErrorContext, primitives::Blob, types::InvocationType};
use milvault_jobs::ports::{Continuation, ContinuationError};
use milvault_model::JobRef;
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
        self.client
            .invoke()
            .function_name(function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(json!({ "resume": job }).to_string()))
            .send()
            .await
            .map(drop)
            .map_err(|error| ContinuationError(format!("{function}: {}", DisplayErrorContext(error))))
    }
}
