//! CLEAN: staged objects away, previous collections released or dropped; later, what a finished restore still keeps.

use chrono::TimeDelta;
use milvault_model::{CollectionRestore, CollectionStage, Previous, Restore, RestoreState, Time};

use super::work::{Shared, Work};
use crate::{
    Error, Jobs, SliceEnd, layout,
    ports::{Bucket, CatalogError, Expect, Milvus, PageRequest, Versioned, Write},
    slice::{self, Held, Step},
};

/// The swap is done: tidy up and complete.
pub(crate) async fn clean(work: &mut Work<'_>) -> Step {
    let own = work.own_bucket()?;
    work.held.settle(work.deadline).await?;
    remove_staged(work.jobs, &own, &work.restore).await?;
    work.each_line(async |shared, line| retire_previous(shared, line).await).await?;
    let now = work.jobs.ports.clock.now();
    let previous = match work.restore.keep_previous_hours {
        0 => Previous::Gone,
        hours => Previous::Kept { until: now + TimeDelta::hours(i64::from(hours)) },
    };
    let state = RestoreState::Completed { started_at: work.run.started_at, completed_at: now, previous };
    Ok(work.end(state).await?)
}

/// A previous collection takes no memory while it is kept.
async fn retire_previous(shared: &Shared<'_>, line: CollectionRestore) -> Step {
    let CollectionStage::Swapped(swap) = &line.stage else { return Ok(()) };
    let previous = shared.previous(&line);
    if swap.live_id.is_some() && shared.milvus.collection_id(&previous).await? == swap.live_id {
        if shared.restore.keep_previous_hours == 0 {
            shared.milvus.drop_collection(&previous).await?;
        } else {
            shared.milvus.release(&previous).await?;
        }
    }
    Ok(())
}

pub(crate) async fn remove_staged(jobs: &Jobs, bucket: &Bucket, restore: &Restore) -> Result<(), Error> {
    let staging = layout::staging(&restore.id);
    loop {
        let listing = jobs.ports.objects.list(bucket, &staging, None).await?;
        let keys: Vec<String> = listing.objects.into_iter().map(|object| object.key).collect();
        if !keys.is_empty() {
            jobs.ports.objects.delete(bucket, &keys).await?;
        }
        if !listing.more {
            return Ok(());
        }
    }
}

/// Removes what a restore that is over still keeps, once its time has come: the previous collections of a completed
/// one, or what a failed one couldn't remove.
pub(crate) async fn leftovers(jobs: &Jobs, restore: Restore) -> Result<SliceEnd, Error> {
    let now = jobs.ports.clock.now();
    if restore.due().is_none_or(|due| due.at > now) {
        return Ok(SliceEnd::Ended);
    }
    let instance_id = restore.instance_id.clone();
    // The lease keeps a rollback, which makes the restore a job, from beginning meanwhile.
    let removed = slice::run_without_job(jobs, &instance_id, async |held| remove_leftovers(held, &restore, now).await);
    Ok(if removed.await?.is_some() { SliceEnd::Ended } else { SliceEnd::Busy })
}

async fn remove_leftovers(held: &Held, restore: &Restore, now: Time) -> Result<(), Error> {
    let Held { jobs, lease, .. } = held;
    // As it is under the lease, not as it was before.
    let Versioned { value: mut record, version } = super::find(jobs, &restore.instance_id, &restore.id).await?;
    if record.due().is_none_or(|due| due.at > now) {
        return Ok(());
    }
    let instance = jobs.ports.catalog.instance(&restore.instance_id).await?;
    let instance = instance.ok_or_else(|| Error::InstanceNotFound(restore.instance_id.clone()))?.value;
    let milvus = jobs.ports.milvus.connect(&instance).await?;
    if let Some(storage) = &instance.storage {
        let own = Bucket { region: instance.region.clone(), name: storage.bucket.clone() };
        remove_staged(jobs, &own, restore).await?;
    }
    let mut after = None;
    loop {
        let page = jobs.ports.catalog.ledger(&restore.id, PageRequest { after, limit: 100 }).await?;
        for line in &page.items {
            drop_own(milvus.as_ref(), restore, line).await?;
        }
        after = page.items.last().map(super::work::line_key);
        if !page.more {
            break;
        }
    }
    match &mut record.state {
        RestoreState::Completed { previous, .. } => *previous = Previous::Gone,
        RestoreState::Failed { leftovers_since, .. } | RestoreState::Cancelled { leftovers_since, .. } => {
            *leftovers_since = None;
        }
        RestoreState::Pending | RestoreState::Running(_) | RestoreState::RolledBack { .. } => return Ok(()),
    }
    let put = Write::Restore(Box::new(record), Expect::Version(version));
    match jobs.ports.catalog.commit(vec![Write::HoldLease(lease.clone()), put]).await {
        Ok(()) => Ok(()),
        Err(CatalogError::Conflict(_)) => Err(Error::LeaseLost),
        Err(error) => Err(error.into()),
    }
}

/// Drops the collection that a line keeps under a name of the restore's own. Only such names, and of a previous
/// collection only the very one that was moved there.
async fn drop_own(milvus: &dyn Milvus, restore: &Restore, line: &CollectionRestore) -> Result<(), Error> {
    let rebuilt = milvault_model::rebuilt_name(&line.target, &restore.id);
    milvus.drop_collection(&rebuilt).await?;
    // Of a restore that didn't complete, what a swap moved away is the user's live data.
    let completed = matches!(restore.state, RestoreState::Completed { .. });
    if let CollectionStage::Swapped(swap) = &line.stage
        && completed
    {
        let previous = milvault_model::previous_name(&line.target, &restore.id);
        if swap.live_id.is_some() && milvus.collection_id(&previous).await? == swap.live_id {
            milvus.drop_collection(&previous).await?;
        }
    }
    Ok(())
}
