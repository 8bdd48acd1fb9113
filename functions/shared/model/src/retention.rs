//! Which backups go, and why.

use std::fmt;

use chrono::TimeDelta;

use crate::{Backup, BackupKind, BackupState, KeepAtLeast, RestoreId, Time};

/// A backup that outlives its expiry is looked at again after so long: newer ones may have come, or fewer be wanted.
pub const LOOK_AGAIN: TimeDelta = TimeDelta::hours(1);

/// How an automatic backup stands among those of its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many of the newest available automatic backups are to outlive their expiry.
    pub keep_at_least: KeepAtLeast,
    /// How many available automatic backups are newer than this one.
    pub newer: usize,
}

/// Why a backup goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is past its expiry, since this time.
    Expired(Time),
    /// A caller asked for it at this time, while it was locked.
    Asked(Time),
}

/// What the sweep does with a backup whose expiry is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Delete it.
    Delete(Reason),
    /// Keep it: its expiry is still to come.
    NotExpired {
        /// When it will be over.
        expires_at: Time,
    },
    /// Keep it: it has no expiry.
    Unlimited,
    /// Keep it: it is one of the newest available automatic backups, which outlive their expiry.
    KeptAtLeast {
        /// How many are kept.
        keep_at_least: KeepAtLeast,
    },
    /// Not yet: what it has stored is locked.
    Locked {
        /// Until when.
        until: Time,
    },
    /// Keep it: a restore is reading it; the next sweep asks again.
    InUse(RestoreId),
    /// Keep it: it isn't a finished backup.
    NotFinished,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete(Reason::Expired(at)) => write!(f, "it expired at {}", at.to_rfc3339()),
            Self::Delete(Reason::Asked(at)) => write!(f, "its deletion was asked for at {}", at.to_rfc3339()),
            Self::NotExpired { expires_at } => write!(f, "it expires at {}", expires_at.to_rfc3339()),
            Self::Unlimited => f.write_str("it has no expiry"),
            Self::KeptAtLeast { keep_at_least } => {
                write!(f, "it is one of the newest {} automatic backups", keep_at_least.count())
            }
            Self::Locked { until } => write!(f, "it is locked until {}", until.to_rfc3339()),
            Self::InUse(restore) => write!(f, "restore {restore} is reading it"),
            Self::NotFinished => f.write_str("it isn't a finished backup"),
        }
    }
}

impl Decision {
    /// Whether the backup is on its way out, and only waits for what is in the way of that.
    pub fn is_going(&self) -> bool {
        matches!(self, Self::Delete(_) | Self::Locked { .. } | Self::InUse(_))
    }

    /// The decision in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delete(_) => "Delete",
            Self::NotExpired { .. } => "NotExpired",
            Self::Unlimited => "Unlimited",
            Self::KeptAtLeast { .. } => "KeptAtLeast",
            Self::Locked { .. } => "Locked",
            Self::InUse(_) => "InUse",
            Self::NotFinished => "NotFinished",
        }
    }
}

/// Whether a backup is one of those of which the newest may outlive their expiry.
pub fn counts(backup: &Backup) -> bool {
    backup.kind == BackupKind::Auto
        && matches!(backup.state, BackupState::Available(_))
        && backup.deletion_requested_at.is_none()
}

/// Decides about one backup.
pub fn decide(backup: &Backup, standing: Standing, now: Time) -> Decision {
    if !backup.is_living() {
        return Decision::NotFinished;
    }
    let reason = match (backup.deletion_requested_at, backup.expires_at) {
        (Some(at), _) => Reason::Asked(at),
        (None, None) => return Decision::Unlimited,
        (None, Some(expires_at)) if expires_at > now => return Decision::NotExpired { expires_at },
        (None, Some(at)) => Reason::Expired(at),
    };
    if counts(backup) && standing.newer < standing.keep_at_least.count() {
        return Decision::KeptAtLeast { keep_at_least: standing.keep_at_least };
    }
    match (backup.pins.first(), backup.locked_until.filter(|until| *until > now)) {
        (Some(restore), _) => Decision::InUse(restore.clone()),
        (None, Some(until)) => Decision::Locked { until },
        (None, None) => Decision::Delete(reason),
    }
}
