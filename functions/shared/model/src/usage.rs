//! Usage: which backup each stored byte is billed to, hour by hour, and what an hour costs.
//!
//! A stored object belongs to the oldest living backup that references it. Each backup has an [`Account`] of the bytes
//! that belong to it. For an hour, a backup is billed the bytes that it had when the hour began and the bytes that it
//! stored in that hour. Bytes that it loses in the hour still count, and bytes that it inherits count from the next
//! hour on. So each byte is billed once an hour, to one backup.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, SecondsFormat};
use serde::{Deserialize, Serialize};

use crate::{BackupId, BackupKind, Decimal, InstanceId, Region, Time};

const SECONDS: i64 = 3600;

/// An hour in UTC, by its number since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hour(i64);

impl Hour {
    /// The hour that contains this time. An hour begins with its first millisecond and ends before the first
    /// millisecond of the next hour.
    pub fn of(time: Time) -> Self {
        Self(time.timestamp().div_euclid(SECONDS))
    }

    /// The first hour of a day in UTC.
    pub fn first_of(day: NaiveDate) -> Self {
        Self::of(day.and_time(NaiveTime::MIN).and_utc())
    }

    /// The day that contains the hour.
    pub fn day(self) -> NaiveDate {
        self.start().date_naive()
    }

    /// The hour as a sortable part of keys: `yyyy-mm-ddThh`.
    pub fn key(self) -> String {
        self.start().format("%Y-%m-%dT%H").to_string()
    }

    /// When the hour begins.
    pub fn start(self) -> Time {
        DateTime::from_timestamp(self.0.saturating_mul(SECONDS), 0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// The next hour.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.start().to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

/// A calendar month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i32,
    month: u32,
}

impl Month {
    /// The month that contains this hour.
    pub fn of(hour: Hour) -> Self {
        let begins = hour.start();
        Self { year: begins.year(), month: begins.month() }
    }

    /// The first hour of the month.
    pub fn first(self) -> Hour {
        Hour::first_of(NaiveDate::from_ymd_opt(self.year, self.month, 1).unwrap_or_default())
    }

    /// The next month.
    pub fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year + 1, month: 1 },
            month => Self { month: month + 1, ..self },
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04}-{:02}", self.year, self.month)
    }
}

/// The changes to an account in one hour, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Change {
    stored: u64,
    inherited: u64,
    lost: u64,
}

/// The reason why an account can't take a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The hour is closed for this account: decide again, in a later hour.
    #[error("the hour {0} isn't open any more")]
    Closed(Hour),
    /// The change would remove more bytes than there are, or add more than can be counted.
    #[error("the account of {balance} bytes doesn't allow for a change by {bytes}")]
    Imbalance {
        /// The bytes in the account.
        balance: u64,
        /// The bytes that were to be added or removed.
        bytes: u64,
    },
}

/// A backup's bytes: the balance when the first unmetered hour began, and the changes since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The region that the bytes are stored in.
    pub region: Region,
    /// The instance that was backed up.
    pub instance_id: InstanceId,
    /// The backup's id.
    pub backup_id: BackupId,
    /// Who asked for the backup.
    pub kind: BackupKind,
    /// The size of the whole snapshot, including shared objects.
    pub logical_bytes: u64,
    /// The first hour that isn't metered.
    unmetered: Hour,
    /// The bytes at the beginning of `unmetered`.
    balance: u64,
    /// The changes from `unmetered` on.
    changes: BTreeMap<Hour, Change>,
}

/// The bytes that a backup is billed for in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metered {
    /// The hour.
    pub hour: Hour,
    /// The billed bytes; below zero only if a correction takes some back.
    pub byte_hours: i64,
}

impl Account {
    /// Opens the account of a backup that becomes AVAILABLE in this hour and stored `stored` bytes itself.
    pub fn open(
        region: Region,
        instance_id: InstanceId,
        backup_id: BackupId,
        kind: BackupKind,
        logical_bytes: u64,
        (hour, stored): (Hour, u64),
    ) -> Self {
        let changes = BTreeMap::from([(hour, Change { stored, ..Change::default() })]);
        Self { region, instance_id, backup_id, kind, logical_bytes, unmetered: hour, balance: 0, changes }
    }

    /// The earliest hour in which the account can change.
    ///
    /// Bytes that move between accounts have to move in the same hour, or they would be billed twice or not at all.
    /// That hour is the latest of both accounts' open hours and the clock's hour.
    pub fn open_hour(&self) -> Hour {
        self.changes.keys().next_back().copied().unwrap_or(self.unmetered).max(self.unmetered)
    }

    /// The bytes that belong to the backup now.
    pub fn bytes(&self) -> u64 {
        self.changes.values().fold(self.balance, |bytes, change| bytes + change.stored + change.inherited - change.lost)
    }

