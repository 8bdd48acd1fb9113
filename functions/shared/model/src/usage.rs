//! What is billed: whose the stored bytes are, hour by hour, and what an hour of them costs.
//!
//! A stored object belongs to the oldest living backup that references it. Each backup has an [`Account`] of the bytes
//! that are its own. For an hour, a backup is billed what it had when the hour began, and what it stored in it. What it
//! lost in the hour still counts, and what it inherited counts from the next hour on: so a byte is billed once an hour,
//! to one backup.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, SecondsFormat};
use serde::{Deserialize, Serialize};

use crate::{BackupId, BackupKind, Decimal, InstanceId, Region, Time};

const SECONDS: i64 = 3600;

/// An hour of UTC, by its number since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hour(i64);

impl Hour {
    /// The hour that this time is in. It begins with its first millisecond, and ends before the next one's.
    pub fn of(time: Time) -> Self {
        Self(time.timestamp().div_euclid(SECONDS))
    }

    /// The first of a day of UTC.
    pub fn first_of(day: NaiveDate) -> Self {
        Self::of(day.and_time(NaiveTime::MIN).and_utc())
    }

    /// The day that it is in.
    pub fn day(self) -> NaiveDate {
        self.start().date_naive()
    }

    /// As it sorts in keys: `yyyy-mm-ddThh`.
    pub fn key(self) -> String {
        self.start().format("%Y-%m-%dT%H").to_string()
    }

    /// When it begins.
    pub fn start(self) -> Time {
        DateTime::from_timestamp(self.0.saturating_mul(SECONDS), 0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// The one after it.
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
    /// The month that this hour is in.
    pub fn of(hour: Hour) -> Self {
        let begins = hour.start();
        Self { year: begins.year(), month: begins.month() }
    }

    /// Its first hour.
    pub fn first(self) -> Hour {
        Hour::first_of(NaiveDate::from_ymd_opt(self.year, self.month, 1).unwrap_or_default())
    }

    /// The one after it.
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

/// The bytes of an hour's changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Change {
    stored: u64,
    inherited: u64,
    lost: u64,
}

/// A change that an account can't take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Its hour is over for this account: decide again, in a later hour.
    #[error("the hour {0} isn't open any more")]
    Closed(Hour),
    /// More is lost than there is, or there is more than can be counted.
    #[error("the account of {balance} bytes doesn't allow for a change by {bytes}")]
    Imbalance {
        /// What there is.
        balance: u64,
        /// What was to come or to go.
        bytes: u64,
    },
}

/// A backup's bytes: what was its own when the first hour that isn't metered began, and what has changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Where the bytes are.
    pub region: Region,
    /// Whose backup.
    pub instance_id: InstanceId,
    /// Which.
    pub backup_id: BackupId,
    /// Who asked for it.
    pub kind: BackupKind,
    /// The size of the whole snapshot, shared objects included.
    pub logical_bytes: u64,
    /// The first hour that isn't metered.
    unmetered: Hour,
    /// Bytes when that began.
    balance: u64,
    /// What has changed from then on.
    changes: BTreeMap<Hour, Change>,
}

/// What a backup is billed for an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metered {
    /// The hour.
    pub hour: Hour,
    /// So many bytes for the hour; below zero only where a correction takes some back.
    pub byte_hours: i64,
}

impl Account {
    /// Of a backup that becomes AVAILABLE in this hour, and is the first to have `stored` bytes.
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

    /// The earliest hour in which it can change.
    ///
    /// Bytes that move between accounts must move in the same hour, or they would be billed twice, or not at all: that
    /// is the latest of the accounts' hours and of the clock's.
    pub fn open_hour(&self) -> Hour {
        self.changes.keys().next_back().copied().unwrap_or(self.unmetered).max(self.unmetered)
    }

    /// The bytes that are its own now.
    pub fn bytes(&self) -> u64 {
        self.changes.values().fold(self.balance, |bytes, change| bytes + change.stored + change.inherited - change.lost)
    }

