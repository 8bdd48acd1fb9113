//! A backup and its states.

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
    /// A caller, who gave it a name.
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
    /// The backup's id, which sorts by creation time.
    pub id: BackupId,
    /// The instance that is backed up.
    pub instance_id: InstanceId,
    /// The name, unique among the instance's pending, running and living backups.
    pub name: BackupName,
    /// Who asked for the backup.
    pub kind: BackupKind,
    /// How the data is captured.
    pub method: CaptureMethod,
    /// The region that the bytes are stored in.
    pub region: Region,
    /// The version that the server reported when the backup was requested.
    pub engine_version: String,
    /// The selected collections; empty selects all.
    pub selection: Vec<CollectionPattern>,
    /// When the backup was requested.
    pub created_at: Time,
    /// When the backup expires; `None` if it never does.
    pub expires_at: Option<Time>,
    /// The earliest time at which the sweep may delete the backup after its expiry, because it is one of the newest
    /// automatic backups.
    #[serde(default)]
    pub kept_until: Option<Time>,
    /// All of the backup's objects are locked at least until this time, in a bucket with Object Lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_locked_until: Option<Time>,
    /// The time until which some of the backup's objects may be locked, in a bucket with Object Lock. Nothing is
    /// removed before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
    /// When the caller asked to delete the backup while it was locked. It is deleted once the lock ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_requested_at: Option<Time>,
    /// When the caller asked to cancel the backup while it was pending or running.
    pub cancel_requested_at: Option<Time>,
    /// The restores that are reading the backup. It can't be deleted before they end.
    pub pins: BTreeSet<RestoreId>,
    /// The last verification since the backup became available, or the one in progress.
    #[serde(default)]
    pub verification: Option<Verification>,
    /// The present state.
    pub state: BackupState,
}

/// A comparison of a finished backup with the stored objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// When it began.
    pub started_at: Time,
    /// When it last made progress.
    pub advanced_at: Time,
    /// When it completed; `None` while it is in progress.
    pub completed_at: Option<Time>,
    /// The first of the manifest's object pages that isn't compared yet.
    pub next: u32,
    /// How many objects were compared.
    pub objects_checked: u64,
    /// Keys of missing objects and documents; the first hundred.
    pub missing: Vec<String>,
    /// Keys of objects and documents that differ from what was stored; the first hundred.
    pub changed: Vec<String>,
}

/// How often each finished backup is verified automatically.
const VERIFY_EVERY: TimeDelta = TimeDelta::days(7);

/// How long after its last progress a verification counts as interrupted: no invocation runs for more than 15 minutes.
const VERIFICATION_LOST: TimeDelta = TimeDelta::minutes(20);

/// The states of a backup, each with the data known in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupState {
    /// Accepted; no worker has begun.
    Pending,
    /// A worker is backing up, or cleaning up a backup that won't be finished.
    Running(Box<BackupRun>),
    /// Complete in storage, and verified.
    Available(Snapshot),
    /// Was available; a verification found an object missing or changed.
    #[serde(rename_all = "camelCase")]
    Damaged {
        /// The snapshot that it was when it was available.
        snapshot: Snapshot,
        /// What the verification found.
        failure: Failure,
    },
    /// Ended without a result; none of its objects are stored.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When the backup was given up.
        ended_at: Time,
        /// Why it failed.
        failure: Failure,
    },
    /// Cancelled by the caller; none of its objects are stored.
    #[serde(rename_all = "camelCase")]
    Cancelled {
        /// When work began, if it did.
        started_at: Option<Time>,
        /// When the clean-up completed.
        ended_at: Time,
    },
    /// Being deleted: no longer usable, and its objects are being removed.
    #[serde(rename_all = "camelCase")]
    Deleting {
        /// The snapshot that is being deleted.
        snapshot: Snapshot,
        /// When the deletion began.
        since: Time,
        /// The last object that is removed or already belongs to another backup. The objects after it still count as
        /// this backup's.
        #[serde(default)]
        after: Option<ObjectKey>,
    },
    /// Deleted; only the record remains.
    #[serde(rename_all = "camelCase")]
    Deleted {
        /// The snapshot that was deleted.
        snapshot: Snapshot,
        /// When the deletion completed.
        deleted_at: Time,
    },
}

