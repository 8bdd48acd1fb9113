//! The hours and months that usage is metered in.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, SecondsFormat};
use serde::{Deserialize, Serialize};

use crate::Time;

const SECONDS: i64 = 3600;

/// An hour in UTC, by its number since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hour(i64);

impl Hour {
    /// The hour that contains this time. An hour begins with its first millisecond and ends before the first
    /// millisecond of the next hour.
    pub fn containing(time: Time) -> Self {
        Self(time.timestamp().div_euclid(SECONDS))
    }

    /// The first hour of a day in UTC.
    pub fn first_of(day: NaiveDate) -> Self {
        Self::containing(day.and_time(NaiveTime::MIN).and_utc())
    }

    /// The day that contains the hour.
    pub fn day(self) -> NaiveDate {
        self.start().date_naive()
    }

    /// The hour as a sortable part of keys: `yyyy-mm-ddThh`.
    pub fn key(self) -> String {
        self.start().format("%Y-%m-%dT%H").to_string()
    }

    /// When the hour begins.
    pub fn start(self) -> Time {
        DateTime::from_timestamp(self.0.saturating_mul(SECONDS), 0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// The next hour.
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
    /// The month that contains this hour.
    pub fn containing(hour: Hour) -> Self {
        let begins = hour.start();
        Self { year: begins.year(), month: begins.month() }
    }

    /// The first hour of the month.
    pub fn first(self) -> Hour {
        Hour::first_of(NaiveDate::from_ymd_opt(self.year, self.month, 1).unwrap_or_default())
    }

    /// The next month.
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
