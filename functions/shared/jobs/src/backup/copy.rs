//! COPY: one page of the plan after the other, by server-side copies.

use futures::{StreamExt, stream};
use milvault_model::{BackupPhase, FailureCode, ObjectEntry, Progress};

use super::work::Work;
use crate::{
    layout::PageKind,
    pages::OBJECTS_PER_PAGE,
    ports::{CopyOutcome, CopyRequest},
    slice::{SHOW_PROGRESS, Step, fatal},
};

/// How far the copying is.
pub(crate) struct Copying {
    pub(crate) plan: u64,
    pub(crate) pages: u32,
    pub(crate) next: u32,
    pub(crate) done_bytes: u64,
    pub(crate) added_bytes: u64,
}

pub(crate) async fn copy_page(work: &mut Work<'_>, at: Copying) -> Step {
    let Copying { plan, pages, next, done_bytes, mut added_bytes } = at;
    if next == pages {
        return Ok(work.enter(BackupPhase::Verify { plan, pages, added_bytes }).await?);
    }
    let folder = work.folder();
    let entries: Vec<ObjectEntry> = folder.read(&PageKind::Plan.key(plan, next)).await?;
    let (source, storage) = work.source()?;
    let data = work.data_prefix();

    let jobs = work.jobs;
    let copies = entries.into_iter().map(|mut entry| {
        let (source, data, root) = (&source, &data, &storage.root_path);
        async move {
            if entry.etag.is_some() {
                return Ok((entry, CopyOutcome::AlreadyThere { etag: String::new() }));
            }
            let request = CopyRequest {
                from: source,
                from_key: &format!("{root}/{}", entry.relative_key()),
                from_etag: &entry.source_etag,
                size: entry.size,
                to: &jobs.settings.snapshot_bucket,
                to_key: &format!("{data}{}", entry.key),
            };
            let outcome = jobs.ports.objects.copy(request).await?;
            if let CopyOutcome::Copied { etag } | CopyOutcome::AlreadyThere { etag } = &outcome {
                entry.etag = Some(etag.clone());
            }
            Ok::<_, crate::Error>((entry, outcome))
        }
    });
    let mut copies = stream::iter(copies).buffered(jobs.settings.copies_in_flight);
    let mut copied = Vec::new();
    // From the checkpoint, not from what was shown last: a page that is begun again is counted from its beginning.
    let mut progress = Progress {
        objects_done: u64::from(next) * OBJECTS_PER_PAGE as u64,
        bytes_done: done_bytes,
        ..work.run.progress
    };
    let mut shown_at = jobs.ports.clock.now();
    while let Some(result) = copies.next().await {
        let (entry, outcome) = result?;
        match outcome {
            // Also counts what an earlier try of this page has stored: no other backup refers to it yet.
            CopyOutcome::Copied { .. } => added_bytes += entry.size,
            CopyOutcome::AlreadyThere { etag } if !etag.is_empty() => added_bytes += entry.size,
            CopyOutcome::AlreadyThere { .. } => {}
            CopyOutcome::SourceGone => {
                let reason = format!("{} is gone from the source", entry.relative_key());
                drop(copies);
                return work.replan(reason).await;
            }
            CopyOutcome::Occupied => {
                return Err(fatal(FailureCode::SnapshotDamaged, format!("another object is stored as {}", entry.key)));
            }
        }
        progress.objects_done += 1;
        progress.bytes_done += entry.size;
        copied.push(entry);
        let now = jobs.ports.clock.now();
        if now - shown_at > SHOW_PROGRESS {
            shown_at = now;
            work.run.progress = progress;
            work.checkpoint().await?;
        }
    }
    drop(copies);
    folder.write(PageKind::Objects.key(plan, next), &copied).await?;
    work.run.phase = BackupPhase::Copy { plan, pages, next: next + 1, done_bytes: progress.bytes_done, added_bytes };
    work.run.progress = progress;
    Ok(work.checkpoint().await?)
}
