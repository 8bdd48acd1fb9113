//! What a backup owns of the stored bytes, hour by hour.
//!
//! Every stored object belongs to the oldest living backup that references it. In an hour, its bytes are billed to the
//! backup that owned it as the hour began, or that stored it in the hour; who inherits it in the hour pays from the next
//! one on. So no byte is billed twice in an hour, and a part of an hour counts as the hour.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta};
use serde::{Deserialize, Serialize};

use crate::{Backup, BackupId, BackupKind, InstanceId, Region, Snapshot, Time};

/// An hour of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Hour(i64);

impl Hour {
    /// The hour that this time is in.
    pub fn of(time: Time) -> Self {
        Self(time.timestamp().div_euclid(3600))
    }

    /// When it begins.
    pub fn start(self) -> Time {
        // Every hour was made of a time, so that its seconds are one's too.
        DateTime::from_timestamp(self.0 * 3600, 0).unwrap_or(Time::MAX_UTC)
    }

    /// When it is over.
    pub fn end(self) -> Time {
        self.start() + TimeDelta::hours(1)
    }

    /// The one after it.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl From<Hour> for i64 {
    fn from(hour: Hour) -> i64 {
        hour.0
    }
}

impl TryFrom<i64> for Hour {
    type Error = crate::Invalid;

    fn try_from(hour: i64) -> Result<Self, Self::Error> {
        let seconds = hour.checked_mul(3600).and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        seconds.map(|_| Self(hour)).ok_or_else(|| crate::Invalid::new("no hour of any time"))
    }
}

/// What a backup owns: one per backup, from its publication until it owns nothing any more and all of its hours are
/// metered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Of which instance.
    pub instance_id: InstanceId,
    /// Which backup.
    pub backup_id: BackupId,
    /// Who asked for it.
    pub kind: BackupKind,
    /// Where the bytes are.
    pub region: Region,
    /// The backup's whole size in bytes, whoever owns them.
    pub logical_bytes: u64,
    /// The first hour that isn't metered.
    from: Hour,
    /// Bytes owned as that hour begins.
    balance: u64,
    /// What changes in that hour or later.
    changes: BTreeMap<Hour, Change>,
}

/// What changes in an hour, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    /// Stored anew, by the backup's publication.
    stored: u64,
    /// Taken over from a deleted backup.
    inherited: u64,
    /// Removed, or passed on.
    lost: u64,
}

impl Account {
    /// An account of a finished backup, which owns nothing yet.
    pub fn open(backup: &Backup, snapshot: &Snapshot, at: Time) -> Self {
        Self {
            instance_id: backup.instance_id.clone(),
            backup_id: backup.id.clone(),
            kind: backup.kind,
            region: backup.region.clone(),
            logical_bytes: snapshot.totals.size_bytes,
            from: Hour::of(at),
            balance: 0,
            changes: BTreeMap::new(),
        }
    }

    /// Bytes that no other backup owns are stored by this one's publication.
    pub fn store(&mut self, bytes: u64, at: Time) {
        self.change(at).stored += bytes;
    }

    /// Bytes that a deleted backup owned are this one's by now.
    pub fn inherit(&mut self, bytes: u64, at: Time) {
        self.change(at).inherited += bytes;
    }

    /// Bytes are removed, or another backup's by now; at most those that are owned.
    pub fn lose(&mut self, bytes: u64, at: Time) {
        let bytes = bytes.min(self.owned());
        self.change(at).lost += bytes;
    }

    /// A metered hour doesn't change any more: what comes late for it belongs to the next one.
    fn change(&mut self, at: Time) -> &mut Change {
        self.changes.entry(Hour::of(at).max(self.from)).or_default()
    }

    /// Bytes that it owns after all of its changes.
    pub fn owned(&self) -> u64 {
        let changes = self.changes.values();
        changes
            .fold(self.balance, |owned, change| (owned + change.stored + change.inherited).saturating_sub(change.lost))
    }

    /// The first hour that isn't metered.
    pub fn metered_until(&self) -> Hour {
        self.from
    }

