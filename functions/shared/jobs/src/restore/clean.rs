//! CLEAN: removes staged objects, and releases or drops previous collections. Later, removes what a finished restore
//! still keeps.

use std::pin::pin;

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{
    CollectionName, CollectionRestore, CollectionStage, Grant, Previous, Restore, RestoreState, Time,
};
use milvault_ports::{Bucket, Expect, HeldError, Milvus, MilvusError, Tenure, Versioned, Write, pages};

use super::{grants, ledger::Concurrency, messages::list_names, names::has_id, shared::Shared, work::Work};
use crate::{
    Error, Jobs,
    engine::{
        halt::Step,
        lease::Held,
        slice::{self, SliceEnd},
    },
    snapshot::layout,
};

/// How many collections are cleared concurrently.
const IN_FLIGHT: usize = 16;

/// How much longer a due previous collection is kept while no other collection has its original name.
const EXTENSION: TimeDelta = TimeDelta::hours(24);

/// Selects grants in all databases.
const ANY_DATABASE: &str = "*";

/// Cleans up after the swap, and completes the restore.
pub(crate) async fn clean(work: &mut Work<'_>) -> Step {
    let own = work.own_bucket()?;
    let is_removed = work.remove_given_up().await?;
    work.held.drain(work.deadline).await?;
    // Imports into a given-up collection that isn't removed may still read the staged objects.
    if is_removed {
        remove_staged(work.jobs, &own, &work.restore).await?;
    }
    work.for_each_line(Concurrency::Many, async |shared, line| retire_previous(shared, line).await).await?;
    restore_access_control(work).await?;
    let leftovers_since = (!is_removed).then(|| work.jobs.now());
    Ok(complete(work, leftovers_since).await?)
}

