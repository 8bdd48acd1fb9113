//! The account of the bytes that belong to a backup.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BackupId, BackupKind, Hour, InstanceId, Region};

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
        (instance_id, backup_id): (InstanceId, BackupId),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(text: &str) -> Hour {
        Hour::containing(text.parse().unwrap())
    }

    #[test]
    fn what_is_stored_and_lost_in_one_hour_is_billed_for_it() {
        let at = hour("2026-01-01T10:59:59Z");
        let ids = ("orders".parse().unwrap(), "bk-01JD0000000000000000000000".parse().unwrap());
        let mut account = Account::open("eu-west-1".parse().unwrap(), ids, BackupKind::Manual, 9, (at, 7));
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
        let mut account = Account::open("eu-west-1".parse().unwrap(), ids, BackupKind::Manual, 9, (at, 7));
        account.inherit(at.next(), 3).unwrap();
        let text = serde_json::to_string(&account).unwrap();
        assert_eq!(serde_json::from_str::<Account>(&text).unwrap(), account);
        assert_eq!(account.bytes(), 10);
    }
}
