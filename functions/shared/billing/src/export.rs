//! Export of usage to files, day by day, for billing by files.
//!
//! ```text
//! usage/region={region}/date={yyyy-mm-dd}/part-{number}.csv
//! ```

use chrono::{Days, NaiveDate};
use futures::{TryStreamExt, future::ready};
use milvault_jobs::{Error, Jobs};
use milvault_model::{Hour, Region, Time, UsageExport};
use milvault_ports::{CatalogError, Deadline, Expect, PutMode, Write};

use super::lines::{self, Line};

/// The maximum number of lines in a file, which makes some megabytes.
const LINES: usize = 5_000;

/// Returns the prefix of a day's files.
fn folder(region: &Region, day: NaiveDate) -> String {
    format!("usage/region={region}/date={day}/")
}

/// Exports each day that is over, completely metered and not yet exported. Returns their number.
///
/// A day's files depend only on its records, so a repeated export writes the same files. A day without usage has no
/// files.
///
/// # Errors
/// The catalog or the bucket fails. The next run continues.
pub async fn export(
    jobs: &Jobs,
    region: &Region,
    metered_until: Time,
    render: impl Fn(&[Line]) -> Vec<u8>,
    deadline: Deadline,
) -> Result<u32, Error> {
    let mut written = 0;
    loop {
        let Some(found) = jobs.ports.catalog.usage_export(region).await? else { return Ok(written) };
        let day = found.value.next;
        let next = day + Days::new(1);
        if Hour::first_of(next).start() > metered_until || !write_day(jobs, region, day, &render, deadline).await? {
            return Ok(written);
        }
        let moved = UsageExport { region: region.clone(), next };
        match jobs.ports.catalog.commit(vec![Write::UsageExport(Box::new(moved), Expect::Version(found.version))]).await
        {
            Ok(()) => written += 1,
            // A record was corrected after it was read; or another run exported the day, perhaps after a correction,
            // and this run has just replaced its files by older ones.
            Err(CatalogError::Conflict(_)) => export_again(jobs, region, day, &render, deadline).await?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Exports a day again, if it was exported before, because a record was corrected. Repeats the export until no
/// correction was made during it.
///
/// # Errors
/// The catalog or the bucket fails, or the time is over. The correction is stored, and may be requested again.
pub async fn export_again(
    jobs: &Jobs,
    region: &Region,
    day: NaiveDate,
    render: impl Fn(&[Line]) -> Vec<u8>,
    deadline: Deadline,
) -> Result<(), Error> {
    let export = async || jobs.ports.catalog.usage_export(region).await;
    let mut before = export().await?;
    while before.as_ref().is_some_and(|export| day < export.value.next) {
        if !write_day(jobs, region, day, &render, deadline).await? {
            let late = format!("there was no time to export the usage of {day} again");
            return Err(Error::Inconsistent(late));
        }
        let after = export().await?;
        if after == before {
            break;
        }
        before = after;
    }
    Ok(())
}

/// Writes a day's files, and removes those of an earlier export. Returns whether the time sufficed.
async fn write_day(
    jobs: &Jobs,
    region: &Region,
    day: NaiveDate,
    render: &impl Fn(&[Line]) -> Vec<u8>,
    deadline: Deadline,
) -> Result<bool, Error> {
    let (objects, bucket) = (jobs.ports.objects.as_ref(), jobs.settings.snapshots.home());
    let (folder, query) = (folder(region, day), lines::day_query(region, day));
    let mut files = Vec::new();
    let mut from = None;
    loop {
        if deadline.is_over(jobs.now()) {
            return Ok(false);
        }
        // Without a deadline, because a page that ends early would distribute the same lines differently over files.
        let page = lines::lines(jobs, &query, from, LINES, Deadline::at(Time::MAX_UTC)).await?;
        if !page.lines.is_empty() {
            let key = format!("{folder}part-{:05}.csv", files.len());
            objects.put(bucket, &key, render(&page.lines), PutMode::Replace).await?;
            files.push(key);
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    let written = milvault_ports::objects(objects, bucket, &folder).map_ok(|object| object.key);
    let stale: Vec<String> = written.try_filter(|key| ready(!files.contains(key))).try_collect().await?;
    objects.delete(bucket, &stale).await?;
    Ok(true)
}