/// A running backup's durable state, from which another worker can continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupRun {
    /// When the first worker began.
    pub started_at: Time,
    /// The number of invocations that have worked on the backup.
    pub slices: u32,
    /// How often part of the backup was planned again because its source changed.
    pub replans: u32,
    /// When the whole backup was first planned again.
    #[serde(default)]
    pub unsettled_since: Option<Time>,
    /// Collections, by id, whose files were gone before they were copied.
    #[serde(default)]
    pub gone: Vec<Unsettled<i64>>,
    /// Pages of the survey, which lists the collections that existed when the backup began. `None` until it is written.
    #[serde(default)]
    pub survey: Option<PageSet>,
    /// Whether the backup reuses objects of an earlier backup.
    pub reuse: Reuse,
    /// When the backup last made progress.
    pub advanced_at: Time,
    /// The invocation in which it last made progress.
    #[serde(default)]
    pub advanced_in: u32,
    /// The step to do next.
    pub phase: BackupPhase,
    /// The progress of the present phase.
    pub progress: Progress,
}

/// The steps of a backup. What a step needs from earlier steps is in its variant or in the backup's working pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupPhase {
    /// Flush every collection and write down its description.
    Flush(Flushing),
    /// Decide which objects the backup consists of, and which of them have to be copied.
    Plan(Planning),
    /// Copy the objects on the plan's pages.
    Copy(Copying),
    /// Check that every object of the plan is at the destination, then write the manifest.
    Verify(Verifying),
    /// The manifest is written: make the backup AVAILABLE.
    Publish(Publishing),
    /// Remove the stored objects, then end.
    Clean(Ending),
}

/// The progress of the FLUSH phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flushing {
    /// Pages of the collections captured so far.
    pub capture: PageSet,
    /// The id of the last collection that is done. Collections are flushed in the order of
    /// [`crate::ObjectKey::collection`].
    pub after: Option<String>,
    /// Collections that can't be captured for now.
    #[serde(default)]
    pub troubled: Vec<Troubled>,
    /// The number of collections whose name at capture differed from their name in the survey.
    #[serde(default)]
    pub renamed: u32,
    /// How often the captures were compared with the server's names after all of them were done.
    #[serde(default)]
    pub reconciled: u32,
    /// Names that led to other collections than those captured, in every comparison so far.
    #[serde(default)]
    pub restless: Vec<Unsettled<CollectionName>>,
    /// What has to be repeated, if this isn't the first pass.
    pub again: Option<Again>,
}

/// Something that has to be repeated because the source keeps changing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsettled<T> {
    /// The thing that is repeated.
    pub what: T,
    /// How often it had to be repeated.
    pub rounds: u32,
    /// When it first had to be repeated.
    pub since: Time,
}

/// A further pass, in which some collections are captured and planned again, or left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Again {
    /// The captures of the pass before.
    pub capture: PageSet,
    /// The plan of the pass before; without pages if nothing was planned yet.
    pub plan: PageSet,
    /// The collections to capture again, by id. Collections that weren't captured before are added.
    pub collections: BTreeSet<i64>,
    /// The collections to leave out.
    #[serde(default)]
    pub unexplained: Vec<Unexplained>,
    /// Collections, by id, that no longer match the selection because their names now belong to others.
    #[serde(default)]
    pub superseded: BTreeSet<i64>,
    /// Collections that couldn't be captured.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// A collection that can't be captured for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Troubled {
    /// The collection's id.
    pub collection: i64,
    /// When it first couldn't be captured.
    pub since: Time,
    /// When it was last tried.
    pub tried: Time,
}

/// A collection whose files don't account for its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexplained {
    /// The collection's id.
    pub collection: i64,
    /// What is wrong, as a code for programs.
    pub code: FailureCode,
    /// What is wrong, as a sentence for people.
    pub reason: String,
}

