//! Who owns which stored bytes: the accounts change in the same commits as the backups' records.

use std::collections::{BTreeMap, BTreeSet};

use milvault_model::{
    Account, AccountError, Backup, BackupId, BackupState, Hour, InstanceId, Manifest, ObjectEntry, ObjectKey, Origin,
    Publishing, Snapshot, Time,
};
use milvault_ports::{Deadline, Expect, HeldError, Tenure, Versioned, Write};

use super::claims::Claims;
use crate::{
    Error, Jobs,
    engine::{
        halt::{Step, require_time},
        lease::Held,
    },
    snapshot,
};

/// Counts the bytes that a backup owns once it is published, page by page: of the objects that it names, those that no
/// other one counts.
///
/// # Errors
/// [`Halt::OutOfTime`] when the deadline comes first, with `publishing` as far as it got; [`Error::Document`] if a
/// manifest can't be read.
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
    let bucket = jobs.settings.snapshots.in_region(&backup.region)?;
    let folder = snapshot::folder(jobs.ports.objects.as_ref(), bucket, &backup.instance_id, &backup.id);
    while let Some(page) = manifest.object_pages.get(publishing.next as usize) {
        require_time(deadline, jobs.now())?;
        let mut candidates = folder.read_named::<ObjectEntry>(page).await?;
        // What was taken over from the base is in the base.
        candidates.retain(|entry| entry.origin != Origin::Earlier);
        let unclaimed = claims.unclaimed(&candidates, |_, _| {}).await?;
        let owned = candidates.iter().filter(|entry| unclaimed.contains(&entry.key));
        publishing.owned_bytes += owned.map(|entry| entry.size).sum::<u64>();
        publishing.next += 1;
    }
    Ok(())
}

/// The change that opens a published backup's account; none for one that owns nothing.
pub(crate) fn opened(backup: &Backup, snapshot: &Snapshot, owned: u64, now: Time) -> Option<Write> {
    (owned > 0).then(|| Write::Account(Box::new(account(backup, snapshot, (Hour::of(now), owned))), Expect::Absent))
}

/// The account of a finished backup that stored so many bytes in this hour.
fn account(backup: &Backup, snapshot: &Snapshot, stored: (Hour, u64)) -> Account {
    let (region, logical) = (backup.region.clone(), snapshot.totals.size_bytes);
    Account::open(region, (backup.instance_id.clone(), backup.id.clone()), backup.kind, logical, stored)
}

/// What becomes of objects of a backup that is being deleted.
pub(crate) struct Share<'e> {
    /// The bytes that it owned.
    owned: u64,
    /// Those that others own from now on.
    heirs: BTreeMap<BackupId, u64>,
    /// Those that nothing needs any more.
    pub(crate) garbage: BTreeSet<&'e ObjectKey>,
}

/// A commit takes a hundred writes: the lease, the record, the backup's own account, and those of its heirs.
const HEIRS: usize = 90;

/// Shares out as many of these objects, sorted by key, as one commit takes; gives how many those are.
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
                // An older one owned it all along.
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

/// Commits a change of a backup that is being deleted together with what it does to the accounts.
pub(crate) async fn commit(
    held: &Held,
    record: &mut Versioned<Backup>,
    state: BackupState,
    share: &Share<'_>,
) -> Result<(), Error> {
    let jobs = &held.jobs;
    let changed = Backup { state, ..record.value.clone() };
    loop {
        let now = Hour::of(jobs.now());
        let own = jobs.ports.catalog.account(&changed.region, &changed.instance_id, &changed.id).await?;
        let mut heirs = Vec::new();
        for (heir, bytes) in &share.heirs {
            heirs.push((heirs_account(jobs, &changed.instance_id, heir, now).await?, *bytes));
        }
        // What passes from one to another does so in one hour: otherwise it would be billed twice, or not at all.
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
            // The meter has an account at the same moment.
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
        // What claims objects has a snapshot.
        (None, None) => Err(Error::LeaseLost),
    }
}

/// The hour is one that is open, and no more is lost than there is.
fn imbalance(error: AccountError) -> Error {
    Error::Inconsistent(error.to_string())
}

impl Share<'_> {
    /// Of a backup that owns nothing more than what was shared out before.
    pub(crate) fn rest() -> Self {
        Self { owned: u64::MAX, heirs: BTreeMap::new(), garbage: BTreeSet::new() }
    }
}
