//! The objects that backups and restores have in common: progress and failures.

use milvault_model::{Failure, FailureCode, ImportProgress, Progress, Time};
use serde::{Deserialize, Serialize};

use crate::Open;

/// The progress of a running job's present phase. Both totals are 0 until they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProgressView {
    /// The percentage of the phase that is done, from 0 to 100.
    pub percent: u8,
    /// Objects done.
    pub objects_done: u64,
    /// Objects to do.
    pub objects_total: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes to do.
    pub bytes_total: u64,
    /// The progress of a restore's import jobs; omitted outside its import phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imports: Option<ImportProgressView>,
    /// Seconds until the phase ends at its average pace so far; null until any progress.
    pub eta_seconds: Option<u64>,
}

impl ProgressView {
    /// Makes the object from a job's progress since it started, as of now.
    pub(crate) fn new(progress: &Progress, started_at: Time, now: Time) -> Self {
        Self {
            percent: progress.percent(),
            objects_done: progress.objects_done,
            objects_total: progress.objects_total,
            bytes_done: progress.bytes_done,
            bytes_total: progress.bytes_total,
            imports: progress.imports.map(ImportProgressView::from),
            eta_seconds: progress.eta_seconds(started_at, now),
        }
    }
}

/// The progress of a restore's import jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportProgressView {
    /// Completed jobs.
    pub jobs_done: u64,
    /// All jobs.
    pub jobs_total: u64,
    /// Rows that the completed jobs imported.
    pub rows_done: u64,
    /// Rows expected of all jobs.
    pub rows_total: u64,
}

impl From<ImportProgress> for ImportProgressView {
    fn from(imports: ImportProgress) -> Self {
        let ImportProgress { jobs_done, jobs_total, rows_done, rows_total } = imports;
        Self { jobs_done, jobs_total, rows_done, rows_total }
    }
}

/// Why a job failed, a backup is damaged, or a run made no backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// The cause, for programs.
    #[serde(default)]
    pub code: Open<FailureCode>,
    /// The cause, for people.
    pub message: String,
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> Self {
        Self { code: failure.code.into(), message: failure.message.clone() }
    }
}
