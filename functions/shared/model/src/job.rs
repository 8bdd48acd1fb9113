//! Types that backups and restores share as long-running jobs.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{BackupId, InstanceId, RestoreId, Time};

/// The one job that an instance is working on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum JobRef {
    /// A backup that is pending, running or being cleaned up.
    #[serde(rename_all = "camelCase")]
    Backup {
        /// The instance that is backed up.
        instance_id: InstanceId,
        /// The backup's id.
        backup_id: BackupId,
    },
    /// A restore into the instance that is pending, running or being cleaned up.
    #[serde(rename_all = "camelCase")]
    Restore {
        /// The instance that is restored into.
        instance_id: InstanceId,
        /// The restore's id.
        restore_id: RestoreId,
    },
}

impl JobRef {
    /// The instance that the job works on.
    pub fn instance_id(&self) -> &InstanceId {
        match self {
            Self::Backup { instance_id, .. } | Self::Restore { instance_id, .. } => instance_id,
        }
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable code for programs.
    pub code: FailureCode,
    /// A message for people.
    pub message: String,
}

impl Failure {
    /// Makes a failure from its code and a message.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The named causes of a failed job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureCode {
    /// Milvus didn't answer for longer than the stall limit.
    MilvusUnreachable,
    /// Milvus refused a call.
    MilvusRefused,
    /// A bucket didn't answer, doesn't exist, or can't be accessed.
    StorageUnreachable,
    /// The engine is older than the oldest supported version, or older than the backup's.
    EngineVersionUnsupported,
    /// The data changed faster than it could be captured consistently.
    SourceChanged,
    /// A collection that the caller selected by name was dropped while the backup ran.
    CollectionDropped,
    /// A collection's files don't account for its rows.
    SourceInconsistent,
    /// A stored object differs from what was recorded when it was stored.
    SnapshotDamaged,
    /// A rebuilt collection doesn't have the rows that it should have.
    VerificationFailed,
    /// An import ended in failure, or made no progress.
    ImportFailed,
    /// The target name is taken by a collection that the restore may not touch.
    CollectionExists,
    /// The job made no progress until its limit was reached.
    Stalled,
    /// Another job of the instance kept an automatic backup from starting.
    InstanceBusy,
    /// The scheduler didn't deliver the run of an automatic backup.
    RunNotDelivered,
    /// All names that an automatic backup may use are taken.
    NameTaken,
    /// Automatic backup was switched off before the run could begin.
    SwitchedOff,
}

/// How a job that doesn't complete ends. This is decided before its clean-up begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "camelCase")]
pub enum Ending {
    /// The job failed, for this reason.
    Failed(Failure),
    /// The caller cancelled the job.
    Cancelled,
}

/// A job's progress. The counts are objects of the present phase; both totals are 0 until they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Objects done.
    pub objects_done: u64,
    /// Objects to do.
    pub objects_total: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes to do.
    pub bytes_total: u64,
    /// The progress of a restore's imports; `None` for other jobs and phases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imports: Option<ImportProgress>,
}

/// The progress of a restore's imports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportProgress {
    /// Import jobs that are completed.
    pub jobs_done: u64,
    /// All import jobs; more are needed if some have to be repeated.
    pub jobs_total: u64,
    /// Rows imported by the completed jobs.
    pub rows_done: u64,
    /// Rows in the backup. Fewer are imported if some of them are deleted.
    pub rows_total: u64,
}

impl Progress {
    /// The progress as a whole percentage, rounded down, so that 100 means done.
    pub fn percent(&self) -> u8 {
        let share = |done: u64, total: u64| u128::from(done.min(total)) * 100 / u128::from(total.max(1));
        let percent = match (self.imports, self.bytes_total, self.objects_total) {
            (Some(imports), ..) if imports.jobs_total > 0 => share(imports.jobs_done, imports.jobs_total),
            (_, 0, 0) => 0,
            (_, 0, objects) => share(self.objects_done, objects),
            (_, bytes, _) => share(self.bytes_done, bytes),
        };
        u8::try_from(percent).unwrap_or(100)
    }

    /// Seconds until the present phase ends at the average pace since `since`; `None` until any bytes are done.
    pub fn eta_seconds(&self, since: Time, now: Time) -> Option<u64> {
        let elapsed = u128::try_from((now - since).max(TimeDelta::zero()).num_milliseconds()).ok()?;
        let left = u128::from(self.bytes_total.checked_sub(self.bytes_done)?);
        (self.bytes_done > 0).then(|| u64::try_from(elapsed * left / u128::from(self.bytes_done) / 1000).ok())?
    }
}

/// Something that the sweep has to handle from a point in time on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// What is due.
    pub kind: DueKind,
    /// The time from which it is due.
    pub at: Time,
}

/// The kinds of work that the sweep looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum DueKind {
    /// A job whose worker's lease ran out.
    Job,
    /// A backup that has expired.
    Expiry,
    /// A backup whose last verification was long ago.
    Verification,
    /// A requested deletion of a backup that isn't finished.
    Deletion,
    /// A finished restore that still keeps collections or objects of its own: a previous collection, or leftovers of a
    /// failure.
    RestoreLeftovers,
    /// Automatic backups: a run that is waiting or wasn't delivered, or a schedule that the scheduler may not have.
    AutoBackup,
    /// A notice that hasn't been published yet.
    Notice,
}

impl DueKind {
    /// Every kind, in the order in which the sweep handles them.
    pub const ALL: [Self; 7] = [
        Self::Job,
        Self::AutoBackup,
        Self::Expiry,
        Self::Deletion,
        Self::RestoreLeftovers,
        Self::Verification,
        // Last, so that notices of the sweep's own work are published in the same run.
        Self::Notice,
    ];

    /// The kind as spelled in the catalog's index.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn percent_reaches_100_only_when_all_is_done_and_eta_is_the_rest_at_the_same_pace() {
        let progress =
            Progress { objects_done: 9, objects_total: 10, bytes_done: 999, bytes_total: 1000, imports: None };
        assert_eq!(progress.percent(), 99);
        let since = DateTime::UNIX_EPOCH;
        let half = Progress { bytes_done: 500, ..progress };
        assert_eq!(half.eta_seconds(since, since + TimeDelta::seconds(8)), Some(8));
        assert_eq!(Progress::default().percent(), 0);
        assert_eq!(Progress::default().eta_seconds(since, since), None);
        assert_eq!(Progress { objects_done: 1, objects_total: 2, ..Progress::default() }.percent(), 50);
    }
}