    /// Takes over bytes of a deleted backup.
    ///
    /// # Errors
    /// [`AccountError`]; nothing has changed then.
    pub fn inherit(&mut self, hour: Hour, bytes: u64) -> Result<(), AccountError> {
        let balance = self.bytes();
        if balance.checked_add(bytes).is_none() {
            return Err(AccountError::Imbalance { balance, bytes });
        }
        self.change(hour)?.inherited += bytes;
        Ok(())
    }

    /// Gives bytes up, to another backup or because they are removed.
    ///
    /// # Errors
    /// [`AccountError`]; nothing has changed then.
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

    /// Meters the next hour with anything to bill before `end`, the first hour that isn't finished.
    pub fn meter(&mut self, end: Hour) -> Option<Metered> {
        loop {
            // A backup may own nothing for days, and then inherit.
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
                // Eight exabytes of one backup are out of reach.
                return Some(Metered { hour, byte_hours: i64::try_from(byte_hours).unwrap_or(i64::MAX) });
            }
        }
    }

    /// The first hour that isn't metered.
    pub fn unmetered(&self) -> Hour {
        self.unmetered
    }

    /// Whether there is nothing left to meter. A living backup that owns nothing may still inherit.
    pub fn is_settled(&self) -> bool {
        self.balance == 0 && self.changes.is_empty()
    }
}

/// What a gibibyte costs for an hour, in a region, from a day on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// Where the bytes are.
    pub region: Region,
    /// In force from the beginning of this day, in UTC, until another price of the region is.
    pub from: NaiveDate,
    /// Such as `EUR`.
    pub currency: Currency,
    /// Of storage.
    pub storage_gib_hour: Decimal,
    /// Of snapshots, if it isn't that of storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_gib_hour: Option<Decimal>,
}

impl Price {
    fn is_negative(&self) -> bool {
        [Some(&self.storage_gib_hour), self.snapshot_gib_hour.as_ref()].into_iter().flatten().any(Decimal::is_negative)
    }
}

/// A currency's code by ISO 4217: three capital letters.
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
    /// What these bytes cost for this hour; `None` if the region has no price then, which isn't a price of zero.
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

/// What an hour costs, exactly: whoever makes an invoice rounds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Charge {
    /// Of both amounts.
    pub currency: Currency,
    /// Per gibibyte and hour, as it was in force in the hour.
    pub unit_price: Decimal,
    /// For all of the bytes.
    pub cost: Decimal,
}

/// A backup's bytes of an hour, as they are billed. Written once, never changed: what was wrong is put right by another
/// record of the same hour and backup, and what is billed is their sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageRecord {
    /// Where the bytes are.
    pub region: Region,
    /// The hour.
    pub hour: Hour,
    /// Of which instance.
    pub instance_id: InstanceId,
    /// Which backup.
    pub backup_id: BackupId,
    /// Who asked for it.
    pub kind: BackupKind,
    /// So many bytes for the hour; a correction may take some back.
    pub byte_hours: i64,
    /// The size of the whole snapshot, shared objects included.
    pub logical_bytes: u64,
    /// What that costs, by the price in force in the hour; `None` where the region had none.
    pub charge: Option<Charge>,
    /// Of a record that puts another one right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<Correction>,
}

/// Why a metered hour was put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Correction {
    /// Given by who makes it: the same one is made once.
    pub id: CorrectionId,
    /// For people.
    pub reason: String,
    /// When.
    pub made_at: Time,
}

/// A correction's name among those of its hour and backup: 1 to 64 letters, digits, and `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CorrectionId(String);

impl CorrectionId {
    /// The text.
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
    /// Of an account's hour.
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

    /// Its place among its region's records of the hour.
    pub fn place(&self) -> String {
        let place = format!("{}#{}", self.instance_id, self.backup_id);
        match &self.correction {
            Some(correction) => format!("{place}#{}", correction.id.as_str()),
            None => place,
        }
    }
}

/// How far a region's usage is written out, a day at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageExport {
    /// Where the bytes are.
    pub region: Region,
    /// The first day, in UTC, that isn't written.
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
