//! Object Lock: in a bucket that has it, no object of a backup can be destroyed before the backup may be deleted.
//!
//! A bucket locks each new object for a period. Objects that a backup reuses were locked when an earlier backup stored
//! them, and may have to be locked for longer. Locks are renewed for the whole period at once, so that not every backup
//! renews them: with nightly backups, one in every `period` minus retention nights does.

use std::pin::pin;

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{Backup, ObjectEntry, Origin, Reuse, Time};
use milvault_ports::{Bucket, LockMode, object_pages};

use super::work::Work;
use crate::{Error, Jobs};

/// How far ahead a backup without an expiry, or one kept past its expiry, is locked: its weekly verification renews the
/// locks. A backup that is to expire isn't locked ahead, because nothing can be removed before its lock ends.
const AHEAD: TimeDelta = TimeDelta::days(8);

/// Returns whether a finished backup is locked, and some of its locks may end before its next verification.
pub(crate) fn ends_soon(backup: &Backup, now: Time) -> bool {
    backup.all_locked_until.is_some_and(|until| until < now + AHEAD)
}

/// How a backup has to be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectLock {
    mode: LockMode,
    /// How long the bucket locks new objects.
    period: TimeDelta,
    /// Locks that end before this time are renewed.
    needed: Time,
    /// The end of a renewed lock.
    renew_until: Time,
}

impl ObjectLock {
    /// Returns the lock for a backup, or its verification, that began at this time. The time is fixed, so that all
    /// invocations decide alike. `None` in a bucket without Object Lock.
    ///
    /// # Errors
    /// If the bucket's configuration can't be read.
    pub(crate) async fn for_backup(
        jobs: &Jobs,
        bucket: &Bucket,
        backup: &Backup,
        began: Time,
    ) -> Result<Option<Self>, Error> {
        let locking = jobs.ports.objects.locking(bucket).await?;
        Ok(locking.map(|locking| Self::new(locking.mode, locking.period, backup.expires_at, began)))
    }

    fn new(mode: LockMode, period: TimeDelta, expires_at: Option<Time>, began: Time) -> Self {
        let needed = expires_at.filter(|expires_at| *expires_at > began).unwrap_or(began + AHEAD);
        Self { mode, period, needed, renew_until: needed.max(began + period) }
    }

    /// Returns whether a lock with this known end has to be renewed.
    pub(crate) fn needs_renewal(&self, known: Option<Time>) -> bool {
        known.is_none_or(|known| known < self.needed)
    }

    /// The lock's end after any renewal.
    pub(crate) fn end(&self, known: Option<Time>) -> Time {
        known.filter(|_| !self.needs_renewal(known)).unwrap_or(self.renew_until)
    }

    /// The latest end of the locks of objects that were stored before `now`, or are renewed.
    pub(crate) fn locked_until(&self, now: Time) -> Time {
        self.renew_until.max(now + self.period)
    }

    /// Renews the locks of these objects.
    ///
    /// # Errors
    /// If a lock can't be renewed; some of the others may be renewed.
    pub(crate) async fn renew(
        &self,
        jobs: &Jobs,
        bucket: &Bucket,
        keys: impl IntoIterator<Item = String>,
    ) -> Result<(), Error> {
        let objects = jobs.ports.objects.as_ref();
        let renewals = keys.into_iter().map(async |key| objects.lock(bucket, &key, self.mode, self.renew_until).await);
        let renewals = stream::iter(renewals).buffer_unordered(jobs.settings.copies_in_flight);
        Ok(renewals.try_collect().await?)
    }

    /// Renews the locks of all objects below a prefix.
    ///
    /// # Errors
    /// As for [`ObjectLock::renew`].
    pub(crate) async fn renew_all(&self, jobs: &Jobs, bucket: &Bucket, prefix: &str) -> Result<(), Error> {
        let mut listing = pin!(object_pages(jobs.ports.objects.as_ref(), bucket, prefix));
        while let Some(objects) = listing.try_next().await? {
            self.renew(jobs, bucket, objects.into_iter().map(|object| object.key)).await?;
        }
        Ok(())
    }
}

