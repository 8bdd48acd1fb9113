//! Other invocations, which copy for a backup's worker.

use std::collections::BTreeSet;

use async_trait::async_trait;
use milvault_model::{BackupId, Copied, Failure, InstanceId, Region, Time};
use serde::{Deserialize, Serialize};

use crate::ContinuationError;

/// A page to copy, as one invocation hands it to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyTask {
    /// Of which instance.
    pub instance_id: InstanceId,
    /// Of which backup.
    pub backup_id: BackupId,
    /// Where that is.
    pub region: Region,
    /// The fence of the worker that asks for it: once its lease is over, so is the task.
    pub fence: u64,
    /// The fence that the plan's page carries.
    pub plan: u64,
    /// The page's number.
    pub page: u32,
    /// When it has to be over.
    pub until: Time,
}

/// What became of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyReport {
    /// How far it came.
    pub end: CopyEnd,
    /// What of the page is stored.
    pub copied: Copied,
    /// Collections of which something is gone from the source.
    pub gone: BTreeSet<i64>,
    /// When a request failed last: it may take effect for a while.
    pub failed_at: Option<Time>,
}

/// How far the copying of a page came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CopyEnd {
    /// All of it, except for what is gone.
    Whole,
    /// Some of it, marked in the plan.
    Part,
    /// It can't be copied.
    Failed(Failure),
}

/// Other invocations, which copy pages of a backup's plan.
#[async_trait]
pub trait CopyWorkers: Send + Sync {
    /// Has an invocation copy a page of the plan, and waits for it.
    ///
    /// # Errors
    /// When the invocation wasn't accepted or failed. It may be at work all the same, until the task's time is over.
    async fn copy(&self, task: &CopyTask) -> Result<CopyReport, ContinuationError>;
}
