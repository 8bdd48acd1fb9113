//! The meter: for every finished hour, what each backup owned, as records that never change.

use std::pin::pin;

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_jobs::{Error, Jobs};
use milvault_model::{Account, BackupStatus, Hour, Region, Time, UsageExport, UsageRecord};
use milvault_ports::{CatalogError, Deadline, Expect, Versioned, Write, items, pages};
use serde::Serialize;

/// An hour is metered so long after its end: what was committed in it has arrived by then.
const SETTLING: TimeDelta = TimeDelta::minutes(5);

/// Accounts metered at once: each waits for the catalog.
const IN_FLIGHT: usize = 32;

/// The most hours of an account in one commit, which takes a hundred writes.
const HOURS: usize = 98;

/// What a run of the meter did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeterReport {
    /// Whose bytes.
    pub region: Region,
    /// The hours before this time were to be metered.
    pub until: Time,
    /// Accounts that were looked at.
    pub accounts: u64,
    /// Records that were written.
    pub records: u64,
    /// Accounts that couldn't be metered to the end: the next run tries again.
    pub failed: u64,
    /// Whether every account is metered until then.
    pub is_whole: bool,
    /// When the oldest hour began that isn't metered, as far as this run came to see; `until` if there is none.
    pub unmetered_since: Time,
}

/// Meters every finished hour of a region that isn't metered. Late, repeated and overlapping runs make no difference: an
/// account's hours are metered by the commit that notes that they are.
///
/// Accounts in memory at a time.
const ACCOUNTS: usize = 1_000;

/// # Errors
/// When the accounts can't be listed; what was metered by then is. One that can't be metered doesn't keep the others
/// from it.
pub async fn meter(jobs: &Jobs, region: &Region, deadline: Deadline) -> Result<MeterReport, Error> {
    let until = Hour::of(jobs.now() - SETTLING);
    let mut report = MeterReport {
        region: region.clone(),
        until: until.start(),
        accounts: 0,
        records: 0,
        failed: 0,
        is_whole: false,
        unmetered_since: until.start(),
    };
    begin_export(jobs, region).await?;
    let mut failed_since = until;
    let mut accounts = pin!(pages(ACCOUNTS, |page| jobs.ports.catalog.accounts(region, page)));
    while let Some(page) = accounts.try_next().await? {
        if deadline.is_over(jobs.now()) {
            // What this run doesn't come to is as old as what it has seen, or as this.
            let due = page.iter().map(|found| &found.value).filter(|account| (*account).clone().meter(until).is_some());
            let behind = due.map(|account| account.unmetered().start());
            report.unmetered_since = behind.chain([report.unmetered_since]).min().unwrap_or(report.unmetered_since);
            return Ok(report);
        }
        report.accounts += page.len() as u64;
        let metered = page.into_iter().map(async |found| {
            let (key, since) = (account_key(&found.value), found.value.unmetered());
            let outcome = meter_account(jobs, found, until).await.inspect_err(|error| {
                tracing::error!(%error, %region, account = key, "an account can't be metered");
            });
            (since, outcome)
        });
        let metered: Vec<_> = stream::iter(metered).buffer_unordered(IN_FLIGHT).collect().await;
        for (since, outcome) in metered {
            match outcome {
                Ok(0) => continue,
                Ok(records) => report.records += records,
                Err(_) => {
                    report.failed += 1;
                    failed_since = failed_since.min(since);
                }
            }
            report.unmetered_since = report.unmetered_since.min(since.start());
        }
    }
    report.is_whole = report.failed == 0;
    report.unmetered_since = failed_since.start();
    let MeterReport { accounts, records, failed, .. } = report;
    tracing::info!(%region, %until, accounts, records, failed, "metered");
    Ok(report)
}

/// Before anything of a region is metered for the first time, notes from which day on its usage is to be written out.
async fn begin_export(jobs: &Jobs, region: &Region) -> Result<(), Error> {
    if jobs.ports.catalog.usage_export(region).await?.is_some() {
        return Ok(());
    }
    let mut first: Option<Hour> = None;
    let mut accounts = pin!(items(ACCOUNTS, |page| jobs.ports.catalog.accounts(region, page)));
    while let Some(found) = accounts.try_next().await? {
        first = first.into_iter().chain([found.value.unmetered()]).min();
    }
    let Some(first) = first else { return Ok(()) };
    let export = UsageExport { region: region.clone(), next: first.day() };
    match jobs.ports.catalog.commit(vec![Write::UsageExport(Box::new(export), Expect::Absent)]).await {
        // Another run has.
        Ok(()) | Err(CatalogError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn account_key(account: &Account) -> String {
    format!("{}#{}", account.instance_id, account.backup_id)
}

/// Meters an account's hours before `until`; how many records that made.
async fn meter_account(jobs: &Jobs, mut found: Versioned<Account>, until: Hour) -> Result<u64, Error> {
    let mut written = 0;
    loop {
        let mut account = found.value.clone();
        let mut records = Vec::new();
        while records.len() < HOURS
            && let Some(metered) = account.meter(until)
        {
            records.push(UsageRecord::of(&account, metered, &jobs.settings.prices));
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
