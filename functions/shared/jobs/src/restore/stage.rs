//! STAGE: the ledger, then the snapshot's objects into the instance's own bucket, by server-side copies.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use milvault_model::{
    CollectionCapture, CollectionRestore, CollectionStage, FailureCode, ObjectEntry, PageRef, RestorePhase,
};

use super::{create::targets, work::Work};
use crate::{
    Error, layout,
    ports::{CatalogError, CopyOutcome, CopyRequest, Write},
    slice::{Halt, Step, fatal},
    throttle::Throttle,
};

/// Lines per commit; a commit has room for a hundred writes.
const LINES_PER_COMMIT: usize = 50;

/// Writes one line per collection to restore. Repeating it writes the same lines.
pub(crate) async fn write_ledger(work: &mut Work<'_>) -> Step {
    let manifest = work.manifest().await?;
    let folder = work.snapshot();
    let mut number = 0;
    for (capture_page, page) in (0..).zip(&manifest.collection_pages) {
        let captures: Vec<CollectionCapture> = folder.read_named(page).await?;
        let targets = targets(captures.iter().map(|c| &c.name), &work.restore.selection, &work.restore.rename);
        let mut lines = Vec::with_capacity(targets.len());
        for (source, target) in targets {
            let Some(capture) = captures.iter().find(|capture| capture.name == source) else { continue };
            lines.push(CollectionRestore {
                number,
                source,
                source_id: capture.id,
                target,
                capture_page,
                loaded_before: capture.loaded.clone(),
                rows_expected: capture.rows.rows(),
                rows_found: None,
                attempts: 0,
                unavailable_ms: None,
                stage: CollectionStage::Waiting,
            });
            number += 1;
        }
        for batch in lines.chunks(LINES_PER_COMMIT) {
            let mut writes = vec![Write::HoldLease(work.lease.clone())];
            let line = |line: &CollectionRestore| Write::LedgerLine(work.restore.id.clone(), Box::new(line.clone()));
            writes.extend(batch.iter().map(line));
            match work.jobs.ports.catalog.commit(writes).await {
                Ok(()) => {}
                Err(CatalogError::Conflict(_)) => return Err(Error::LeaseLost.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    work.restore.collections = number;
    Ok(work.enter(RestorePhase::Stage { next: Some(0) }).await?)
}

/// Copies the wanted objects of one page of the manifest.
pub(crate) async fn stage_page(work: &mut Work<'_>, next: u32) -> Step {
    let manifest = work.manifest().await?;
    let Some(page) = manifest.object_pages.get(next as usize) else {
        return Ok(work.enter(RestorePhase::Build).await?);
    };
    let wanted = wanted(work).await?;
    let entries = match holds_any(page, &wanted) {
        true => work.snapshot().read_named::<ObjectEntry>(page).await?,
        false => Vec::new(),
    };
    let own = work.own_bucket()?;
    let staging = layout::staging(&work.restore.id);
    let data = layout::data(&work.restore.source_instance_id);

    let throttle = Throttle::new(work.jobs.settings.copies_in_flight);
    let copies = entries.into_iter().filter(|entry| wanted.contains(entry.key.collection())).map(|entry| {
        let (jobs, deadline, restore) = (work.jobs, work.deadline, &work.restore.id);
        let (own, staging, data, throttle) = (&own, &staging, &data, &throttle);
        async move {
            let etag = entry.etag.as_deref().unwrap_or_default();
            let request = CopyRequest {
                from: &jobs.settings.snapshot_bucket,
                from_key: &format!("{data}{}", entry.key.stored()),
                from_etag: etag,
                size: entry.size,
                to: own,
                to_key: &format!("{staging}{}", entry.key.source()),
                stored_by: restore.as_str(),
            };
            let outcome = throttle.copy(jobs, request, || deadline.is_over(jobs.ports.clock.now())).await?;
            Ok::<_, Error>((entry, outcome))
        }
    });
    let mut copies = stream::iter(copies).buffer_unordered(work.jobs.settings.copies_in_flight);
    let mut in_time = true;
    let mut progress = work.run.progress;
    progress.objects_total = manifest.totals.objects;
    progress.bytes_total = manifest.totals.size_bytes;
    while let Some(result) = copies.next().await {
        let (entry, outcome) = result?;
        match outcome {
            None => in_time = false,
            Some(CopyOutcome::Copied { .. } | CopyOutcome::AlreadyThere { .. }) => {
                progress.objects_done += 1;
                progress.bytes_done += entry.size;
            }
            Some(CopyOutcome::SourceGone) => {
                let message = format!("the backup's object {} is missing or changed", entry.key);
                return Err(fatal(FailureCode::SnapshotDamaged, message));
            }
            Some(CopyOutcome::Occupied) => {
                let message = format!("another object is in the way of {staging}{}", entry.key.source());
                return Err(fatal(FailureCode::StorageUnreachable, message));
            }
        }
    }
    drop(copies);
    if !in_time {
        // What is copied is found to be there already by the next slice.
        return Err(Halt::OutOfTime);
    }
    work.run.phase = RestorePhase::Stage { next: Some(next + 1) };
    work.run.progress = progress;
    Ok(work.checkpoint().await?)
}

/// The source ids of the collections in the ledger.
async fn wanted(work: &Work<'_>) -> Result<BTreeSet<String>, Halt> {
    let mut wanted = BTreeSet::new();
    let mut after = None;
    loop {
        let page = work.lines(after).await?;
        after = page.items.last().map(super::work::line_key);
        wanted.extend(page.items.iter().map(|line| line.source_id.to_string()));
        if !page.more {
            return Ok(wanted);
        }
    }
}

/// Whether a page, which is sorted by collection, may hold objects of one of these.
fn holds_any(page: &PageRef, collections: &BTreeSet<String>) -> bool {
    let collection = |key: &str| key.split('/').next().unwrap_or_default().to_owned();
    collections.range(collection(&page.first)..=collection(&page.last)).next().is_some()
}
