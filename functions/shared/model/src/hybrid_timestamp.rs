//! Milvus's hybrid timestamps: milliseconds since 1970, shifted by the 18 bits of a logical clock.

use chrono::DateTime;

use crate::Time;

/// The milliseconds since 1970 of a hybrid timestamp.
pub fn milliseconds_of(hybrid: u64) -> u64 {
    hybrid >> 18
}

/// The time of a hybrid timestamp, to the millisecond; `None` if it is beyond the range of [`Time`].
pub fn time_of(hybrid: u64) -> Option<Time> {
    i64::try_from(milliseconds_of(hybrid)).ok().and_then(DateTime::from_timestamp_millis)
}
