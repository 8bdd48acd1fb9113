//! What backups and restores have in common as long-running jobs.

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
        /// Whose.
        instance_id: InstanceId,
        /// Which.
        backup_id: BackupId,
    },
    /// A restore into the instance that is pending, running or being cleaned up.
    #[serde(rename_all = "camelCase")]
    Restore {
        /// Into which.
        instance_id: InstanceId,
        /// Which.
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
    /// Stable, for programs.
    pub code: FailureCode,
    /// For people.
    pub message: String,
}

impl Failure {
    /// A failure with this cause.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The named causes of a failed job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureCode {
    /// Milvus didn't answer for longer than the stall limit.
    MilvusUnreachable,
    /// Milvus refused a call.
    MilvusRefused,
    /// A bucket didn't answer, doesn't exist, or may not be used.
    StorageUnreachable,
    /// The engine is older than what is supported, or than the backup's.
    EngineVersionUnsupported,
    /// The data changed faster than it could be captured consistently.
    SourceChanged,
    /// A collection that was asked for by name was dropped while the backup ran.
    CollectionDropped,
    /// The files of a collection don't explain its rows.
    SourceInconsistent,
    /// Something stored isn't what was recorded when it was stored.
    SnapshotDamaged,
    /// A rebuilt collection doesn't have the rows that it must have.
    VerificationFailed,
    /// An import ended in failure, or made no progress.
    ImportFailed,
    /// A collection that the restore may not touch is in its place.
    CollectionExists,
    /// The job went on without progress until its limit.
    Stalled,
    /// Another job of the instance was in the way of an automatic backup.
    InstanceBusy,
    /// The scheduler didn't deliver an automatic backup's run.
    RunNotDelivered,
    /// All names that an automatic backup may have are taken.
    NameTaken,
    /// Automatic backup was switched off before the run could begin.
    SwitchedOff,
}

/// How a job that doesn't complete ends, decided before its clean-up begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "camelCase")]
pub enum Ending {
    /// With this cause.
    Failed(Failure),
    /// Because the caller asked.
    Cancelled,
}

/// How far a job is. Counts of the present phase's objects; both totals are 0 until they are known.
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
    /// Of a restore's imports, how far they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imports: Option<ImportProgress>,
}

/// How far a restore's imports are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportProgress {
    /// Import jobs that are completed.
    pub jobs_done: u64,
    /// Import jobs that there are in all, unless some have to be done again.
    pub jobs_total: u64,
    /// Rows that completed jobs imported.
    pub rows_done: u64,
    /// Rows in the backup; more than will be imported where some of them are deleted.
    pub rows_total: u64,
}

impl Progress {
    /// Whole percent, rounded down, so that 100 means done.
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

    /// Seconds until the present phase ends at the average pace since `since`, once anything is done.
    pub fn eta_seconds(&self, since: Time, now: Time) -> Option<u64> {
        let elapsed = u128::try_from((now - since).max(TimeDelta::zero()).num_milliseconds()).ok()?;
        let left = u128::from(self.bytes_total.checked_sub(self.bytes_done)?);
        (self.bytes_done > 0).then(|| u64::try_from(elapsed * left / u128::from(self.bytes_done) / 1000).ok())?
    }
}

/// Something that the sweep has to look at, once its time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// What is due.
    pub kind: DueKind,
    /// From when on.
    pub at: Time,
}

/// What the sweep looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DueKind {
    /// A job whose worker's lease ran out.
    Job,
    /// A backup that has expired.
    Expiry,
    /// A backup that hasn't been verified for long.
    Verification,
    /// A backup whose deletion was asked for and isn't finished.
    Deletion,
    /// A finished restore that still keeps something of its own: a previous collection, or leftovers of a failure.
    RestoreLeftovers,
    /// Automatic backups: a run that waits or didn't come, or a schedule that the scheduler may not have.
    AutoBackup,
    /// Something that users haven't been told yet.
    Notice,
}

impl DueKind {
    /// Every kind, in the order in which the sweep works.
    pub const ALL: [Self; 7] = [
        Self::Job,
        Self::AutoBackup,
        Self::Expiry,
        Self::Deletion,
        Self::RestoreLeftovers,
        Self::Verification,
        // Last, so that what the sweep itself has to tell goes out with it.
        Self::Notice,
    ];

    /// The kind as the catalog's index spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "JOB",
            Self::Expiry => "EXPIRY",
            Self::Verification => "VERIFICATION",
            Self::Deletion => "DELETION",
            Self::RestoreLeftovers => "RESTORE_LEFTOVERS",
            Self::AutoBackup => "AUTO_BACKUP",
            Self::Notice => "NOTICE",
        }
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
