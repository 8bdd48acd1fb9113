//! Retention: which backups are deleted, and why.

use std::fmt;

use chrono::TimeDelta;

use crate::{Backup, BackupKind, BackupState, KeepAtLeast, RestoreId, Time};

/// How long the sweep waits before it looks again at a backup that is kept past its expiry. Meanwhile newer backups may
/// become available, or fewer may have to be kept.
pub const LOOK_AGAIN: TimeDelta = TimeDelta::hours(1);

/// An automatic backup's position among the automatic backups of its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The number of newest available automatic backups that are kept past their expiry.
    pub keep_at_least: KeepAtLeast,
    /// The number of available automatic backups that are newer than this one.
    pub newer: usize,
}

/// The reason for deleting a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It expired at this time.
    Expired(Time),
    /// A caller asked to delete it at this time, while it was locked.
    Requested(Time),
}

/// What the sweep does with a backup whose expiry is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Delete it.
    Delete(Reason),
    /// Keep it: it hasn't expired yet.
    NotExpired {
        /// When it expires.
        expires_at: Time,
    },
    /// Keep it: it has no expiry.
    Unlimited,
    /// Keep it: it is one of the newest available automatic backups, which are kept past their expiry.
    KeptAtLeast {
        /// The number of backups that are kept.
        keep_at_least: KeepAtLeast,
    },
    /// Keep it for now: its stored objects are locked.
    Locked {
        /// When the lock ends.
        until: Time,
    },
    /// Keep it: a restore is reading it. The next sweep decides again.
    InUse(RestoreId),
    /// Keep it: it isn't a finished backup.
    NotFinished,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete(Reason::Expired(at)) => write!(f, "it expired at {}", at.to_rfc3339()),
            Self::Delete(Reason::Requested(at)) => write!(f, "its deletion was asked for at {}", at.to_rfc3339()),
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
    /// Whether the backup is to be deleted, now or once nothing is in the way.
    pub fn is_going(&self) -> bool {
        matches!(self, Self::Delete(_) | Self::Locked { .. } | Self::InUse(_))
    }

    /// The decision's name in one word.
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

/// Whether a backup counts among those of which the newest are kept past their expiry.
pub fn counts(backup: &Backup) -> bool {
    backup.kind == BackupKind::Auto
        && matches!(backup.state, BackupState::Available(_))
        && backup.deletion_requested_at.is_none()
}

/// Decides what to do with one backup.
pub fn decide(backup: &Backup, standing: Standing, now: Time) -> Decision {
    if !backup.is_living() {
        return Decision::NotFinished;
    }
    let reason = match (backup.deletion_requested_at, backup.expires_at) {
        (Some(at), _) => Reason::Requested(at),
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
