//! Object Lock: in a bucket that has it, nothing of a backup can be destroyed before the backup may go.
//!
//! A bucket locks each new object for a period. What a backup takes over from earlier ones was locked when they stored it,
//! and may have to be locked for longer. So that this isn't done with every backup, it is done for the whole period at
//! once: of backups every night, one in `period` less what they are kept for does it.

use std::pin::pin;

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{Backup, ObjectEntry, Origin, Reuse, Time};
use milvault_ports::{Bucket, LockMode, object_pages};

use super::work::Work;
use crate::{Error, Jobs};

/// A backup without an expiry, or kept on past it, is locked for so long ahead: its weekly verification renews that. One
/// that is to expire isn't: what is locked for longer stays for longer.
const AHEAD: TimeDelta = TimeDelta::days(8);

/// Whether a finished backup is locked, but no longer than until its next verification at the latest.
pub(crate) fn ends_soon(backup: &Backup, now: Time) -> bool {
    backup.all_locked_until.is_some_and(|until| until < now + AHEAD)
}

/// How a backup has to be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectLock {
    mode: LockMode,
    /// For how long the bucket locks what is new.
    period: TimeDelta,
    /// What is locked until then needn't be renewed.
    needed: Time,
    /// Until when what has to be is renewed.
    wanted: Time,
}

impl ObjectLock {
    /// For what began at a time, which decides the same in all of its invocations; `None` in a bucket that locks nothing.
    ///
    /// # Errors
    /// When the bucket can't be asked.
    pub(crate) async fn of(jobs: &Jobs, bucket: &Bucket, backup: &Backup, began: Time) -> Result<Option<Self>, Error> {
        let locking = jobs.ports.objects.locking(bucket).await?;
        Ok(locking.map(|locking| Self::new(locking.mode, locking.period, backup.expires_at, began)))
    }

    fn new(mode: LockMode, period: TimeDelta, expires_at: Option<Time>, began: Time) -> Self {
        let needed = expires_at.filter(|expires_at| *expires_at > began).unwrap_or(began + AHEAD);
        Self { mode, period, needed, wanted: needed.max(began + period) }
    }

    /// Whether what is known to be locked until then has to be renewed.
    pub(crate) fn is_short(&self, known: Option<Time>) -> bool {
        known.is_none_or(|known| known < self.needed)
    }

    /// Until when that is locked once it is renewed if it has to be.
    pub(crate) fn renewed(&self, known: Option<Time>) -> Time {
        known.filter(|_| !self.is_short(known)).unwrap_or(self.wanted)
    }

    /// Until when something may be locked of what was stored by now, or is renewed.
    pub(crate) fn locked_until(&self, now: Time) -> Time {
        self.wanted.max(now + self.period)
    }

    /// Renews the locks of these.
    ///
    /// # Errors
    /// When one can't be; those before it are.
    pub(crate) async fn renew(
        &self,
        jobs: &Jobs,
        bucket: &Bucket,
        keys: impl IntoIterator<Item = String>,
    ) -> Result<(), Error> {
        let objects = jobs.ports.objects.as_ref();
        let renewals = keys.into_iter().map(async |key| objects.lock(bucket, &key, self.mode, self.wanted).await);
        let renewals = stream::iter(renewals).buffer_unordered(jobs.settings.copies_in_flight);
        Ok(renewals.try_collect().await?)
    }

    /// Renews the locks of everything below a prefix.
    ///
    /// # Errors
    /// Likewise.
    pub(crate) async fn renew_all(&self, jobs: &Jobs, bucket: &Bucket, prefix: &str) -> Result<(), Error> {
        let mut listing = pin!(object_pages(jobs.ports.objects.as_ref(), bucket, prefix));
        while let Some(objects) = listing.try_next().await? {
            self.renew(jobs, bucket, objects.into_iter().map(|object| object.key)).await?;
        }
        Ok(())
    }
}

/// How what a running backup names is locked, by who stored it.
pub(crate) struct Locks {
    lock: ObjectLock,
    /// What it has stored itself.
    own: Time,
    /// What it takes over from its base.
    earlier: Option<Time>,
}

impl Locks {
    /// `None` in a bucket that locks nothing.
    ///
    /// # Errors
    /// When the bucket or the catalog can't be asked.
    pub(crate) async fn of(work: &Work<'_>) -> Result<Option<Self>, Error> {
        let began = work.run.started_at;
        let Some(lock) = ObjectLock::of(work.jobs, work.bucket, &work.backup, began).await? else { return Ok(None) };
        let base = match &work.run.reuse {
            Reuse::From(base) => work.jobs.ports.catalog.backup(&work.instance.id, base).await?,
            Reuse::Newest | Reuse::Nothing => None,
        };
        let earlier = base.and_then(|base| base.value.all_locked_until);
        Ok(Some(Self { lock, own: began + lock.period, earlier }))
    }

    /// Until when everything is locked at least, once [`Locks::renew`] has seen all of it.
    pub(crate) fn until(&self) -> Time {
        let all = [Some(self.own), self.earlier, None];
        all.map(|known| self.lock.renewed(known)).into_iter().min().unwrap_or(self.own)
    }

    /// Renews what of these entries has to be.
    ///
    /// # Errors
    /// When a lock can't be renewed.
    pub(crate) async fn renew(&self, work: &Work<'_>, entries: &[ObjectEntry]) -> Result<(), Error> {
        let known = |entry: &ObjectEntry| match entry.origin {
            Origin::Own => Some(self.own),
            Origin::Earlier => self.earlier,
            // Whose it is, isn't known.
            Origin::AlreadyStored => None,
        };
        let data = work.data_prefix();
        let short = entries.iter().filter(|entry| self.lock.is_short(known(entry)));
        let keys = short.map(|entry| format!("{data}{}", entry.key.stored()));
        self.lock.renew(work.jobs, work.bucket, keys).await
    }

    /// Renews the documents, which are the backup's own, if they have to be.
    ///
    /// # Errors
    /// Likewise.
    pub(crate) async fn renew_documents(&self, work: &Work<'_>) -> Result<(), Error> {
        if !self.lock.is_short(Some(self.own)) {
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
        for (period, expires, needed, wanted) in [
            (30, Some(103), 103, 130),
            (30, Some(120), 120, 130),
            (30, Some(400), 400, 400),
            (30, None, 108, 130),
            // Kept on past its expiry.
            (30, Some(90), 108, 130),
            // Shorter than from one verification to the next.
            (1, Some(103), 103, 103),
            (1, None, 108, 108),
        ] {
            let lock = lock(period, expires);
            assert_eq!((lock.needed, lock.wanted), (at(needed), at(wanted)), "{period} {expires:?}");
            assert!(lock.is_short(None) && lock.is_short(Some(at(needed - 1))) && !lock.is_short(Some(at(needed))));
            assert_eq!(lock.renewed(Some(at(needed - 1))), at(wanted));
            assert_eq!(lock.renewed(Some(at(needed + 1))), at(needed + 1));
        }
    }
}