/// Restores the users, roles and grants that no longer exist, if the restore is of everything; missing grants of roles
/// that exist are restored too. A failure is a warning, because the restore's data is in place.
async fn restore_access_control(work: &mut Work<'_>) -> Step {
    let captured = work.manifest().await?.access_control;
    let Some(captured) = captured.filter(|_| work.restore.selection.is_empty()) else { return Ok(()) };
    let shared = work.shared().await?;
    let mut restored = match shared.milvus.restore_access_control(&captured).await {
        Ok(restored) => restored,
        Err(MilvusError::Refused(reason) | MilvusError::Unauthenticated(reason) | MilvusError::Forbidden(reason)) => {
            work.warn(format!("the backup's users, roles and grants were not restored: {reason}"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let captured = shared.milvus.captured_grants(&captured)?;
    let known = grants::read_grants(&shared, ANY_DATABASE).await?;
    let mut given_up = Vec::new();
    work.read_lines(|line| given_up.extend(line.failure.is_some().then_some(line.target))).await?;
    let of_known_roles = captured.iter().filter(|grant| {
        known.roles.contains(&grant.role) && !given_up.iter().any(|collection| grant.is_on(collection))
    });
    let given = grants::grant_missing(&shared, &known, of_known_roles, ANY_DATABASE).await?;
    if !given.is_empty() {
        restored.push(format!("grants of {}", list_names(given.into_iter().map(Grant::to_string).collect())));
    }
    work.take_warnings(&shared);
    if !restored.is_empty() {
        work.warn(format!("restored from the backup: {}", restored.join(", ")));
    }
    Ok(())
}

/// Completes the restore; `leftovers_since` is set if the sweep has to finish the cleanup.
pub(crate) async fn complete(work: &mut Work<'_>, leftovers_since: Option<Time>) -> Result<(), Error> {
    let now = work.jobs.now();
    let previous = match (work.restore.keep_previous_hours, leftovers_since) {
        (0, None) => Previous::Gone,
        (hours, _) => Previous::Kept { until: now + TimeDelta::hours(i64::from(hours)) },
    };
    let started_at = work.run.started_at;
    work.end(RestoreState::Completed { started_at, completed_at: now, previous, leftovers_since }).await
}

/// Drops a line's previous collection, or releases it: while it is kept, it takes no memory.
async fn retire_previous(shared: &Shared<'_>, line: CollectionRestore) -> Step {
    let CollectionStage::Swapped(swap) = &line.stage else { return Ok(()) };
    if line.failure.is_some() {
        return Ok(());
    }
    let (Some(live_id), previous) = (swap.live_id, shared.previous(&line)) else { return Ok(()) };
    if has_id(shared.milvus.as_ref(), &previous, live_id).await? {
        if shared.restore.keep_previous_hours == 0 {
            shared.watch(discard(shared.milvus.as_ref(), &previous, &line.target).await)?;
        } else {
            shared.watch(shared.milvus.release(&previous).await)?;
        }
    }
    Ok(())
}

/// Drops one of the restore's own collections. If it has an alias, a user gave it the alias while it had the name that
/// `successor` has now, or during its swap: the alias moves to `successor`. From 2.4 on, Milvus refuses to drop a
/// collection that has an alias.
pub(crate) async fn discard(
    milvus: &dyn Milvus,
    own: &CollectionName,
    successor: &CollectionName,
) -> Result<(), MilvusError> {
    let aliases = match milvus.collection_id(own).await? {
        Some(_) => match milvus.describe(own).await {
            Err(MilvusError::NoCollection(_)) => Vec::new(),
            found => found?.aliases,
        },
        None => Vec::new(),
    };
    for alias in aliases {
        match milvus.collection_id(successor).await? {
            Some(_) => milvus.point_alias(&alias, successor).await?,
            None => milvus.drop_alias(&own.database, &alias).await?,
        }
    }
    milvus.drop_collection(own).await
}

/// Deletes the restore's staged objects.
pub(crate) async fn remove_staged(jobs: &Jobs, bucket: &Bucket, restore: &Restore) -> Result<(), Error> {
    let staging = layout::staging(&restore.id);
    loop {
        let listing = jobs.ports.objects.list(bucket, &staging, None).await?;
        let keys: Vec<String> = listing.items.into_iter().map(|object| object.key).collect();
        if !keys.is_empty() {
            jobs.ports.objects.delete(bucket, &keys).await?;
        }
        if listing.next.is_none() {
            return Ok(());
        }
    }
}

/// Removes what a finished restore still keeps, when it is due: the previous collections of a completed restore, or
/// what a failed one could not remove.
pub(crate) async fn remove_leftovers(jobs: &Jobs, restore: Restore) -> Result<SliceEnd, Error> {
    let now = jobs.now();
    if restore.due().is_none_or(|due| due.at > now) {
        return Ok(SliceEnd::Ended);
    }
    let instance_id = restore.instance_id.clone();
    // While the lease is held, a rollback, which makes the restore a job, can't begin.
    let remove = async |held: &Held| remove_under_lease(held, &restore, now).await;
    let removed = slice::run_without_job(jobs, &instance_id, remove);
    Ok(if removed.await?.is_some() { SliceEnd::Ended } else { SliceEnd::Busy })
}

async fn remove_under_lease(held: &Held, restore: &Restore, now: Time) -> Result<(), Error> {
    let jobs = &held.jobs;
    // The record is read again, because it may have changed before the lease was taken.
    let Versioned { value: mut record, version } = jobs.restore(&restore.instance_id, &restore.id).await?;
    if record.due().is_none_or(|due| due.at > now) {
        return Ok(());
    }
    let instance = jobs.instance(&restore.instance_id).await?.value;
    let milvus = jobs.ports.milvus.connect(&instance).await?;
    let mut is_extended = false;
    let mut ledger = pin!(pages(100, |page| jobs.ports.catalog.ledger(&restore.id, page)));
    while let Some(lines) = ledger.try_next().await? {
        let cleared = lines.iter().map(|line| clear(milvus.as_ref(), &record, line, now));
        let cleared: Vec<Cleared> = stream::iter(cleared).buffer_unordered(IN_FLIGHT).try_collect().await?;
        is_extended |= cleared.contains(&Cleared::Extended);
    }
    // After the collections, because an import into one may still read the staged objects.
    if let Ok((own, _)) = Bucket::of_data(&instance) {
        remove_staged(jobs, &own, restore).await?;
    }
    match &mut record.state {
        RestoreState::Completed { previous, leftovers_since, .. } => {
            *leftovers_since = None;
            match previous {
                Previous::Kept { until } if *until <= now && is_extended => *until = now + EXTENSION,
                Previous::Kept { until } if *until <= now => *previous = Previous::Gone,
                Previous::Kept { .. } | Previous::Gone => {}
            }
        }
        RestoreState::Failed { leftovers_since, .. } | RestoreState::Cancelled { leftovers_since, .. } => {
            *leftovers_since = None;
        }
        RestoreState::Pending | RestoreState::Running(_) | RestoreState::RolledBack { .. } => return Ok(()),
    }
    let put = Write::Restore(Box::new(record), Expect::Version(version));
    match held.commit(Tenure::Keep, [put]).await {
        Err(HeldError::Conflict(_)) => Err(Error::LeaseLost),
        committed => Ok(committed?),
    }
}

/// The outcome of clearing a line.
#[derive(Debug, PartialEq, Eq)]
enum Cleared {
    /// Nothing is left that is due.
    Done,
    /// The previous collection is kept longer, because no other collection has its original name.
    Extended,
}

/// Drops a line's collections that have the restore's own names. The previous collection is dropped only if it is the
/// one that the swap moved; the collection that was swapped in is never dropped.
async fn clear(milvus: &dyn Milvus, restore: &Restore, line: &CollectionRestore, now: Time) -> Result<Cleared, Error> {
    let rebuilt = milvault_model::rebuilt_name(&line.target, &restore.id);
    let CollectionStage::Swapped(swap) = &line.stage else {
        // A collection that was given up during its swap is no longer needed once its name has a collection.
        let is_unneeded = match line.stage {
            CollectionStage::Swapping(_) => {
                line.failure.is_some() && milvus.collection_id(&line.target).await?.is_some()
            }
            _ => true,
        };
        if is_unneeded {
            discard(milvus, &rebuilt, &line.target).await?;
        }
        return Ok(Cleared::Done);
    };
    // If the restore didn't complete, the collection that a swap moved is the user's live data.
    let RestoreState::Completed { previous: Previous::Kept { until }, .. } = &restore.state else {
        return Ok(Cleared::Done);
    };
    let previous = milvault_model::previous_name(&line.target, &restore.id);
    let Some(live_id) = swap.live_id else { return Ok(Cleared::Done) };
    if !has_id(milvus, &previous, live_id).await? {
        return Ok(Cleared::Done);
    }
    if *until > now {
        milvus.release(&previous).await?;
        return Ok(Cleared::Done);
    }
    if milvus.collection_id(&line.target).await?.is_none() {
        tracing::warn!(
            collection = %line.target, %previous,
            "the previous collection is kept longer, because no collection has its name"
        );
        return Ok(Cleared::Extended);
    }
    discard(milvus, &previous, &line.target).await?;
    Ok(Cleared::Done)
}
