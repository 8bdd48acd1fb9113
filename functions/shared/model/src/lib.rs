//! The domain of Milvault: instances, backups, restores and snapshots, and the decisions about them.
//!
//! Pure: no I/O, no clock, no randomness. Code that depends on the time takes it as an argument, so every rule in this
//! crate can be tested by its inputs and outputs alone.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod auto_backup;
mod backup;
mod capabilities;
mod decimal;
mod endpoints;
mod engine;
mod grant;
mod hybrid_timestamp;
mod ids;
mod instance;
mod job;
mod names;
mod notice;
mod restore;
pub mod retention;
mod root_path;
mod snapshot;
mod text;
mod usage;

pub use auto_backup::{
    AutoBackup, AutoRun, AutoRunState, KeepAtLeast, MissedRuns, Plan, RequestedSwitch, RetentionDays, RunDecision,
    RunTime, ScheduleState, Switch, Zone,
};
pub use backup::{
    Backup, BackupKind, BackupPhase, BackupRun, BackupState, BackupStatus, CaptureTrouble, Copied, Copying, Flushing,
    PageSet, Pass, Planning, Publishing, Reuse, Unexplained, Unsettled, Verification, Verifying,
};
pub use capabilities::{Capabilities, Capability};
pub use decimal::Decimal;
pub use endpoints::AllowedEndpoints;
pub use engine::{EngineVersion, Support};
pub use grant::Grant;
pub use hybrid_timestamp::{milliseconds_of, time_of};
pub use ids::{BackupId, InstanceId, RestoreId};
pub use instance::{Auth, Instance, Region, Storage};
pub use job::{Due, DueKind, Ending, Failure, FailureCode, ImportProgress, JobRef, Progress};
pub use names::{BackupName, CollectionName, CollectionPattern};
pub use notice::{Notice, NoticeKind};
pub use restore::{
    CollectionRestore, CollectionStage, CollectionState, ImportJob, ImportState, Imports, OnError, Previous, Reload,
    Restore, RestoreMode, RestorePhase, RestoreRun, RestoreState, RestoreStatus, RollbackStep, Swap, is_restore_name,
    previous_name, rebuilt_name,
};
pub use root_path::RootPath;
pub use snapshot::{
    CaptureMethod, CollectionCapture, Completeness, CountKind, DatabaseCapture, FieldCapture, FieldPresence,
    IndexCapture, LeftOut, LeftOutCause, Loaded, Manifest, ObjectEntry, ObjectKey, Origin, PageRef, PartitionCapture,
    PrimaryKey, Principal, RowCount, SHARDS, SegmentCapture, SegmentLevel, Snapshot, SourceStorage, StorageVersion,
    TIME_TO_LIVE, Totals, Visibility, Written,
};
pub use text::Invalid;
pub use usage::{
    Account, AccountError, Charge, Correction, CorrectionId, Currency, Hour, Metered, Month, Price, Prices,
    UsageExport, UsageRecord,
};

/// A point in time in UTC, with the precision of the catalog.
pub type Time = chrono::DateTime<chrono::Utc>;