    /// Adds bytes inherited from a deleted backup.
    ///
    /// # Errors
    /// [`AccountError`]; the account is unchanged then.
    pub fn inherit(&mut self, hour: Hour, bytes: u64) -> Result<(), AccountError> {
        let balance = self.bytes();
        if balance.checked_add(bytes).is_none() {
            return Err(AccountError::Imbalance { balance, bytes });
        }
        self.change(hour)?.inherited += bytes;
        Ok(())
    }

    /// Removes bytes that go to another backup or are deleted.
    ///
    /// # Errors
    /// [`AccountError`]; the account is unchanged then.
    pub fn lose(&mut self, hour: Hour, bytes: u64) -> Result<(), AccountError> {
        let balance = self.bytes();
        if balance < bytes {
            return Err(AccountError::Imbalance { balance, bytes });
        }
        self.change(hour)?.lost += bytes;
        Ok(())
    }

    fn change(&mut self, hour: Hour) -> Result<&mut Change, AccountError> {
        if hour < self.open_hour() {
            return Err(AccountError::Closed(hour));
        }
        Ok(self.changes.entry(hour).or_default())
    }

    /// Meters the next hour with bytes to bill before `end`, the first unfinished hour.
    pub fn meter(&mut self, end: Hour) -> Option<Metered> {
        loop {
            // A backup may own nothing for days, and inherit bytes later.
            let first_change = self.changes.keys().next().copied();
            let hour = if self.balance == 0 { first_change? } else { self.unmetered };
            if hour >= end {
                return None;
            }
            let change = self.changes.remove(&hour).unwrap_or_default();
            let byte_hours = self.balance + change.stored;
            self.balance = byte_hours + change.inherited - change.lost;
            self.unmetered = hour.next();
            if byte_hours > 0 {
                // A single backup can't reach eight exabytes.
                return Some(Metered { hour, byte_hours: i64::try_from(byte_hours).unwrap_or(i64::MAX) });
            }
        }
    }

    /// The first hour that isn't metered.
    pub fn unmetered(&self) -> Hour {
        self.unmetered
    }

    /// Whether nothing is left to meter. A living backup that owns nothing may still inherit bytes.
    pub fn is_settled(&self) -> bool {
        self.balance == 0 && self.changes.is_empty()
    }
}

/// The price of a gibibyte for an hour, in a region, from a day on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// The region that the price applies to.
    pub region: Region,
    /// The first day, in UTC, on which the price applies. It applies until the next price of the region.
    pub from: NaiveDate,
    /// The currency, such as `EUR`.
    pub currency: Currency,
    /// The price of storage.
    pub storage_gib_hour: Decimal,
    /// The price of snapshots, if it differs from the price of storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_gib_hour: Option<Decimal>,
}

impl Price {
    fn is_negative(&self) -> bool {
        [Some(&self.storage_gib_hour), self.snapshot_gib_hour.as_ref()].into_iter().flatten().any(Decimal::is_negative)
    }
}

/// A currency code of ISO 4217: three capital letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(String);

impl Currency {
    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Currency {
    type Error = crate::Invalid;

    fn try_from(code: String) -> Result<Self, crate::Invalid> {
        if code.len() == 3 && code.chars().all(|c| c.is_ascii_uppercase()) {
            Ok(Self(code))
        } else {
            Err(crate::Invalid::new("a currency is three capital letters, such as EUR"))
        }
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.0
    }
}

/// The deployment's prices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Price>", into = "Vec<Price>")]
pub struct Prices(BTreeMap<(Region, NaiveDate), Price>);

impl TryFrom<Vec<Price>> for Prices {
    type Error = crate::Invalid;

    fn try_from(list: Vec<Price>) -> Result<Self, crate::Invalid> {
        let count = list.len();
        if list.iter().any(Price::is_negative) {
            return Err(crate::Invalid::new("a price isn't below zero"));
        }
        let prices: BTreeMap<_, _> =
            list.into_iter().map(|price| ((price.region.clone(), price.from), price)).collect();
        if prices.len() == count {
            Ok(Self(prices))
        } else {
            Err(crate::Invalid::new("a region has two prices from the same day on"))
        }
    }
}

impl From<Prices> for Vec<Price> {
    fn from(prices: Prices) -> Self {
        prices.0.into_values().collect()
    }
}

impl Prices {
    /// The charge for these bytes in this hour; `None` if the region has no price then, which differs from a price of
    /// zero.
    pub fn charge(&self, region: &Region, metered: Metered) -> Option<Charge> {
        let day = metered.hour.day();
        let in_force = self.0.range((region.clone(), NaiveDate::MIN)..=(region.clone(), day)).next_back();
        in_force.map(|(_, price)| {
            let unit_price = price.snapshot_gib_hour.as_ref().unwrap_or(&price.storage_gib_hour).clone();
            let cost = unit_price.for_gibibytes_of(metered.byte_hours);
            Charge { currency: price.currency.clone(), unit_price, cost }
        })
    }
}

/// The exact charge for an hour. Rounding is left to the invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Charge {
    /// The currency of both amounts.
    pub currency: Currency,
    /// The price per gibibyte and hour that was in force.
    pub unit_price: Decimal,
    /// The cost of all bytes.
    pub cost: Decimal,
}

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

