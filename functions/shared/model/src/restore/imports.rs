//! The import jobs of a collection.

use serde::{Deserialize, Serialize};

use crate::Time;

/// The imports into a collection: one job for each group of segments, several jobs at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Imports {
    /// Milvus's ids of the completed jobs, each of one group.
    pub completed: Vec<i64>,
    /// The number of rows that the completed jobs imported, without deleted ones.
    pub rows: u64,
    /// The groups whose completed jobs imported no rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<u32>,
    /// Jobs whose group is unknown, because a worker died while it started several jobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guessed: Vec<i64>,
    /// The groups whose jobs were to be started and aren't completed.
    pub at_work: Vec<ImportJob>,
}

impl Imports {
    /// The number of groups, counted from the first, whose job was to be started.
    pub fn begun(&self) -> usize {
        self.completed.len() + self.at_work.len()
    }
}

/// The import of a group of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportJob {
    /// The group's number.
    pub group: u32,
    /// The job's state.
    pub state: ImportState,
}

/// The state of an import job, as far as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ImportState {
    /// About to be requested, or requested by a worker that died before it stored the job's id.
    Starting,
    /// Milvus has as many jobs as it accepts; the request is repeated.
    Refused {
        /// When the request was first refused.
        since: Time,
    },
    /// Milvus accepted the job.
    Started {
        /// Milvus's id of the job.
        task: i64,
        /// The progress when it last increased; `None` while the job waits for its turn.
        progress: Option<u64>,
        /// When the progress last increased.
        since: Time,
    },
    /// The job failed, or it is unknown whether it started. The collection is built again once none of its jobs is
    /// running. A failed job stays in the list until then, so that no worker takes the remaining jobs for all of them.
    Failed,
}
