//! A backup and the states that it goes through.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{
    BackupId, BackupName, CollectionName, CollectionPattern, Due, DueKind, Ending, Failure, FailureCode, InstanceId,
    LeftOut, ObjectKey, Progress, Region, RestoreId, Snapshot, Time,
};

/// Who asked for a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupKind {
    /// A caller, by name.
    Manual,
    /// The instance's schedule.
    Auto,
}

/// How the data was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureMethod {
    /// Copies of Milvus's own insert and delete logs.
    Binlog,
}

/// A backup as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Its id, which sorts by creation time.
    pub id: BackupId,
    /// Of which instance.
    pub instance_id: InstanceId,
    /// Unique among the instance's backups that aren't over.
    pub name: BackupName,
    /// Who asked.
    pub kind: BackupKind,
    /// How it is captured.
    pub method: CaptureMethod,
    /// Where the bytes are.
    pub region: Region,
    /// What the server reported when the backup was asked for.
    pub engine_version: String,
    /// Which collections; empty for all.
    pub selection: Vec<CollectionPattern>,
    /// When it was asked for.
    pub created_at: Time,
    /// When it is to be deleted without anyone asking; `None` for never.
    pub expires_at: Option<Time>,
    /// Until when the sweep keeps it past its expiry, at least: it is one of the newest automatic ones.
    #[serde(default)]
    pub kept_until: Option<Time>,
    /// Until when everything of it is locked at least, in a bucket with Object Lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_locked_until: Option<Time>,
    /// Until when something of it may be locked, in such a bucket: before that nothing of it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
    /// When the caller asked to delete it, if it was locked then: it is deleted when that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_requested_at: Option<Time>,
    /// When the caller asked to stop it, if they did while it was pending or running.
    pub cancel_requested_at: Option<Time>,
    /// The restores that are reading it: it can't be deleted before they end.
    pub pins: BTreeSet<RestoreId>,
    /// The last verification since it became available, or the one under way.
    #[serde(default)]
    pub verification: Option<Verification>,
    /// Where it stands.
    pub state: BackupState,
}

/// A comparison of a finished backup with what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// When it began.
    pub started_at: Time,
    /// When it last got further.
    pub advanced_at: Time,
    /// When it was over; `None` while it is under way.
    pub completed_at: Option<Time>,
    /// The manifest's first page of objects that isn't compared.
    pub next: u32,
    /// How many objects were compared.
    pub objects_checked: u64,
    /// Keys of objects and documents that aren't there; the first hundred.
    pub missing: Vec<String>,
    /// Keys of objects and documents that aren't what was stored; the first hundred.
    pub changed: Vec<String>,
}

/// Every finished backup is verified so often without anyone asking.
const VERIFY_EVERY: TimeDelta = TimeDelta::days(7);

/// A verification that hasn't got further for so long was interrupted: no invocation is given more than 15 minutes.
const VERIFICATION_LOST: TimeDelta = TimeDelta::minutes(20);

/// The states of a backup, each with what is known in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupState {
    /// Accepted; no worker has begun.
    Pending,
    /// At work, or cleaning up what won't be finished.
    Running(Box<BackupRun>),
    /// Whole and verified.
    Available(Snapshot),
    /// Was available; a verification found an object missing or changed.
    #[serde(rename_all = "camelCase")]
    Damaged {
        /// What it was.
        snapshot: Snapshot,
        /// What was found.
        failure: Failure,
    },
    /// Over without a result; nothing of it is stored.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When it was given up.
        ended_at: Time,
        /// Why.
        failure: Failure,
    },
    /// Over because the caller asked; nothing of it is stored.
    #[serde(rename_all = "camelCase")]
    Cancelled {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When it was over.
        ended_at: Time,
    },
    /// Being deleted: no longer usable, its objects going.
    #[serde(rename_all = "camelCase")]
    Deleting {
        /// What it was.
        snapshot: Snapshot,
        /// Since when.
        since: Time,
        /// The last object that is removed, or another backup's by now; those after it still count as this one's.
        #[serde(default)]
        after: Option<ObjectKey>,
    },
    /// Gone; the record stays.
    #[serde(rename_all = "camelCase")]
    Deleted {
        /// What it was.
        snapshot: Snapshot,
        /// Since when.
        deleted_at: Time,
    },
}

/// A running backup's durable state: enough for another worker to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupRun {
    /// When the first worker began.
    pub started_at: Time,
    /// How many invocations have worked on it.
    pub slices: u32,
    /// How often some of it had to be planned again because its source changed.
    pub replans: u32,
    /// When all of it was first planned again.
    #[serde(default)]
    pub unsettled_since: Option<Time>,
    /// Collections, by id, whose files were gone before they were copied.
    #[serde(default)]
    pub gone: Vec<Unsettled<i64>>,
    /// Pages of the survey: which collections there were when it began. `None` until it is written.
    #[serde(default)]
    pub survey: Option<PageSet>,
    /// Whether it takes objects over from an earlier backup.
    pub reuse: Reuse,
    /// When it last got further.
    pub advanced_at: Time,
    /// In which of its invocations that was.
    #[serde(default)]
    pub advanced_in: u32,
    /// What to do next.
    pub phase: BackupPhase,
    /// Of the present phase.
    pub progress: Progress,
}