/// The id of a correction, unique within its hour and backup: 1 to 64 letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CorrectionId(String);

impl CorrectionId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CorrectionId {
    type Error = crate::Invalid;

    fn try_from(text: String) -> Result<Self, crate::Invalid> {
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        if (1..=64).contains(&text.len()) && text.bytes().all(is_plain) {
            Ok(Self(text))
        } else {
            Err(crate::Invalid::new("a correction's id is 1 to 64 letters, digits, '.', '_' and '-'"))
        }
    }
}

impl From<CorrectionId> for String {
    fn from(id: CorrectionId) -> String {
        id.0
    }
}

impl UsageRecord {
    /// The record of a metered hour of an account.
    pub fn of(account: &Account, metered: Metered, prices: &Prices) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn price(from: &str, per_gib_hour: &str) -> Price {
        let text = serde_json::json!({
            "region": "eu-west-1", "from": from, "currency": "EUR", "storageGibHour": per_gib_hour
        });
        serde_json::from_value(text).unwrap()
    }

    fn hour(text: &str) -> Hour {
        Hour::of(text.parse().unwrap())
    }

    #[test]
    fn the_price_in_force_is_the_youngest_of_the_hours_day() {
        let prices = vec![price("2026-02-01", "0.2"), price("2026-01-01", "0.1")];
        let prices = Prices::try_from(prices).unwrap();
        let charge = |region: &str, at: &str| {
            let metered = Metered { hour: hour(at), byte_hours: 1 << 31 };
            prices.charge(&region.parse().unwrap(), metered).map(|charge| charge.cost.to_string())
        };
        assert_eq!(charge("eu-west-1", "2025-12-31T23:59:59Z"), None);
        assert_eq!(charge("eu-west-1", "2026-01-01T00:00:00Z").as_deref(), Some("0.2"));
        assert_eq!(charge("eu-west-1", "2026-01-31T23:59:59.999Z").as_deref(), Some("0.2"));
        assert_eq!(charge("eu-west-1", "2026-02-01T00:00:00Z").as_deref(), Some("0.4"));
        assert_eq!(charge("eu-central-1", "2026-02-01T00:00:00Z"), None);
    }

    #[test]
    fn a_price_below_zero_is_refused() {
        assert!(Prices::try_from(vec![price("2026-01-01", "-0.1")]).is_err());
        assert!(Prices::try_from(vec![price("2026-01-01", "0")]).is_ok());
    }

    #[test]
    fn two_prices_of_a_region_from_the_same_day_on_are_refused() {
        assert!(Prices::try_from(vec![price("2026-01-01", "0.1"), price("2026-01-01", "0.2")]).is_err());
    }

    #[test]
    fn what_is_stored_and_lost_in_one_hour_is_billed_for_it() {
        let at = hour("2026-01-01T10:59:59Z");
        let ids = ("orders".parse().unwrap(), "bk-01JD0000000000000000000000".parse().unwrap());
        let mut account = Account::open("eu-west-1".parse().unwrap(), ids.0, ids.1, BackupKind::Manual, 9, (at, 7));
        account.lose(at, 7).unwrap();
        assert_eq!(account.meter(at), None, "the hour isn't over");
        assert_eq!(account.meter(at.next()), Some(Metered { hour: at, byte_hours: 7 }));
        assert_eq!(account.meter(at.next().next()), None);
        assert!(account.is_settled());
        assert_eq!(account.inherit(at, 1), Err(AccountError::Closed(at)));
        assert_eq!(account.lose(at.next(), 1), Err(AccountError::Imbalance { balance: 0, bytes: 1 }));
    }

    #[test]
    fn an_account_reads_back_what_was_written() {
        let at = hour("2026-01-01T10:00:00Z");
        let ids = ("orders".parse().unwrap(), "bk-01JD0000000000000000000000".parse().unwrap());
        let mut account = Account::open("eu-west-1".parse().unwrap(), ids.0, ids.1, BackupKind::Manual, 9, (at, 7));
        account.inherit(at.next(), 3).unwrap();
        let text = serde_json::to_string(&account).unwrap();
        assert_eq!(serde_json::from_str::<Account>(&text).unwrap(), account);
        assert_eq!(account.bytes(), 10);
    }
}
