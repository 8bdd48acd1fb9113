//! Ownership of stored bytes: the accounts change in the same commits as the backups' records.

use std::collections::{BTreeMap, BTreeSet};

use milvault_model::{
    Account, AccountError, Backup, BackupId, BackupState, Hour, InstanceId, Manifest, ObjectEntry, ObjectKey, Origin,
    Publishing, Snapshot, Time,
};
use milvault_ports::{Deadline, Expect, HeldError, Tenure, Versioned, Write};

use super::removable_objects::Claims;
use crate::{
    Error, Jobs,
    engine::{
        halt::{Step, require_time},
        lease::Held,
    },
};

/// Counts, page by page, the bytes that a backup owns once it is published: the objects that it names and that no other
/// backup claims.
///
/// # Errors
/// `Halt::OutOfTime` if the deadline comes first, with the progress in `publishing`; [`Error::Document`] if a manifest
/// can't be read.
pub(crate) async fn count(
    jobs: &Jobs,
    backup: &Backup,
    manifest: &Manifest,
    publishing: &mut Publishing,
    deadline: Deadline,
) -> Step {
    let claims = Claims::read(jobs, backup).await?;
    if claims.is_empty() {
        publishing.owned_bytes = manifest.totals.size_bytes;
        return Ok(());
    }
    let folder = jobs.snapshot_of(backup)?;
    while let Some(page) = manifest.object_pages.get(publishing.next as usize) {
        require_time(deadline, jobs.now())?;
        let mut candidates = folder.read_named::<ObjectEntry>(page).await?;
        // Objects taken over from the base are claimed by the base.
        candidates.retain(|entry| entry.origin != Origin::Earlier);
        let unclaimed = claims.unclaimed(&candidates, |_, _| {}).await?;
        let owned = candidates.iter().filter(|entry| unclaimed.contains(&entry.key));
        publishing.owned_bytes += owned.map(|entry| entry.size).sum::<u64>();
        publishing.next += 1;
    }
    Ok(())
}

/// Makes the write that opens a published backup's account; `None` if the backup owns nothing.
pub(crate) fn open_account(backup: &Backup, snapshot: &Snapshot, owned: u64, now: Time) -> Option<Write> {
    (owned > 0)
        .then(|| Write::Account(Box::new(account(backup, snapshot, (Hour::containing(now), owned))), Expect::Absent))
}

/// Makes the account of a finished backup that stored this number of bytes in this hour.
fn account(backup: &Backup, snapshot: &Snapshot, stored: (Hour, u64)) -> Account {
    let (region, logical) = (backup.region.clone(), snapshot.totals.size_bytes);
    Account::open(region, (backup.instance_id.clone(), backup.id.clone()), backup.kind, logical, stored)
}

/// Objects of a backup that is being deleted, divided into garbage and those that other backups inherit.
pub(crate) struct Share<'e> {
    /// The bytes that the backup owned.
    owned: u64,
    /// The bytes that other backups own from now on.
    heirs: BTreeMap<BackupId, u64>,
    /// The objects that no backup needs any more.
    pub(crate) garbage: BTreeSet<&'e ObjectKey>,
}

/// The maximum number of heirs in one commit. A commit takes a hundred writes: the lease, the record, the backup's own
/// account, and those of its heirs.
const HEIRS: usize = 90;

/// Divides as many of these objects, sorted by key, as one commit can handle, and returns their number.
pub(crate) async fn share<'e>(
    backup: &Backup,
    claims: &Claims<'_>,
    entries: &'e [ObjectEntry],
) -> Result<(Share<'e>, usize), Error> {
    let mut count = entries.len();
    loop {
        let some = &entries[..count];
        let (mut owned, mut heirs) = (0, BTreeMap::new());
        let garbage = claims
            .unclaimed(some, |claimer, entry| {
                // An object that an older backup claims was never owned by this one.
                if *claimer > backup.id {
                    owned += entry.size;
                    *heirs.entry(claimer.clone()).or_default() += entry.size;
                }
            })
            .await?;
        owned += some.iter().filter(|entry| garbage.contains(&entry.key)).map(|entry| entry.size).sum::<u64>();
        if heirs.len() <= HEIRS || count == 1 {
            return Ok((Share { owned, heirs, garbage }, count));
        }
        count /= 2;
    }
}

/// Commits a new state of a backup that is being deleted, together with the changes of the accounts.
pub(crate) async fn commit(
    held: &Held,
    record: &mut Versioned<Backup>,
    state: BackupState,
    share: &Share<'_>,
) -> Result<(), Error> {
    let jobs = &held.jobs;
    let changed = Backup { state, ..record.value.clone() };
    loop {
        let now = Hour::containing(jobs.now());
        let own = jobs.ports.catalog.account(&changed.region, &changed.instance_id, &changed.id).await?;
        let mut heirs = Vec::new();
        for (heir, bytes) in &share.heirs {
            heirs.push((heirs_account(jobs, &changed.instance_id, heir, now).await?, *bytes));
        }
        // Bytes pass from one account to another within one hour. Otherwise they would be billed twice, or not at all.
        let accounts = own.iter().map(|own| &own.value).chain(heirs.iter().map(|((account, _), _)| account));
        let hour = accounts.map(Account::open_hour).fold(now, Hour::max);
        let mut writes = vec![Write::Backup(Box::new(changed.clone()), Expect::Version(record.version))];
        if let Some(Versioned { value: mut account, version }) = own {
            account.lose(hour, share.owned.min(account.bytes())).map_err(imbalance)?;
            writes.push(Write::Account(Box::new(account), Expect::Version(version)));
        }
        for ((mut account, expect), bytes) in heirs {
            account.inherit(hour, bytes).map_err(imbalance)?;
            writes.push(Write::Account(Box::new(account), expect));
        }
        match held.commit(Tenure::Keep, writes).await {
            Ok(()) => {
                *record = Versioned { value: changed, version: record.version + 1 };
                return Ok(());
            }
            Err(HeldError::Conflict(0)) => return Err(Error::LeaseLost),
            // The meter changed an account at the same moment.
            Err(HeldError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn heirs_account(
    jobs: &Jobs,
    instance: &InstanceId,
    heir: &BackupId,
    now: Hour,
) -> Result<(Account, Expect), Error> {
    let backup = jobs.backup(instance, heir).await?.value;
    let found = jobs.ports.catalog.account(&backup.region, instance, heir).await?;
    match (found, backup.state.snapshot()) {
        (Some(found), _) => Ok((found.value, Expect::Version(found.version))),
        (None, Some(snapshot)) => Ok((account(&backup, snapshot, (now, 0)), Expect::Absent)),
        // A backup that claims objects has a snapshot.
        (None, None) => Err(Error::LeaseLost),
    }
}

/// Makes the error for a change that an account refuses. It can't occur: the hour is open, and the account never loses
/// more bytes than it has.
fn imbalance(error: AccountError) -> Error {
    Error::Inconsistent(error.to_string())
}

impl Share<'_> {
    /// Returns the share that takes all remaining bytes from the account, once all objects have been divided.
    pub(crate) fn remainder() -> Self {
        Self { owned: u64::MAX, heirs: BTreeMap::new(), garbage: BTreeSet::new() }
    }
}