/// The steps of a backup. What a step needs from those before it is in its variant or in the backup's working pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupPhase {
    /// Flush every collection and write down what it is.
    Flush(Flushing),
    /// Decide which objects the backup consists of, and which of them are to be copied.
    Plan(Planning),
    /// Copy the plan's pages.
    Copy(Copying),
    /// Find every object of the plan at the destination, then write the manifest.
    Verify(Verifying),
    /// The manifest is written: become AVAILABLE.
    Publish(Publishing),
    /// Remove what was stored, then end.
    Clean(Ending),
}

/// How far the flush is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flushing {
    /// Pages of what was captured so far.
    pub capture: PageSet,
    /// The last collection that is done, by id; they are flushed in the order of [`crate::ObjectKey::collection`].
    pub after: Option<String>,
    /// Collections that can't be captured for now.
    #[serde(default)]
    pub troubled: Vec<Troubled>,
    /// How many collections had another name when they were captured than when they were surveyed.
    #[serde(default)]
    pub renamed: u32,
    /// How often the captures were compared with the server's names, once all were done.
    #[serde(default)]
    pub reconciled: u32,
    /// Names that led elsewhere than in the captures, each time that they were compared.
    #[serde(default)]
    pub restless: Vec<Unsettled<CollectionName>>,
    /// What to do again, if this isn't the first time.
    pub again: Option<Again>,
}

/// Something that is done again and again, because the source changes meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsettled<T> {
    /// What.
    pub what: T,
    /// How often it was so.
    pub rounds: u32,
    /// When it was so first.
    pub since: Time,
}

/// Some collections are captured and planned again, or left out after all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Again {
    /// What was captured before.
    pub capture: PageSet,
    /// What was planned before; nothing yet if there are no pages.
    pub plan: PageSet,
    /// The collections to capture again, by id. Those that weren't captured before are added.
    pub collections: BTreeSet<i64>,
    /// The collections to leave out.
    #[serde(default)]
    pub unexplained: Vec<Unexplained>,
    /// Collections that aren't what was asked for any more, by id: others have the names by now.
    #[serde(default)]
    pub superseded: BTreeSet<i64>,
    /// Collections that couldn't be captured.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// A collection that can't be captured for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Troubled {
    /// Its id.
    pub collection: i64,
    /// Since when.
    pub since: Time,
    /// When it was last tried.
    pub tried: Time,
}

/// A collection whose files don't explain its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexplained {
    /// Its id.
    pub collection: i64,
    /// What is wrong, for programs.
    pub code: FailureCode,
    /// What is odd, for people.
    pub reason: String,
}

/// How far the planning is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Planning {
    /// What was captured.
    pub capture: PageSet,
    /// The page of the capture that is being planned.
    pub page: u32,
    /// The plan so far.
    pub plan: PageSet,
    /// Its last object.
    pub after: Option<ObjectKey>,
    /// How many objects it has.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Collections of which something wasn't there any more.
    pub gone: BTreeSet<i64>,
    /// Collections whose files don't explain their rows.
    #[serde(default)]
    pub unexplained: Vec<Unexplained>,
    /// What is planned again, if this isn't the first time.
    pub again: Option<Again>,
}

/// How far the copying is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copying {
    /// What was captured.
    pub capture: PageSet,
    /// What to copy.
    pub plan: PageSet,
    /// The first page that isn't done.
    pub next: u32,
    /// Pages after it that are.
    pub ahead: BTreeSet<u32>,
    /// Of the pages that are done.
    pub done: Copied,
    /// Collections of which something wasn't there any more.
    pub gone: BTreeSet<i64>,
    /// See [`Planning::unexplained`].
    #[serde(default)]
    pub unexplained: Vec<Unexplained>,
}

/// How far the count of the bytes is that the backup owns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publishing {
    /// The first of the manifest's pages of objects that isn't counted.
    #[serde(default)]
    pub next: u32,
    /// The bytes on the pages before it.
    #[serde(default)]
    pub owned_bytes: u64,
}

/// Sums over copied pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// Objects that are stored, whoever stored them.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of those that this backup stored.
    pub added_bytes: u64,
}

impl Copied {
    /// Adds another sum.
    pub fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.added_bytes += other.added_bytes;
    }
}

impl Copying {
    /// A page is done.
    pub fn finish(&mut self, page: u32, copied: Copied) {
        self.done.add(copied);
        self.ahead.insert(page);
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
    }
}

/// How far the verification is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verifying {
    /// What was captured.
    pub capture: PageSet,
    /// What was copied.
    pub plan: PageSet,
    /// The first page that isn't compared.
    pub next: u32,
}

/// Pages of one kind, written one after the other, by one worker after the other. Each carries the fence of the worker
/// that wrote it: one that lost its lease can't spoil its successor's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageSet {
    /// How many there are.
    pub count: u32,
    /// From which page on which fence, in order.
    writers: Vec<(u32, u64)>,
}