/// The locks of a running backup's objects, by the backup that stored them.
pub(crate) struct Locks {
    lock: ObjectLock,
    /// The earliest end of the locks of objects that this backup stored.
    own: Time,
    /// The known end of the locks of objects that are reused from its base.
    earlier: Option<Time>,
}

impl Locks {
    /// Returns the locks of a running backup; `None` in a bucket without Object Lock.
    ///
    /// # Errors
    /// If the bucket's configuration or the catalog can't be read.
    pub(crate) async fn for_work(work: &Work<'_>) -> Result<Option<Self>, Error> {
        let began = work.run.started_at;
        let Some(lock) = ObjectLock::for_backup(work.jobs, work.bucket, &work.backup, began).await? else {
            return Ok(None);
        };
        let base = match &work.run.reuse {
            Reuse::From(base) => work.jobs.ports.catalog.backup(&work.instance.id, base).await?,
            Reuse::Newest | Reuse::Nothing => None,
        };
        let earlier = base.and_then(|base| base.value.all_locked_until);
        Ok(Some(Self { lock, own: began + lock.period, earlier }))
    }

    /// The earliest end of all locks, once [`Locks::renew`] was called with all entries.
    pub(crate) fn until(&self) -> Time {
        let all = [Some(self.own), self.earlier, None];
        all.map(|known| self.lock.end(known)).into_iter().min().unwrap_or(self.own)
    }

    /// Renews the locks of those entries that need it.
    ///
    /// # Errors
    /// If a lock can't be renewed.
    pub(crate) async fn renew(&self, work: &Work<'_>, entries: &[ObjectEntry]) -> Result<(), Error> {
        let known = |entry: &ObjectEntry| match entry.origin {
            Origin::Own => Some(self.own),
            Origin::Earlier => self.earlier,
            // The backup that stored it isn't known.
            Origin::AlreadyStored => None,
        };
        let data = work.data_prefix();
        let ending = entries.iter().filter(|entry| self.lock.needs_renewal(known(entry)));
        let keys = ending.map(|entry| format!("{data}{}", entry.key.stored()));
        self.lock.renew(work.jobs, work.bucket, keys).await
    }

    /// Renews the locks of the backup's documents if they need it.
    ///
    /// # Errors
    /// If a lock can't be renewed.
    pub(crate) async fn renew_documents(&self, work: &Work<'_>) -> Result<(), Error> {
        if !self.lock.needs_renewal(Some(self.own)) {
            return Ok(());
        }
        self.lock.renew_all(work.jobs, work.bucket, &work.folder().path("")).await
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn at(days: i64) -> Time {
        DateTime::UNIX_EPOCH + TimeDelta::days(days)
    }

    fn lock(period: i64, expires: Option<i64>) -> ObjectLock {
        ObjectLock::new(LockMode::Governance, TimeDelta::days(period), expires.map(at), at(100))
    }

    #[test]
    fn a_lock_reaches_the_expiry_or_a_week_ahead_and_is_renewed_for_the_whole_period() {
        for (period, expires, needed, renew_until) in [
            (30, Some(103), 103, 130),
            (30, Some(120), 120, 130),
            (30, Some(400), 400, 400),
            (30, None, 108, 130),
            // Kept past its expiry.
            (30, Some(90), 108, 130),
            // A period shorter than the time between verifications.
            (1, Some(103), 103, 103),
            (1, None, 108, 108),
        ] {
            let lock = lock(period, expires);
            assert_eq!((lock.needed, lock.renew_until), (at(needed), at(renew_until)), "{period} {expires:?}");
            assert!(
                lock.needs_renewal(None)
                    && lock.needs_renewal(Some(at(needed - 1)))
                    && !lock.needs_renewal(Some(at(needed)))
            );
            assert_eq!(lock.end(Some(at(needed - 1))), at(renew_until));
            assert_eq!(lock.end(Some(at(needed + 1))), at(needed + 1));
        }
    }
}
