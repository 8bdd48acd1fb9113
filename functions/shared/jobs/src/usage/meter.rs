//! The meter: for every finished hour, what each backup owned, as records that never change.

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{Account, BackupStatus, Hour, Prices, Region, UsageRecord};
use serde::Serialize;

use crate::{
    Error, Jobs,
    ports::{CatalogError, Deadline, Expect, PageRequest, Versioned, Write},
};

/// An hour is metered so long after its end: what was committed in it has arrived by then.
const SETTLING: TimeDelta = TimeDelta::minutes(5);

/// Accounts metered at once: each waits for the catalog.
const IN_FLIGHT: usize = 32;

/// The most hours of an account in one commit, which takes a hundred writes.
const HOURS: usize = 98;

/// What a run of the meter did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeterReport {
    /// Accounts that were looked at.
    pub accounts: u64,
    /// Records that were written.
    pub records: u64,
    /// Whether it came to the end of the accounts.
    pub is_whole: bool,
}

/// Meters every finished hour of a region that isn't metered. Late, repeated and overlapping runs make no difference: an
/// account's hours are metered by the commit that notes that they are.
///
/// # Errors
/// When the catalog fails; what was metered by then is.
pub async fn meter(jobs: &Jobs, region: &Region, prices: &Prices, deadline: Deadline) -> Result<MeterReport, Error> {
    let until = Hour::of(jobs.ports.clock.now() - SETTLING);
    let mut report = MeterReport::default();
    let mut after = None;
    loop {
        if deadline.is_over(jobs.ports.clock.now()) {
            return Ok(report);
        }
        let page = jobs.ports.catalog.accounts(region, PageRequest { after, limit: 1000 }).await?;
        after = page.items.last().map(|found| account_key(&found.value));
        report.accounts += page.items.len() as u64;
        let metered = page.items.into_iter().map(|account| meter_account(jobs, prices, account, until));
        report.records += stream::iter(metered)
            .buffer_unordered(IN_FLIGHT)
            .try_fold(0, async |sum, records| Ok(sum + records))
            .await?;
        if !page.more {
            report.is_whole = true;
            return Ok(report);
        }
    }
}

fn account_key(account: &Account) -> String {
    format!("{}#{}", account.instance_id, account.backup_id)
}

/// Meters an account's hours before `until`; how many records that made.
async fn meter_account(jobs: &Jobs, prices: &Prices, mut found: Versioned<Account>, until: Hour) -> Result<u64, Error> {
    let mut written = 0;
    loop {
        let mut account = found.value.clone();
        let mut records = Vec::new();
        while records.len() < HOURS
            && let Some(metered) = account.meter(until)
        {
            records.push(UsageRecord::of(&account, metered, prices));
        }
        let is_over = records.is_empty() && account.is_settled() && is_deleted(jobs, &account).await?;
        if records.is_empty() && !is_over {
            return Ok(written);
        }
        let count = records.len() as u64;
        let mut writes = vec![match is_over {
            // Nothing owns anything in its name any more, nor will.
            true => Write::RemoveAccount(Box::new(account.clone()), found.version),
            false => Write::Account(Box::new(account.clone()), Expect::Version(found.version)),
        }];
        writes.extend(records.into_iter().map(|record| Write::Usage(Box::new(record))));
        match jobs.ports.catalog.commit(writes).await {
            Ok(()) if is_over => return Ok(written),
            Ok(()) => {
                written += count;
                found = Versioned { value: account, version: found.version + 1 };
            }
            // It changed, or another run has metered it: look again.
            Err(CatalogError::Conflict(0)) => {
                let (region, instance, backup) = (&account.region, &account.instance_id, &account.backup_id);
                match jobs.ports.catalog.account(region, instance, backup).await? {
                    Some(now) => found = now,
                    None => return Ok(written),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A living backup that owns nothing may still inherit.
async fn is_deleted(jobs: &Jobs, account: &Account) -> Result<bool, Error> {
    let backup = jobs.ports.catalog.backup(&account.instance_id, &account.backup_id).await?;
    Ok(backup.is_none_or(|backup| backup.value.state.status() == BackupStatus::Deleted))
}