    /// Meters the hours before this one: gives those in which there are bytes to bill, at most so many, in order.
    ///
    /// Call it again while it gives as many.
    pub fn meter(&mut self, until: Hour, most: usize) -> Vec<(Hour, u64)> {
        let mut billed = Vec::new();
        while self.from < until && billed.len() < most {
            let change = self.changes.remove(&self.from).unwrap_or_default();
            let bytes = self.balance + change.stored;
            self.balance = (bytes + change.inherited).saturating_sub(change.lost);
            if bytes > 0 {
                billed.push((self.from, bytes));
            }
            self.from = match self.changes.keys().next() {
                // Hours in which there is nothing need not be gone through one by one.
                _ if self.balance > 0 => self.from.next(),
                Some(next) => (*next).min(until),
                None => until,
            };
        }
        billed
    }

    /// Whether there is nothing left to bill, ever.
    pub fn is_settled(&self) -> bool {
        self.balance == 0 && self.changes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Time {
        DateTime::from_timestamp(1_800_000_000 + minutes * 60, 0).unwrap()
    }

    fn hour(number: i64) -> Hour {
        Hour(Hour::of(at(0)).0 + number)
    }

    fn account(bytes: u64, minutes: i64) -> Account {
        let mut account = Account {
            instance_id: "orders".parse().unwrap(),
            backup_id: BackupId::new(ulid::Ulid::from_parts(1, 1)),
            kind: BackupKind::Manual,
            region: "eu-west-1".parse().unwrap(),
            logical_bytes: 100,
            from: Hour::of(at(minutes)),
            balance: 0,
            changes: BTreeMap::new(),
        };
        account.store(bytes, at(minutes));
        account
    }

    #[test]
    fn hours_begin_on_the_hour() {
        assert_eq!(Hour::of(at(59)), hour(0));
        assert_eq!(Hour::of(at(60)), hour(1));
        assert_eq!((hour(1).start(), hour(1).end()), (at(60), at(120)));
        assert_eq!(Hour::try_from(i64::from(hour(1))).unwrap(), hour(1));
        assert!(Hour::try_from(i64::MAX).is_err());
        assert_eq!(Hour::of(DateTime::from_timestamp(-1, 0).unwrap()), Hour(-1));
    }

    #[test]
    fn a_part_of_an_hour_counts_as_the_hour_and_a_late_hour_is_metered_later() {
        let mut account = account(7, 59);
        assert_eq!(account.meter(hour(0), 100), []);
        assert_eq!(account.meter(hour(3), 2), [(hour(0), 7), (hour(1), 7)]);
        assert_eq!(account.meter(hour(3), 2), [(hour(2), 7)]);
        assert_eq!(account.meter(hour(3), 2), []);
        assert_eq!(account.metered_until(), hour(3));
        assert!(!account.is_settled());
    }

    #[test]
    fn what_is_inherited_is_billed_from_the_next_hour_and_what_is_lost_until_the_end_of_its_own() {
        let (mut old, mut new) = (account(5, 0), account(2, 1));
        old.lose(5, at(10));
        new.inherit(3, at(10));
        assert_eq!((old.owned(), new.owned()), (0, 5));
        assert_eq!(old.meter(hour(9), 100), [(hour(0), 5)]);
        assert!(old.is_settled());
        assert_eq!(new.meter(hour(2), 100), [(hour(0), 2), (hour(1), 5)]);
        // Inherited and lost within an hour: never billed here.
        new.inherit(9, at(121));
        new.lose(14, at(122));
        assert_eq!(new.meter(hour(9), 100), [(hour(2), 5)]);
        assert!(new.is_settled());
    }

    #[test]
    fn a_metered_hour_does_not_change() {
        let mut account = account(5, 0);
        assert_eq!(account.meter(hour(1), 100), [(hour(0), 5)]);
        account.lose(5, at(59));
        assert_eq!(account.meter(hour(9), 100), [(hour(1), 5)]);
        assert!(account.is_settled());
    }
}
