//! Copy workers: other invocations that copy pages for a backup's worker.

use std::collections::BTreeSet;

use async_trait::async_trait;
use milvault_model::{BackupId, Copied, Failure, InstanceId, Region, Time};
use serde::{Deserialize, Serialize};

use crate::ContinuationError;

/// A page to copy, as one invocation passes it to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyTask {
    /// The instance that is backed up.
    pub instance_id: InstanceId,
    /// The backup's id.
    pub backup_id: BackupId,
    /// The region that the backup is stored in.
    pub region: Region,
    /// The fence of the worker that made the task. The task ends with that worker's lease.
    pub fence: u64,
    /// The fence that the plan's page carries.
    pub plan: u64,
    /// The page's number.
    pub page: u32,
    /// When the task has to be over.
    pub until: Time,
}

/// The result of copying a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyReport {
    /// How far the copying came.
    pub end: CopyEnd,
    /// The stored objects of the page.
    pub copied: Copied,
    /// Collections some of whose objects are gone from the source.
    pub gone: BTreeSet<i64>,
    /// When a request last failed. It may still take effect for a while.
    pub failed_at: Option<Time>,
}

/// How far the copying of a page came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CopyEnd {
    /// Everything is copied, except objects that are gone.
    Whole,
    /// Some objects are copied and marked in the plan.
    Part,
    /// The page can't be copied.
    Failed(Failure),
}

/// Invocations that copy pages of a backup's plan.
#[async_trait]
pub trait CopyWorkers: Send + Sync {
    /// Starts an invocation that copies a page of the plan, and waits for its result.
    ///
    /// # Errors
    /// The invocation wasn't accepted or failed. It may still be running until the task's time is over.
    async fn copy(&self, task: &CopyTask) -> Result<CopyReport, ContinuationError>;
}
