//! PLAN: which objects the backup consists of, and which of them are stored already.

use std::collections::{HashMap, HashSet};

use milvault_model::{BackupPhase, BackupState, CollectionCapture, InstanceId, ObjectEntry, Reuse, object_key};

use super::work::Work;
use crate::{
    Error, Jobs,
    layout::PageKind,
    pages::OBJECTS_PER_PAGE,
    ports::{Bucket, PageRequest},
    slice::Step,
    snapshot::{self, ObjectReader},
};

pub(crate) async fn plan(work: &mut Work<'_>, capture: u64) -> Step {
    let (bucket, source) = work.source()?;
    let root = format!("{}/", source.root_path);
    let folder = work.folder();
    let fence = work.lease.fence;

    let mut entries = Vec::new();
    for number in 0.. {
        let key = PageKind::Capture.key(capture, number);
        let Some(mut page) = folder.read_if_there::<CollectionCapture>(&key).await? else { break };
        for collection in &mut page {
            let before = entries.len();
            if let Err(missing) = objects_of(work.jobs, &bucket, &root, collection, &mut entries).await? {
                return work.replan(missing).await;
            }
            collection.size_bytes = entries[before..].iter().map(|entry| entry.size).sum();
        }
        folder.write(PageKind::Collections.key(fence, number), &page).await?;
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    if work.run.reuse == Reuse::Newest {
        reuse(work, &mut entries).await?;
    }

    let mut pages = 0;
    for page in entries.chunks(OBJECTS_PER_PAGE) {
        folder.write(PageKind::Plan.key(fence, pages), page).await?;
        pages += 1;
    }
    work.enter(BackupPhase::Copy { plan: fence, pages, next: 0, done_bytes: 0, added_bytes: 0 }).await?;
    work.run.progress.objects_total = entries.len() as u64;
    work.run.progress.bytes_total = entries.iter().map(|entry| entry.size).sum();
    Ok(work.checkpoint().await?)
}

/// Adds the insert and delete logs of a collection's captured segments; the inner error says what isn't there.
async fn objects_of(
    jobs: &Jobs,
    bucket: &Bucket,
    root: &str,
    collection: &CollectionCapture,
    entries: &mut Vec<ObjectEntry>,
) -> Result<Result<(), String>, Error> {
    // Insert logs per segment: a segment with rows and without any has been removed meanwhile.
    let with_rows: HashSet<i64> =
        collection.segments.iter().filter(|segment| segment.rows > 0).map(|segment| segment.id).collect();
    let mut logs: HashMap<i64, u32> = collection.segments.iter().map(|segment| (segment.id, 0)).collect();
    for kind in ["insert_log", "delta_log"] {
        let prefix = format!("{root}{kind}/{}/", collection.id);
        let mut after = None;
        loop {
            let listing = jobs.ports.objects.list(bucket, &prefix, after.as_deref()).await?;
            for object in &listing.objects {
                let Some(count) = segment_of(&object.key[prefix.len()..]).and_then(|id| logs.get_mut(&id)) else {
                    continue;
                };
                if kind == "insert_log" {
                    *count += 1;
                }
                entries.push(ObjectEntry {
                    key: object_key(&object.key[root.len()..]),
                    size: object.size,
                    source_etag: object.etag.clone(),
                    etag: None,
                });
            }
            after = listing.objects.last().map(|object| object.key.clone());
            if !listing.more {
                break;
            }
        }
    }
    Ok(match logs.iter().find(|(id, count)| **count == 0 && with_rows.contains(id)) {
        Some((segment, _)) => Err(format!("{}: segment {segment} has no insert logs", collection.name)),
        None => Ok(()),
    })
}

/// `{partition}/{segment}/…`
fn segment_of(below_collection: &str) -> Option<i64> {
    below_collection.split('/').nth(1)?.parse().ok()
}

/// Marks what the newest available backup of the instance holds as stored.
async fn reuse(work: &Work<'_>, entries: &mut [ObjectEntry]) -> Result<(), Error> {
    let Some(base) = newest_available(work.jobs, &work.instance.id).await? else { return Ok(()) };
    let objects = work.jobs.ports.objects.as_ref();
    let folder = snapshot::folder(objects, &work.jobs.settings.snapshot_bucket, &work.instance.id, &base);
    let Some(manifest) = snapshot::manifest_if_there(&folder).await? else { return Ok(()) };
    let mut stored = ObjectReader::new(folder, manifest.object_pages);
    for entry in entries {
        if let Some(found) = stored.seek(&entry.key).await?
            && found.size == entry.size
            && found.source_etag == entry.source_etag
        {
            entry.etag = found.etag;
        }
    }
    Ok(())
}

async fn newest_available(jobs: &Jobs, instance: &InstanceId) -> Result<Option<milvault_model::BackupId>, Error> {
    let mut after = None;
    loop {
        let page = jobs.ports.catalog.backups(instance, PageRequest { after, limit: 100 }).await?;
        if let Some(found) = page.items.iter().find(|b| matches!(b.value.state, BackupState::Available(_))) {
            return Ok(Some(found.value.id.clone()));
        }
        after = page.items.last().map(|b| b.value.id.to_string());
        if !page.more {
            return Ok(None);
        }
    }
}
