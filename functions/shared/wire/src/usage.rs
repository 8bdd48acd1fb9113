//! Usage.

use std::collections::BTreeMap;

use milvault_model::{BackupKind, Decimal};
use serde::{Deserialize, Serialize};

use crate::{Open, Timestamp};

/// A page of usage lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageView {
    /// The lines, in the order of their periods.
    pub items: Vec<UsageLineView>,
    /// Where the lines go on; null at their end.
    pub next_cursor: Option<String>,
    /// By region, the time before which everything is metered and written out; null before anything is.
    #[serde(default)]
    pub complete_until: BTreeMap<String, Option<Timestamp>>,
}

/// A page of usage lines as a file, for a caller that isn't behind HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageFile {
    /// The file.
    pub csv: String,
    /// Where the lines go on; null at their end.
    pub next_cursor: Option<String>,
}

/// The usage of a backup in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageLineView {
    /// When the period begins.
    #[serde(default)]
    pub period_start: Timestamp,
    /// When it ends.
    #[serde(default)]
    pub period_end: Timestamp,
    /// Where the bytes are.
    #[serde(default)]
    pub region: String,
    /// The instance that the backup is of.
    #[serde(default)]
    pub instance_id: String,
    /// The backup.
    pub backup_id: String,
    /// Who asked for it.
    #[serde(rename = "type", default)]
    pub kind: Open<BackupKind>,
    /// Bytes times hours; below zero in a correction that takes some back.
    #[serde(default)]
    pub byte_hours: i64,
    /// The bytes of all its objects, those that it shares with other backups included.
    #[serde(default)]
    pub logical_bytes: u64,
    /// Per gibibyte and hour; null where the region had no price.
    pub unit_price: Option<Decimal>,
    /// Exact, to be rounded by whoever makes an invoice; null where the region had no price.
    pub cost: Option<Decimal>,
    /// The currency of both, three letters; null where the region had no price.
    pub currency: Option<String>,
    /// The correction that the line is; null for a metered line.
    pub correction: Option<CorrectionView>,
}

/// A correction of what was metered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CorrectionView {
    /// Its id.
    pub id: String,
    /// Why it was made, for people.
    #[serde(default)]
    pub reason: String,
    /// When it was made.
    #[serde(default)]
    pub made_at: Timestamp,
}