/// The progress of the PLAN phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Planning {
    /// The captured collections.
    pub capture: PageSet,
    /// The page of the capture that is being planned.
    pub page: u32,
    /// The plan so far.
    pub plan: PageSet,
    /// The plan's last object.
    pub after: Option<ObjectKey>,
    /// The number of objects in the plan.
    pub objects: u64,
    /// The bytes of the objects in the plan.
    pub bytes: u64,
    /// Collections some of whose objects no longer existed.
    pub gone: BTreeSet<i64>,
    /// Collections whose files don't account for their rows.
    #[serde(default)]
    pub unexplained: Vec<Unexplained>,
    /// What is planned again, if this isn't the first pass.
    pub again: Option<Again>,
}

/// The progress of the COPY phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copying {
    /// The captured collections.
    pub capture: PageSet,
    /// The plan of the objects to copy.
    pub plan: PageSet,
    /// The first page that isn't done.
    pub next: u32,
    /// Pages after `next` that are done.
    pub ahead: BTreeSet<u32>,
    /// Sums over the pages that are done.
    pub done: Copied,
    /// Collections some of whose objects no longer existed.
    pub gone: BTreeSet<i64>,
    /// See [`Planning::unexplained`].
    #[serde(default)]
    pub unexplained: Vec<Unexplained>,
}

/// The progress of the PUBLISH phase, which counts the bytes that the backup owns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publishing {
    /// The first of the manifest's object pages that isn't counted.
    #[serde(default)]
    pub next: u32,
    /// The bytes owned on the pages before it.
    #[serde(default)]
    pub owned_bytes: u64,
}

/// Sums over copied pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// Stored objects, whichever backup stored them.
    pub objects: u64,
    /// The bytes of these objects.
    pub bytes: u64,
    /// The bytes of the objects that this backup stored.
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
    /// Marks a page as done.
    pub fn finish(&mut self, page: u32, copied: Copied) {
        self.done.add(copied);
        self.ahead.insert(page);
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
    }
}

/// The progress of the VERIFY phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verifying {
    /// The captured collections.
    pub capture: PageSet,
    /// The plan of the copied objects.
    pub plan: PageSet,
    /// The first page that isn't compared.
    pub next: u32,
}

/// Pages of one kind, written one after another by successive workers. Each page carries the fence of the worker that
/// wrote it, so a worker that lost its lease can't overwrite its successor's pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageSet {
    /// The number of pages.
    pub count: u32,
    /// For each writer, the number of its first page and its fence, in order.
    writers: Vec<(u32, u64)>,
}

impl PageSet {
    /// The fence that the page with this number carries.
    pub fn fence(&self, number: u32) -> u64 {
        self.writers.iter().rfind(|(first, _)| *first <= number).map_or(0, |(_, fence)| *fence)
    }

    /// Adds a page that is written by the worker with this fence.
    pub fn push(&mut self, fence: u64) {
        if self.writers.last().is_none_or(|(_, last)| *last != fence) {
            self.writers.push((self.count, fence));
        }
        self.count += 1;
    }
}

/// Whether a backup may reuse objects of an earlier backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reuse {
    /// Reuse objects of the newest backup that is available when the planning begins.
    Newest,
    /// Reuse objects of this backup. It can't be deleted before the job ends, because both need the instance's lease.
    From(BackupId),
    /// Reuse nothing: there is no earlier backup, or it lacks an object. Copying restores the missing objects.
    Nothing,
}

impl BackupPhase {
    /// The phase's name in the API.
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

/// The status without its data, as callers see it and filter by it.
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
    /// The status of this state.
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
    /// Whether the backup's manifest protects objects from removal.
    pub fn is_living(&self) -> bool {
        matches!(self.state, BackupState::Available(_) | BackupState::Damaged { .. })
    }

    /// Whether the backup holds its name. A name is free again when its backup has ended without a result or was
    /// deleted.
    pub fn holds_name(&self) -> bool {
        matches!(self.state.status(), BackupStatus::Pending | BackupStatus::Running) || self.is_living()
    }

    /// When the sweep has to handle the backup, and what for; `None` if never.
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

    /// Whether the run has made no progress for longer than `limit`.
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
