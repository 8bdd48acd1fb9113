//! Which backups go, and why.

use crate::{Backup, Time};

/// What the sweep does with a backup whose expiry is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Delete it: it is past its expiry.
    Delete,
    /// Keep it: it has no expiry, or it is still to come.
    NotExpired,
    /// Keep it: a restore is reading it; the next sweep asks again.
    InUse,
    /// Keep it: it isn't a finished backup.
    NotFinished,
}

/// Decides about one backup.
pub fn decide(backup: &Backup, now: Time) -> Decision {
    if !backup.is_living() {
        Decision::NotFinished
    } else if backup.expires_at.is_none_or(|at| at > now) {
        Decision::NotExpired
    } else if !backup.pins.is_empty() {
        Decision::InUse
    } else {
        Decision::Delete
    }
}
