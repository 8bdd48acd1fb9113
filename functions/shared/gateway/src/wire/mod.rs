//! The objects of the wire contract, made from records by pure functions.

mod auto_backup;
mod backup;
mod instance;
mod restore;
mod usage;

use chrono::SecondsFormat;
use milvault_model::{Progress, Time};
use serde::{Serialize, Serializer};

pub use auto_backup::AutoBackupView;
pub use backup::{
    BackupDescription, BackupView, CollectionView, CompletenessView, DatabaseView, LeftOutView, PrincipalView,
    VerificationView, VerifiedView, databases,
};
pub use instance::{InstanceDescription, InstanceView};
pub use restore::{CollectionRestoreView, RestoreDescription, RestoreView};
pub use usage::UsageLineView;

/// A time as the contract writes it: RFC 3339 in UTC, always with milliseconds, so that texts sort as times do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(Time);

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        Self(time)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// One page of a listing.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PageView<T> {
    /// The items, in the listing's order.
    pub items: Vec<T>,
    /// Where the listing goes on; `None` at its end.
    pub next_cursor: Option<String>,
}

/// How far a running job's present phase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressView {
    percent: u8,
    #[serde(flatten)]
    counts: Progress,
    eta_seconds: Option<u64>,
}

impl ProgressView {
    fn of(progress: &Progress, started_at: Time, now: Time) -> Self {
        Self { percent: progress.percent(), counts: *progress, eta_seconds: progress.eta_seconds(started_at, now) }
    }
}
