//! A job's record in the catalog, as the worker that has the lease writes it.
//!
//! While a worker has the lease, only one thing changes the record beside it: a caller asks the job to stop.

use std::ops::{Deref, DerefMut};

use chrono::TimeDelta;
use milvault_model::{
    Backup, BackupId, BackupRun, Failure, FailureCode, InstanceId, Notice, Restore, RestoreId, RestoreRun, Time,
};
use milvault_ports::{Expect, HeldError, Tenure, Versioned, Write};

use super::lease::Held;
use crate::{Error, Jobs};

/// The most invocations that one job may take, whatever progress it makes.
const MAX_SLICES: u32 = 20_000;

/// After so many invocations without progress, and ten times the stall limit, a job fails: whatever keeps ending its
/// workers will go on to.
const MAX_IDLE_SLICES: u32 = 50;

/// A record of a kind of job.
pub(crate) trait Record: Clone {
    /// The kind's ids.
    type Id: Clone;

    /// The record's id.
    fn id(&self) -> &Self::Id;

    /// Reads the record.
    async fn find(jobs: &Jobs, instance: &InstanceId, id: &Self::Id) -> Result<Versioned<Self>, Error>;

    /// The write that puts it.
    fn put(self, expect: Expect) -> Write;

    /// When a caller asked the job to stop.
    fn cancel_requested_at(&mut self) -> &mut Option<Time>;

    /// The event that tells users how the job ended.
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

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is durable.
    Yes,
    /// The record changed since it was read, or another condition didn't hold: nothing was written.
    Changed,
}

/// The record of the job that a worker works on.
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

    /// Takes over whether a caller has asked the job to stop.
    pub(crate) async fn reload(&mut self) -> Result<(), Error> {
        let mut stored = R::find(&self.held.jobs, &self.held.lease.instance_id, self.value.id()).await?;
        self.version = stored.version;
        *self.value.cancel_requested_at() = *stored.value.cancel_requested_at();
        Ok(())
    }

    /// Writes the record as it is now; a caller's request to stop is taken over.
    pub(crate) async fn write(&mut self) -> Result<(), Error> {
        while self.write_if_unchanged().await? == Written::Changed {
            self.reload().await?;
        }
        Ok(())
    }

    /// Writes the record, unless it changed since it was read.
    pub(crate) async fn write_if_unchanged(&mut self) -> Result<Written, Error> {
        let written = self.commit(Tenure::Keep, self.value.clone(), Vec::new()).await?;
        self.version += u64::from(written == Written::Yes);
        Ok(written)
    }

    /// Ends the job: writes the record in its last state with `more` that belongs to it, and gives up the lease.
    pub(crate) async fn end(&mut self, ended: R, more: Vec<Write>) -> Result<Written, Error> {
        let notice = ended.end_notice(self.held.jobs.now());
        let more = notice.map(|notice| Write::Notice(Box::new(notice))).into_iter().chain(more).collect();
        self.commit(Tenure::End, ended, more).await
    }

    async fn commit(&self, tenure: Tenure, value: R, more: Vec<Write>) -> Result<Written, Error> {
        let writes = std::iter::once(value.put(Expect::Version(self.version))).chain(more);
        match self.held.commit(tenure, writes).await {
            Ok(()) => Ok(Written::Yes),
            Err(HeldError::Conflict(_)) => Ok(Written::Changed),
            Err(error) => Err(error.into()),
        }
    }
}

/// How a job's run has gone, whatever the kind of job.
pub(crate) trait Run {
    /// How many invocations have worked on it.
    fn slices(&self) -> u32;

    /// In which of them it got further last.
    fn advanced_in(&self) -> u32;

    /// Whether it got no further for longer than `limit`.
    fn is_stalled(&self, now: Time, limit: TimeDelta) -> bool;

    /// Whether many invocations in a row got it no further.
    fn is_idle(&self, now: Time, stall: TimeDelta) -> bool {
        self.slices() - self.advanced_in() > MAX_IDLE_SLICES && self.is_stalled(now, stall * 10)
    }

    /// Why it must not take another invocation.
    fn exhausted(&self, now: Time, stall: TimeDelta) -> Option<Failure> {
        let message = match () {
            () if self.slices() > MAX_SLICES => format!("the job isn't over after {MAX_SLICES} invocations"),
            () if self.is_idle(now, stall) => format!("the job got no further in {MAX_IDLE_SLICES} invocations"),
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
