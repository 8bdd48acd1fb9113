//! What a caller wants to know of usage.

use chrono::{TimeDelta, Timelike};
use milvault_gateway::{Call, Filters, Findings, PageSize, Paging};
use milvault_jobs::{
    Error, FieldError, SnapshotBuckets,
    usage::lines::{Granularity, Position, Query},
};
use milvault_model::{Hour, Month, Region, Time};
use serde::Deserialize;

/// The longest time that is asked for at once.
const LONGEST: TimeDelta = TimeDelta::days(366);

const PAGE: PageSize = PageSize { default: 100, allowed: 1..=1000 };

/// The form of the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Json,
    Focus,
}

#[derive(Debug)]
pub(crate) struct UsageQuery {
    pub(crate) query: Query,
    pub(crate) format: Format,
    pub(crate) paging: Paging,
    pub(crate) from: Option<Position>,
}

impl UsageQuery {
    pub(crate) fn read<A: Copy>(call: Call<A>, snapshots: &SnapshotBuckets, now: Time) -> Result<Self, Error> {
        let known = ["from", "to", "region", "instance", "granularity", "format", "limit", "cursor"];
        Self::of(&call.filters(&known)?, snapshots, now)
    }

    /// Without a time, of the present month so far.
    fn of(filters: &Filters, snapshots: &SnapshotBuckets, now: Time) -> Result<Self, Error> {
        let paging = filters.paging::<Position>(PAGE)?;
        let mut findings = Findings::default();
        let from = findings.keep(hour(filters, "from"));
        let to = findings.keep(hour(filters, "to"));
        let region: Option<Region> = findings.keep(filters.named("region"));
        let instance = findings.keep(filters.named("instance"));
        let granularity = findings.keep(filters.named("granularity"));
        let format = findings.keep(filters.named("format"));
        let this = Hour::of(now);
        let to = to.unwrap_or(this);
        let from = from.unwrap_or_else(|| Month::of(this).first().min(to));
        if to < from {
            findings.note(Some(FieldError::new("to", "is before 'from'")));
        } else if to.start() - from.start() > LONGEST {
            findings.note(Some(FieldError::new("to", "is more than 366 days after 'from'")));
        }
        findings.report()?;
        let mut regions: Vec<Region> = match region {
            Some(region) => vec![region],
            None => snapshots.iter().map(|bucket| bucket.region.clone()).collect(),
        };
        regions.sort();
        let query = Query { from, to, regions, instance, granularity: granularity.unwrap_or(Granularity::Day) };
        let from = paging.after.as_ref().and_then(|after| after.parse().ok());
        Ok(Self { query, format: format.unwrap_or_default(), paging, from })
    }
}

fn hour(filters: &Filters, name: &str) -> Result<Option<Hour>, FieldError> {
    filters.time(name)?.map(|time| whole_hour(name, time)).transpose()
}

/// Usage is metered by the hour, and can't be told apart within one.
pub(crate) fn whole_hour(name: &str, time: Time) -> Result<Hour, FieldError> {
    if time.minute() == 0 && time.second() == 0 && time.nanosecond() == 0 {
        Ok(Hour::of(time))
    } else {
        Err(FieldError::new(name, "is not a whole hour, such as '2026-01-31T03:00:00Z'"))
    }
}
