//! CLEAN: staged objects away, previous collections released or dropped; later, what a finished restore still keeps.

use std::pin::pin;

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{
    CollectionName, CollectionRestore, CollectionStage, Grant, Previous, Restore, RestoreState, Time,
};
use milvault_ports::{Bucket, Expect, HeldError, Milvus, MilvusError, Tenure, Versioned, Write, pages};

use super::{grants, ledger::AtOnce, names::is_there, reasons::named, shared::Shared, work::Work};
use crate::{
    Error, Jobs,
    engine::{
        halt::Step,
        lease::Held,
        slice::{self, SliceEnd},
    },
    snapshot::layout,
};

/// Collections cleared at once.
const IN_FLIGHT: usize = 16;

/// How much longer a previous collection is kept than it was meant to, while nothing else has its name.
const KEPT_ON: TimeDelta = TimeDelta::hours(24);

/// Asks for grants in all databases.
const ANY_DATABASE: &str = "*";

/// The swap is done: tidy up and complete.
pub(crate) async fn clean(work: &mut Work<'_>) -> Step {
    let own = work.own_bucket()?;
    let is_rid = work.is_rid_of_given_up().await?;
    work.held.drain(work.deadline).await?;
    // Imports of what was given up may still read it.
    if is_rid {
        remove_staged(work.jobs, &own, &work.restore).await?;
    }
    work.each_line(AtOnce::Many, async |shared, line| retire_previous(shared, line).await).await?;
    restore_access_control(work).await?;
    let leftovers_since = (!is_rid).then(|| work.jobs.now());
    Ok(complete(work, leftovers_since).await?)
}

