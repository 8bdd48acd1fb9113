//! The meter: records, for every finished hour, the bytes that each backup owned. The records never change.

use std::pin::pin;

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_jobs::{Error, Jobs};
use milvault_model::{Account, BackupStatus, Hour, Region, Time, UsageExport, UsageRecord};
use milvault_ports::{CatalogError, Deadline, Expect, Versioned, Write, items, pages};
use serde::Serialize;

/// How long after its end an hour is metered, so that all commits of the hour are visible.
const SETTLING: TimeDelta = TimeDelta::minutes(5);

/// The number of accounts that are metered concurrently, because each waits for the catalog.
const IN_FLIGHT: usize = 32;

/// The maximum number of an account's hours in one commit, which takes a hundred writes.
const HOURS: usize = 98;

/// The report of a run of the meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeterReport {
    /// The metered region.
    pub region: Region,
    /// The time up to which the run had to meter.
    pub until: Time,
    /// The number of accounts that were read.
    pub accounts: u64,
    /// The number of records that were written.
    pub records: u64,
    /// The number of accounts that couldn't be metered completely. The next run tries again.
    pub failed: u64,
    /// Whether every account is metered up to `until`.
    pub is_whole: bool,
    /// When the oldest unmetered hour that this run saw began; `until` if there is none.
    pub unmetered_since: Time,
}

/// The maximum number of accounts in memory.
const ACCOUNTS: usize = 1_000;

/// Meters every finished hour of a region that isn't metered yet. Late, repeated and overlapping runs have the same
/// result, because one commit stores an account's records and the account's progress.
///
/// # Errors
/// The accounts can't be listed. Accounts metered before that stay metered. An account that can't be metered doesn't
/// affect the others.
pub async fn meter(jobs: &Jobs, region: &Region, deadline: Deadline) -> Result<MeterReport, Error> {
    let until = Hour::containing(jobs.now() - SETTLING);
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
            // The accounts that this run doesn't reach are assumed to be as far as those on this page, or those before.
            let due = page.iter().map(|found| &found.value).filter(|account| (*account).clone().meter(until).is_some());
            let behind = due.map(|account| account.unmetered().start());
            report.unmetered_since = behind.chain([report.unmetered_since]).min().unwrap_or(report.unmetered_since);
            return Ok(report);
        }
        report.accounts += page.len() as u64;
        let metered = page.into_iter().map(async |found| {
            let (key, since) = (account_key(&found.value), found.value.unmetered());
            let outcome = meter_account(jobs, found, until).await.inspect_err(|error| {
                tracing::error!(%error, %region, account = key, "an account cannot be metered");
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

/// Stores the day from which on a region's usage is exported, before the region is metered for the first time.
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
        // After a conflict, another run has stored it.
        Ok(()) | Err(CatalogError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn account_key(account: &Account) -> String {
    format!("{}#{}", account.instance_id, account.backup_id)
}

/// Meters an account's hours before `until`, and returns the number of records.
async fn meter_account(jobs: &Jobs, mut found: Versioned<Account>, until: Hour) -> Result<u64, Error> {
    let mut written = 0;
    loop {
        let mut account = found.value.clone();
        let mut records = Vec::new();
        while records.len() < HOURS
            && let Some(metered) = account.meter(until)
        {
            records.push(UsageRecord::new(&account, metered, &jobs.settings.prices));
        }
        let is_closed = records.is_empty() && account.is_settled() && is_deleted(jobs, &account).await?;
        if records.is_empty() && !is_closed {
            return Ok(written);
        }
        let count = records.len() as u64;
        let mut writes = vec![match is_closed {
            // A deleted backup owns nothing and inherits nothing.
            true => Write::RemoveAccount(Box::new(account.clone()), found.version),
            false => Write::Account(Box::new(account.clone()), Expect::Version(found.version)),
        }];
        writes.extend(records.into_iter().map(|record| Write::Usage(Box::new(record))));
        match jobs.ports.catalog.commit(writes).await {
            Ok(()) if is_closed => return Ok(written),
            Ok(()) => {
                written += count;
                found = Versioned { value: account, version: found.version + 1 };
            }
            // The account changed, or another run metered it.
            Err(CatalogError::Conflict(0)) => {
                let (region, instance, backup) = (&account.region, &account.instance_id, &account.backup_id);
                match jobs.ports.catalog.account(region, instance, backup).await? {
                    Some(changed) => found = changed,
                    None => return Ok(written),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an account's backup is deleted. Until then, a backup that owns nothing may still inherit objects.
async fn is_deleted(jobs: &Jobs, account: &Account) -> Result<bool, Error> {
    let backup = jobs.ports.catalog.backup(&account.instance_id, &account.backup_id).await?;
    Ok(backup.is_none_or(|backup| backup.value.state.status() == BackupStatus::Deleted))
}
