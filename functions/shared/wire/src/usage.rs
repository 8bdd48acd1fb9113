//! Usage lines and corrections.

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
    /// The cursor of the next page; null at the end.
    pub next_cursor: Option<String>,
    /// For each region, the time before which all usage is metered and exported; null before the first.
    #[serde(default)]
    pub complete_until: BTreeMap<String, Option<Timestamp>>,
}

/// A page of usage lines as a file, for a direct caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageFile {
    /// The file.
    pub csv: String,
    /// The cursor of the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// The usage of a backup in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageLineView {
    /// When the period begins.
    #[serde(default)]
    pub period_start: Timestamp,
    /// When the period ends.
    #[serde(default)]
    pub period_end: Timestamp,
    /// The region that the bytes are stored in.
    #[serde(default)]
    pub region: String,
    /// The instance that was backed up.
    #[serde(default)]
    pub instance_id: String,
    /// The backup's id.
    pub backup_id: String,
    /// Who requested the backup.
    #[serde(rename = "type", default)]
    pub kind: Open<BackupKind>,
    /// Bytes times hours; negative in a correction that reduces the usage.
    #[serde(default)]
    pub byte_hours: i64,
    /// The bytes of all objects of the backup, including those shared with other backups.
    #[serde(default)]
    pub logical_bytes: u64,
    /// The price per gibibyte and hour; null if the region had no price.
    pub unit_price: Option<Decimal>,
    /// The exact cost, which is rounded only when an invoice is made; null if the region had no price.
    pub cost: Option<Decimal>,
    /// The currency of both, three letters; null if the region had no price.
    pub currency: Option<String>,
    /// The correction that the line represents; null for a metered line.
    pub correction: Option<CorrectionView>,
}

/// A correction of metered usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CorrectionView {
    /// The correction's id.
    pub id: String,
    /// The reason, for people.
    #[serde(default)]
    pub reason: String,
    /// When the correction was made.
    #[serde(default)]
    pub made_at: Timestamp,
}
