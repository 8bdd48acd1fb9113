//! Times as the API writes them.

use std::fmt::{self, Display, Formatter};

use chrono::SecondsFormat;
use milvault_model::Time;
use serde::{Deserialize, Serialize};

/// A time as the API writes it: RFC 3339 in UTC, always with milliseconds, so that the texts sort in order of time.
///
/// A reader keeps the text unchanged, because clients only show and compare times. It is empty for an absent field.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(String);

impl Timestamp {
    /// Returns the time as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        Self(time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Display for Timestamp {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;

    #[test]
    fn a_time_is_in_utc_with_milliseconds_and_sorts_as_text() {
        let after = |milliseconds| Timestamp::from(DateTime::UNIX_EPOCH + TimeDelta::milliseconds(milliseconds));
        assert_eq!(after(1_000).as_str(), "1970-01-01T00:00:01.000Z");
        assert!(after(999) < after(1_000) && after(1_000) < after(1_001));
        assert_eq!(serde_json::to_string(&after(0)).unwrap(), "\"1970-01-01T00:00:00.000Z\"");
    }
}