/// With everything, users, roles and grants come back that don't exist any more, grants of roles that exist too. What
/// can't be brought back doesn't undo a restore whose data is in place.
async fn restore_access_control(work: &mut Work<'_>) -> Step {
    let captured = work.manifest().await?.access_control;
    let Some(captured) = captured.filter(|_| work.restore.selection.is_empty()) else { return Ok(()) };
    let shared = work.shared().await?;
    let mut back = match shared.milvus.restore_access_control(&captured).await {
        Ok(back) => back,
        Err(MilvusError::Refused(reason) | MilvusError::Unauthenticated(reason) | MilvusError::Forbidden(reason)) => {
            work.warn(format!("users, roles and grants of the backup were not brought back: {reason}"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let captured = shared.milvus.captured_grants(&captured)?;
    let known = grants::known(&shared, ANY_DATABASE).await?;
    let mut given_up = Vec::new();
    work.read_lines(|line| given_up.extend(line.failure.is_some().then_some(line.target))).await?;
    let of_known_roles = captured.iter().filter(|grant| {
        known.roles.contains(&grant.role) && !given_up.iter().any(|collection| grant.is_on(collection))
    });
    let given = grants::give(&shared, &known, of_known_roles, ANY_DATABASE).await?;
    if !given.is_empty() {
        back.push(format!("grants of {}", named(given.into_iter().map(Grant::to_string).collect())));
    }
    work.take_warnings(&shared);
    if !back.is_empty() {
        work.warn(format!("brought back, as in the backup: {}", back.join(", ")));
    }
    Ok(())
}

/// Completes the restore, whatever there still is to tidy up since then.
pub(crate) async fn complete(work: &mut Work<'_>, leftovers_since: Option<Time>) -> Result<(), Error> {
    let now = work.jobs.now();
    let previous = match (work.restore.keep_previous_hours, leftovers_since) {
        (0, None) => Previous::Gone,
        (hours, _) => Previous::Kept { until: now + TimeDelta::hours(i64::from(hours)) },
    };
    let started_at = work.run.started_at;
    work.end(RestoreState::Completed { started_at, completed_at: now, previous, leftovers_since }).await
}

/// A previous collection takes no memory while it is kept.
async fn retire_previous(shared: &Shared<'_>, line: CollectionRestore) -> Step {
    let CollectionStage::Swapped(swap) = &line.stage else { return Ok(()) };
    if line.failure.is_some() {
        return Ok(());
    }
    let (Some(live_id), previous) = (swap.live_id, shared.previous(&line)) else { return Ok(()) };
    if is_there(shared.milvus.as_ref(), &previous, live_id).await? {
        if shared.restore.keep_previous_hours == 0 {
            shared.sure(discard(shared.milvus.as_ref(), &previous, &line.target).await)?;
        } else {
            shared.sure(shared.milvus.release(&previous).await)?;
        }
    }
    Ok(())
}

/// Drops a collection of the restore's own. An alias that it has was given to it by a user, under the name that `heir`
/// has now or as it was being swapped: it goes there. From 2.4 on, Milvus refuses to drop a collection that has one.
pub(crate) async fn discard(
    milvus: &dyn Milvus,
    own: &CollectionName,
    heir: &CollectionName,
) -> Result<(), MilvusError> {
    let aliases = match milvus.collection_id(own).await? {
        Some(_) => match milvus.describe(own).await {
            Err(MilvusError::NoCollection(_)) => Vec::new(),
            found => found?.aliases,
        },
        None => Vec::new(),
    };
    for alias in aliases {
        match milvus.collection_id(heir).await? {
            Some(_) => milvus.point_alias(&alias, heir).await?,
            None => milvus.drop_alias(&own.database, &alias).await?,
        }
    }
    milvus.drop_collection(own).await
}

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

/// Removes what a restore that is over still keeps, once its time has come: the previous collections of a completed
/// one, or what a failed one couldn't remove.
pub(crate) async fn leftovers(jobs: &Jobs, restore: Restore) -> Result<SliceEnd, Error> {
    let now = jobs.now();
    if restore.due().is_none_or(|due| due.at > now) {
        return Ok(SliceEnd::Ended);
    }
    let instance_id = restore.instance_id.clone();
    // The lease keeps a rollback, which makes the restore a job, from beginning meanwhile.
    let removed = slice::run_without_job(jobs, &instance_id, async |held| remove_leftovers(held, &restore, now).await);
    Ok(if removed.await?.is_some() { SliceEnd::Ended } else { SliceEnd::Busy })
}

async fn remove_leftovers(held: &Held, restore: &Restore, now: Time) -> Result<(), Error> {
    let jobs = &held.jobs;
    // As it is under the lease, not as it was before.
    let Versioned { value: mut record, version } = jobs.restore(&restore.instance_id, &restore.id).await?;
    if record.due().is_none_or(|due| due.at > now) {
        return Ok(());
    }
    let instance = jobs.instance(&restore.instance_id).await?.value;
    let milvus = jobs.ports.milvus.connect(&instance).await?;
    let mut kept_on = false;
    let mut ledger = pin!(pages(100, |page| jobs.ports.catalog.ledger(&restore.id, page)));
    while let Some(lines) = ledger.try_next().await? {
        let cleared = lines.iter().map(|line| clear(milvus.as_ref(), &record, line, now));
        let cleared: Vec<Cleared> = stream::iter(cleared).buffer_unordered(IN_FLIGHT).try_collect().await?;
        kept_on |= cleared.contains(&Cleared::KeptOn);
    }
    // After the collections: an import into one may still read it.
    if let Some(storage) = &instance.storage {
        let own = Bucket { region: instance.region.clone(), name: storage.bucket.clone() };
        remove_staged(jobs, &own, restore).await?;
    }
    match &mut record.state {
        RestoreState::Completed { previous, leftovers_since, .. } => {
            *leftovers_since = None;
            match previous {
                Previous::Kept { until } if *until <= now && kept_on => *until = now + KEPT_ON,
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

/// What became of what a line keeps.
#[derive(Debug, PartialEq, Eq)]
enum Cleared {
    /// Nothing is left that is due.
    Yes,
    /// The previous collection stays: nothing else has its data's name.
    KeptOn,
}

/// Drops what a line keeps under names of the restore's own: only such names, of the previous collection only the very
/// one that was moved there, and what was swapped in never.
async fn clear(milvus: &dyn Milvus, restore: &Restore, line: &CollectionRestore, now: Time) -> Result<Cleared, Error> {
    let rebuilt = milvault_model::rebuilt_name(&line.target, &restore.id);
    let CollectionStage::Swapped(swap) = &line.stage else {
        // What was given up in the middle of its swap is nobody's, once its name has a collection.
        let is_nobodys = match line.stage {
            CollectionStage::Swapping(_) => {
                line.failure.is_some() && milvus.collection_id(&line.target).await?.is_some()
            }
            _ => true,
        };
        if is_nobodys {
            discard(milvus, &rebuilt, &line.target).await?;
        }
        return Ok(Cleared::Yes);
    };
    // Of a restore that didn't complete, what a swap moved away is the user's live data.
    let RestoreState::Completed { previous: Previous::Kept { until }, .. } = &restore.state else {
        return Ok(Cleared::Yes);
    };
    let previous = milvault_model::previous_name(&line.target, &restore.id);
    let Some(live_id) = swap.live_id else { return Ok(Cleared::Yes) };
    if !is_there(milvus, &previous, live_id).await? {
        return Ok(Cleared::Yes);
    }
    if *until > now {
        milvus.release(&previous).await?;
        return Ok(Cleared::Yes);
    }
    if milvus.collection_id(&line.target).await?.is_none() {
        tracing::warn!(collection = %line.target, %previous, "kept on: nothing has its name any more");
        return Ok(Cleared::KeptOn);
    }
    discard(milvus, &previous, &line.target).await?;
    Ok(Cleared::Yes)
}
