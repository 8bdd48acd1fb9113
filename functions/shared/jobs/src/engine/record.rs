//! A job's record in the catalog, as the worker that holds the lease writes it.
//!
//! While a worker holds the lease, only one other write changes the record: a caller's request to cancel the job.

use std::ops::{Deref, DerefMut};

use chrono::TimeDelta;
use milvault_model::{
    Backup, BackupId, BackupRun, Failure, FailureCode, InstanceId, Notice, Restore, RestoreId, RestoreRun, Time,
};
use milvault_ports::{Expect, HeldError, Tenure, Versioned, Write};

use super::lease::Held;
use crate::{Error, Jobs};

/// The most invocations that a job may take, even if it makes progress.
const MAX_SLICES: u32 = 20_000;

/// The invocations without progress after which a job fails, if ten times the stall limit has passed too: the fault
/// that ends its workers is then taken to be permanent.
const MAX_IDLE_SLICES: u32 = 50;

/// The record of a kind of job.
pub(crate) trait Record: Clone {
    /// The type of the record's ID.
    type Id: Clone;

    /// Returns the record's ID.
    fn id(&self) -> &Self::Id;

    /// Reads the record.
    async fn find(jobs: &Jobs, instance: &InstanceId, id: &Self::Id) -> Result<Versioned<Self>, Error>;

    /// Returns the write that stores the record.
    fn put(self, expect: Expect) -> Write;

    /// Returns when a caller asked to cancel the job.
    fn cancel_requested_at(&mut self) -> &mut Option<Time>;

    /// Returns the event that reports to users how the job ended.
    fn end_notice(&self, now: Time) -> Option<Notice>;
}

impl Record for Backup {
    type Id = BackupId;

    fn id(&self) -> &BackupId {
        &self.id
    }

    async fn find(jobs: &Jobs, instance: &InstanceId, id: &BackupId) -> Result<Versioned<Self>, Error> {
        jobs.backup(instance, id).await
    }

    fn put(self, expect: Expect) -> Write {
        Write::Backup(Box::new(self), expect)
    }

    fn cancel_requested_at(&mut self) -> &mut Option<Time> {
        &mut self.cancel_requested_at
    }

    fn end_notice(&self, now: Time) -> Option<Notice> {
        Notice::backup_ended(self, now)
    }
}

impl Record for Restore {
    type Id = RestoreId;

    fn id(&self) -> &RestoreId {
        &self.id
    }

    async fn find(jobs: &Jobs, instance: &InstanceId, id: &RestoreId) -> Result<Versioned<Self>, Error> {
        jobs.restore(instance, id).await
    }

    fn put(self, expect: Expect) -> Write {
        Write::Restore(Box::new(self), expect)
    }

    fn cancel_requested_at(&mut self) -> &mut Option<Time> {
        &mut self.cancel_requested_at
    }

    fn end_notice(&self, now: Time) -> Option<Notice> {
        Notice::restore_ended(self, now)
    }
}

/// The outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// The write is durable.
    Written,
    /// The record changed since it was read, or another condition didn't hold: nothing was written.
    Conflict,
}

/// The record of the job that a worker runs.
pub(crate) struct JobRecord<'a, R> {
    held: &'a Held,
    value: R,
    version: u64,
}

impl<R> Deref for JobRecord<'_, R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.value
    }
}

impl<R> DerefMut for JobRecord<'_, R> {
    fn deref_mut(&mut self) -> &mut R {
        &mut self.value
    }
}

impl<'a, R: Record> JobRecord<'a, R> {
    /// Reads the record.
    pub(crate) async fn read(held: &'a Held, id: &R::Id) -> Result<Self, Error> {
        let Versioned { value, version } = R::find(&held.jobs, &held.lease.instance_id, id).await?;
        Ok(Self { held, value, version })
    }

    /// Reads from the catalog whether a caller has asked to cancel the job.
    pub(crate) async fn reload(&mut self) -> Result<(), Error> {
        let mut stored = R::find(&self.held.jobs, &self.held.lease.instance_id, self.value.id()).await?;
        self.version = stored.version;
        *self.value.cancel_requested_at() = *stored.value.cancel_requested_at();
        Ok(())
    }

    /// Writes the record as it is now, and keeps a caller's request to cancel.
    pub(crate) async fn write(&mut self) -> Result<(), Error> {
        while self.write_if_unchanged().await? == WriteOutcome::Conflict {
            self.reload().await?;
        }
        Ok(())
    }

    /// Writes the record, unless it changed since it was read.
    pub(crate) async fn write_if_unchanged(&mut self) -> Result<WriteOutcome, Error> {
        let outcome = self.commit(Tenure::Keep, self.value.clone(), Vec::new()).await?;
        self.version += u64::from(outcome == WriteOutcome::Written);
        Ok(outcome)
    }

    /// Ends the job: commits the record in its final state together with the writes in `more`, and releases the lease.
    pub(crate) async fn end(&mut self, ended: R, more: Vec<Write>) -> Result<WriteOutcome, Error> {
        let notice = ended.end_notice(self.held.jobs.now());
        let more = notice.map(|notice| Write::Notice(Box::new(notice))).into_iter().chain(more).collect();
        self.commit(Tenure::End, ended, more).await
    }

    async fn commit(&self, tenure: Tenure, value: R, more: Vec<Write>) -> Result<WriteOutcome, Error> {
        let writes = std::iter::once(value.put(Expect::Version(self.version))).chain(more);
        match self.held.commit(tenure, writes).await {
            Ok(()) => Ok(WriteOutcome::Written),
            Err(HeldError::Conflict(_)) => Ok(WriteOutcome::Conflict),
            Err(error) => Err(error.into()),
        }
    }
}

/// The progress of a job's run, for any kind of job.
pub(crate) trait Run {
    /// Returns how many invocations have worked on the job.
    fn slices(&self) -> u32;

    /// Returns the number of the last invocation that made progress.
    fn advanced_in(&self) -> u32;

    /// Returns whether the run has made no progress for longer than `limit`.
    fn is_stalled(&self, now: Time, limit: TimeDelta) -> bool;

    /// Returns whether many invocations in a row made no progress.
    fn is_idle(&self, now: Time, stall: TimeDelta) -> bool {
        self.slices() - self.advanced_in() > MAX_IDLE_SLICES && self.is_stalled(now, stall * 10)
    }

    /// Returns the failure of a job that must not take another invocation.
    fn exhausted(&self, now: Time, stall: TimeDelta) -> Option<Failure> {
        let message = match () {
            () if self.slices() > MAX_SLICES => format!("the job is not over after {MAX_SLICES} invocations"),
            () if self.is_idle(now, stall) => format!("the job made no progress in {MAX_IDLE_SLICES} invocations"),
            () => return None,
        };
        Some(Failure::new(FailureCode::Stalled, message))
    }
}

impl Run for BackupRun {
    fn slices(&self) -> u32 {
        self.slices
    }

    fn advanced_in(&self) -> u32 {
        self.advanced_in
    }

    fn is_stalled(&self, now: Time, limit: TimeDelta) -> bool {
        self.is_stalled(now, limit)
    }
}

impl Run for RestoreRun {
    fn slices(&self) -> u32 {
        self.slices
    }

    fn advanced_in(&self) -> u32 {
        self.advanced_in
    }

    fn is_stalled(&self, now: Time, limit: TimeDelta) -> bool {
        self.is_stalled(now, limit)
    }
}
