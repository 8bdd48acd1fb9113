//! Usage as it is billed: records, corrections, and the progress of the export.

use std::str::FromStr;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::{
    Account, BackupId, BackupKind, Charge, Hour, InstanceId, Invalid, Metered, Prices, Region, Time, text::text_type,
};

/// A backup's bytes in one hour, as billed. A record is written once and never changed: a mistake is corrected by
/// another record of the same hour and backup, and the billed amount is the sum of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageRecord {
    /// The region that the bytes are stored in.
    pub region: Region,
    /// The hour.
    pub hour: Hour,
    /// The instance that was backed up.
    pub instance_id: InstanceId,
    /// The backup's id.
    pub backup_id: BackupId,
    /// Who asked for the backup.
    pub kind: BackupKind,
    /// The billed bytes; below zero if a correction takes some back.
    pub byte_hours: i64,
    /// The size of the whole snapshot, including shared objects.
    pub logical_bytes: u64,
    /// The charge, at the price in force in the hour; `None` if the region had no price.
    pub charge: Option<Charge>,
    /// The correction that this record makes; `None` for a record of metering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<Correction>,
}

/// The correction of a metered hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Correction {
    /// The id, given by the caller. A correction is made once per id.
    pub id: CorrectionId,
    /// The reason, for people.
    pub reason: String,
    /// When the correction was made.
    pub made_at: Time,
}

text_type! {
    /// The id of a correction, unique within its hour and backup: 1 to 64 letters, digits, `.`, `_` and `-`.
    CorrectionId
}

impl FromStr for CorrectionId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        if (1..=64).contains(&text.len()) && text.bytes().all(is_plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("a correction's id is 1 to 64 letters, digits, '.', '_' and '-'"))
        }
    }
}

impl UsageRecord {
    /// The record of a metered hour of an account.
    pub fn new(account: &Account, metered: Metered, prices: &Prices) -> Self {
        Self {
            region: account.region.clone(),
            hour: metered.hour,
            instance_id: account.instance_id.clone(),
            backup_id: account.backup_id.clone(),
            kind: account.kind,
            byte_hours: metered.byte_hours,
            logical_bytes: account.logical_bytes,
            charge: prices.charge(&account.region, metered),
            correction: None,
        }
    }

    /// The record's place among the records of its region and hour.
    pub fn place(&self) -> String {
        let place = format!("{}#{}", self.instance_id, self.backup_id);
        match &self.correction {
            Some(correction) => format!("{place}#{}", correction.id.as_str()),
            None => place,
        }
    }
}

/// How far a region's usage has been exported; the export writes a day at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageExport {
    /// The region that the bytes are stored in.
    pub region: Region,
    /// The first day, in UTC, that isn't exported.
    pub next: NaiveDate,
}