impl PageSet {
    /// The fence that the page of this number carries.
    pub fn fence(&self, number: u32) -> u64 {
        self.writers.iter().rfind(|(first, _)| *first <= number).map_or(0, |(_, fence)| *fence)
    }

    /// Adds a page that the worker with this fence writes.
    pub fn push(&mut self, fence: u64) {
        if self.writers.last().is_none_or(|(_, last)| *last != fence) {
            self.writers.push((self.count, fence));
        }
        self.count += 1;
    }
}

/// Whether a backup may take objects over from an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reuse {
    /// From the newest that is available when the planning begins.
    Newest,
    /// From this one. It can't be removed before the job ends: both need the instance's lease.
    From(BackupId),
    /// No: there is none, or it was found to lack something. Copying puts back what is missing.
    Nothing,
}

impl BackupPhase {
    /// The phase's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flush(_) => "FLUSH",
            Self::Plan(_) => "PLAN",
            Self::Copy(_) => "COPY",
            Self::Verify(_) => "VERIFY",
            Self::Publish(_) => "PUBLISH",
            Self::Clean(_) => "CLEAN",
        }
    }
}

/// The status alone, as callers see and filter it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupStatus {
    /// See [`BackupState::Pending`].
    Pending,
    /// See [`BackupState::Running`].
    Running,
    /// See [`BackupState::Available`].
    Available,
    /// See [`BackupState::Damaged`].
    Damaged,
    /// See [`BackupState::Failed`].
    Failed,
    /// See [`BackupState::Cancelled`].
    Cancelled,
    /// See [`BackupState::Deleting`].
    Deleting,
    /// See [`BackupState::Deleted`].
    Deleted,
}

impl BackupState {
    /// The status alone.
    pub fn status(&self) -> BackupStatus {
        match self {
            Self::Pending => BackupStatus::Pending,
            Self::Running(_) => BackupStatus::Running,
            Self::Available(_) => BackupStatus::Available,
            Self::Damaged { .. } => BackupStatus::Damaged,
            Self::Failed { .. } => BackupStatus::Failed,
            Self::Cancelled { .. } => BackupStatus::Cancelled,
            Self::Deleting { .. } => BackupStatus::Deleting,
            Self::Deleted { .. } => BackupStatus::Deleted,
        }
    }

    /// The snapshot, in the states that have or had one.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Available(snapshot)
            | Self::Damaged { snapshot, .. }
            | Self::Deleting { snapshot, .. }
            | Self::Deleted { snapshot, .. } => Some(snapshot),
            Self::Pending | Self::Running(_) | Self::Failed { .. } | Self::Cancelled { .. } => None,
        }
    }
}

impl Backup {
    /// Whether its manifest protects objects from being removed.
    pub fn is_living(&self) -> bool {
        matches!(self.state, BackupState::Available(_) | BackupState::Damaged { .. })
    }

    /// Whether it holds its name: another backup of the instance can take the name of one that is over.
    pub fn holds_name(&self) -> bool {
        matches!(self.state.status(), BackupStatus::Pending | BackupStatus::Running) || self.is_living()
    }

    /// What the sweep has to do with it, if anything.
    pub fn due(&self) -> Option<Due> {
        match &self.state {
            BackupState::Available(snapshot) | BackupState::Damaged { snapshot, .. } => {
                let verify_at = match &self.verification {
                    None => snapshot.completed_at + VERIFY_EVERY,
                    Some(Verification { completed_at: Some(completed_at), .. }) => *completed_at + VERIFY_EVERY,
                    Some(under_way) => under_way.advanced_at + VERIFICATION_LOST,
                };
                let expiry = self.deletion_requested_at.or(self.expires_at);
                let kept_until = self.kept_until.filter(|_| self.deletion_requested_at.is_none());
                let free = |at| [Some(at), kept_until, self.locked_until].into_iter().flatten().max();
                let expiry = expiry.and_then(free).filter(|at| *at <= verify_at);
                Some(match expiry {
                    Some(at) => Due { kind: DueKind::Expiry, at },
                    None => Due { kind: DueKind::Verification, at: verify_at },
                })
            }
            BackupState::Deleting { since, .. } => Some(Due { kind: DueKind::Deletion, at: *since }),
            _ => None,
        }
    }
}

impl BackupRun {
    /// A run that begins now.
    pub fn begin(now: Time) -> Self {
        Self {
            started_at: now,
            slices: 0,
            replans: 0,
            unsettled_since: None,
            gone: Vec::new(),
            survey: None,
            reuse: Reuse::Newest,
            advanced_at: now,
            advanced_in: 0,
            phase: BackupPhase::Flush(Flushing::default()),
            progress: Progress::default(),
        }
    }

    /// Whether it got no further for longer than `limit`.
    pub fn is_stalled(&self, now: Time, limit: TimeDelta) -> bool {
        now - self.advanced_at > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_carries_the_fence_of_its_writer() {
        let mut pages = PageSet::default();
        for fence in [3, 3, 5, 9, 9] {
            pages.push(fence);
        }
        assert_eq!(pages.count, 5);
        assert_eq!((0..5).map(|number| pages.fence(number)).collect::<Vec<_>>(), [3, 3, 5, 9, 9]);
    }
}
