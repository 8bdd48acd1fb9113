//! The keys of records in the table.
//!
//! | item | PK | SK |
//! |---|---|---|
//! | instance | `INSTANCE#{id}` | `META` |
//! | instance, for listing | `INSTANCES` | `{id}` |
//! | lease and job | `INSTANCE#{id}` | `LEASE` |
//! | backup | `INSTANCE#{id}` | `BACKUP#{id}` |
//! | backup's name | `INSTANCE#{id}` | `NAME#{name}` |
//! | restore | `INSTANCE#{id}` | `RESTORE#{id}` |
//! | automatic backups | `INSTANCE#{id}` | `AUTO` |
//! | notice | `INSTANCE#{id}` | `NOTICE#{id}` |
//! | line of a restore's ledger | `RESTORE#{id}` | `COLLECTION#{number}` |
//! | account of a backup | `ACCOUNT#{region}` | `{instance}#{backup}` |
//! | usage record | `USAGE#{region}#{yyyy-mm}` | `{yyyy-mm-ddThh}#{instance}#{backup}` |
//! | correction of a usage record | `USAGE#{region}#{yyyy-mm}` | `{yyyy-mm-ddThh}#{instance}#{backup}#{id}` |
//! | export of usage | `USAGE#{region}` | `EXPORT` |
//! | idempotency | `IDEM#{scope}#{key}` | `META` |

use milvault_model::{BackupId, BackupName, Hour, InstanceId, Month, Region, RestoreId, Time, UsageRecord};

pub(crate) const PK: &str = "PK";
pub(crate) const SK: &str = "SK";

/// An item's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) pk: String,
    pub(crate) sk: String,
}

impl Key {
    fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }

    pub(crate) fn instance(id: &InstanceId) -> Self {
        Self::new(format!("INSTANCE#{id}"), "META")
    }

    pub(crate) fn listed_instance(id: &InstanceId) -> Self {
        Self::new("INSTANCES", id.as_str())
    }

    pub(crate) fn lease(id: &InstanceId) -> Self {
        Self::new(format!("INSTANCE#{id}"), "LEASE")
    }

    pub(crate) fn backup(instance: &InstanceId, id: &BackupId) -> Self {
        Self::new(format!("INSTANCE#{instance}"), format!("BACKUP#{id}"))
    }

    pub(crate) fn name(instance: &InstanceId, name: &BackupName) -> Self {
        Self::new(format!("INSTANCE#{instance}"), format!("NAME#{name}"))
    }

    pub(crate) fn restore(instance: &InstanceId, id: &RestoreId) -> Self {
        Self::new(format!("INSTANCE#{instance}"), format!("RESTORE#{id}"))
    }

    pub(crate) fn auto_backup(instance: &InstanceId) -> Self {
        Self::new(format!("INSTANCE#{instance}"), "AUTO")
    }

    pub(crate) fn notice(instance: &InstanceId, id: &str) -> Self {
        Self::new(format!("INSTANCE#{instance}"), format!("NOTICE#{id}"))
    }

    pub(crate) fn ledger(restore: &RestoreId, number: u32) -> Self {
        Self::new(format!("RESTORE#{restore}"), format!("COLLECTION#{number:010}"))
    }

    pub(crate) fn account(region: &Region, instance: &InstanceId, backup: &BackupId) -> Self {
        Self::new(format!("ACCOUNT#{region}"), format!("{instance}#{backup}"))
    }

    pub(crate) fn usage(record: &UsageRecord) -> Self {
        let sk = format!("{}{}", Self::usage_prefix(record.hour), record.place());
        Self::new(Self::usages(&record.region, record.hour), sk)
    }

    pub(crate) fn usages(region: &Region, hour: Hour) -> String {
        format!("USAGE#{region}#{}", Month::containing(hour))
    }

    pub(crate) fn usage_prefix(hour: Hour) -> String {
        format!("{}#", hour.key())
    }

    pub(crate) fn usage_export(region: &Region) -> Self {
        Self::new(format!("USAGE#{region}"), "EXPORT")
    }

    pub(crate) fn idempotency(scope: &str, key: &str) -> Self {
        // Without escaping, ("a#b", "c") and ("a", "b#c") would have the same key.
        let scope = scope.replace('%', "%25").replace('#', "%23");
        Self::new(format!("IDEM#{scope}#{key}"), "META")
    }
}

/// A time as text that sorts by time: always in milliseconds.
pub(crate) fn sortable(time: Time) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
