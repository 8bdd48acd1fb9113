//! The query parameters of a usage listing.

use std::{fmt, str::FromStr};

use chrono::{TimeDelta, Timelike};
use milvault_billing::lines::{Granularity, Position, Query};
use milvault_gateway::{Call, Filters, Findings, PageSize, Paging};
use milvault_jobs::{Error, FieldError, Settings};
use milvault_model::{Hour, Invalid, Month, Region, Time};
use serde::Deserialize;

/// The longest period that one query may cover.
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

/// The position at which the next page begins, with the period of the query. The period is kept because the default
/// period changes with time.
#[derive(Debug, Clone)]
struct Resume {
    from: Hour,
    to: Hour,
    at: Position,
}

impl fmt::Display for Resume {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.from, self.to, self.at)
    }
}

impl FromStr for Resume {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let not = || Invalid::new("not where a page begins");
        let hour = |text: Option<&str>| text.and_then(|text| text.parse().ok()).map(Hour::containing).ok_or_else(not);
        let mut parts = text.splitn(3, ' ');
        let (from, to) = (hour(parts.next())?, hour(parts.next())?);
        Ok(Self { from, to, at: parts.next().ok_or_else(not)?.parse()? })
    }
}

impl UsageQuery {
    pub(crate) fn read<A: Copy>(call: Call<A>, settings: &Settings, now: Time) -> Result<Self, Error> {
        let known = ["from", "to", "region", "instance", "granularity", "format", "limit", "cursor"];
        Self::of(&call.filters(&known)?, settings, now)
    }

    /// Reads a query. Without a period, the query covers the present month so far.
    fn of(filters: &Filters, settings: &Settings, now: Time) -> Result<Self, Error> {
        let paging = filters.paging::<Resume>(PAGE, &settings.cursor_key)?;
        let resume: Option<Resume> = paging.after.as_ref().and_then(|after| after.parse().ok());
        let mut findings = Findings::default();
        let from = findings.keep(hour(filters, "from"));
        let to = findings.keep(hour(filters, "to"));
        let region: Option<Region> = findings.keep(filters.value("region"));
        let instance = findings.keep(filters.value("instance"));
        let granularity = findings.keep(filters.value("granularity"));
        let format = findings.keep(filters.value("format"));
        let this = Hour::containing(now);
        let (from, to) = match &resume {
            Some(resume) => (resume.from, resume.to),
            None => {
                let to = to.unwrap_or(this);
                (from.unwrap_or_else(|| Month::containing(this).first().min(to)), to)
            }
        };
        if to < from {
            findings.note(Some(FieldError::new("to", "is before 'from'")));
        } else if to.start() - from.start() > LONGEST {
            findings.note(Some(FieldError::new("to", "is more than 366 days after 'from'")));
        }
        let mut regions: Vec<Region> = match region {
            Some(region) => vec![region],
            None => settings.snapshots.iter().map(|bucket| bucket.region.clone()).collect(),
        };
        regions.sort();
        let is_elsewhere =
            |resume: &Resume| !(from..to).contains(&resume.at.hour) || !regions.contains(&resume.at.region);
        if resume.as_ref().is_some_and(is_elsewhere) {
            findings.note(Some(FieldError::new("cursor", "is not a cursor that this listing returned")));
        }
        findings.report()?;
        let query = Query { from, to, regions, instance, granularity: granularity.unwrap_or(Granularity::Day) };
        Ok(Self { query, format: format.unwrap_or_default(), paging, from: resume.map(|resume| resume.at) })
    }

    /// The cursor of the page that begins at this position.
    pub(crate) fn cursor(&self, at: Position) -> String {
        self.paging.cursor(&Resume { from: self.query.from, to: self.query.to, at }.to_string())
    }
}

fn hour(filters: &Filters, name: &str) -> Result<Option<Hour>, FieldError> {
    filters.time(name)?.map(|time| whole_hour(name, time)).transpose()
}

/// Checks that a time is a whole hour, because usage is metered by the hour.
pub(crate) fn whole_hour(name: &str, time: Time) -> Result<Hour, FieldError> {
    if time.minute() == 0 && time.second() == 0 && time.nanosecond() == 0 {
        Ok(Hour::containing(time))
    } else {
        Err(FieldError::new(name, "is not a whole hour, such as '2026-01-31T03:00:00Z'"))
    }
}
