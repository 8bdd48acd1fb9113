//! VERIFY and PUBLISH: AVAILABLE only when every object was found at the destination, the manifest written last.

use milvault_model::{
    BackupPhase, BackupState, CollectionCapture, DatabaseCapture, Manifest, ObjectEntry, PageRef, Reuse, Snapshot,
    Totals,
};

use super::{
    clean::remove_planned,
    flush::{Survey, survey_key},
    verify::{Finding, Inspection},
    work::Work,
};
use crate::{
    garbage::Protection,
    layout::{self, PageKind},
    ports::{PutMode, PutOutcome},
    slice::{Halt, Step},
    snapshot,
};

/// Compares the plan's pages with a listing of the destination, then writes the manifest.
pub(crate) async fn verify_and_seal(work: &mut Work<'_>, plan: u64, pages: u32, added_bytes: u64) -> Step {
    let folder = work.folder();
    let mut object_pages = Vec::new();
    let mut totals = Totals { added_bytes, ..Totals::default() };
    let mut inspection = Inspection::new(work.jobs, work.data_prefix());
    for number in 0..pages {
        if work.deadline.is_over(work.jobs.ports.clock.now()) {
            return Err(Halt::OutOfTime);
        }
        let (entries, page) = folder.read_with_ref::<ObjectEntry>(&PageKind::Objects.key(plan, number)).await?;
        for entry in &entries {
            if let Some(finding) = inspection.check(entry).await? {
                // An object taken over from an earlier backup, or lost since it was copied: copy what is missing.
                work.run.reuse = Reuse::Nothing;
                let what = match finding {
                    Finding::Missing => "is missing",
                    Finding::Changed => "is not what was copied",
                };
                return work.replan(format!("the stored object {} {what}", entry.key)).await;
            }
            totals.size_bytes += entry.size;
        }
        totals.objects += entries.len() as u64;
        object_pages.push(page);
    }
    let manifest = manifest(work, plan, object_pages, totals).await?;
    let body = serde_json::to_vec_pretty(&manifest).map_err(|error| folder.bad(layout::MANIFEST, error.to_string()))?;
    let key = folder.path(layout::MANIFEST);
    let put = folder.objects.put(folder.bucket, &key, body, PutMode::IfAbsent).await?;
    // A worker that died right here has written it already.
    if put == PutOutcome::Occupied && snapshot::manifest_if_there(&folder).await?.as_ref() != Some(&manifest) {
        return Err(folder.bad(layout::MANIFEST, "another one is there").into());
    }
    Ok(work.enter(BackupPhase::Publish).await?)
}

async fn manifest(work: &Work<'_>, plan: u64, object_pages: Vec<PageRef>, mut totals: Totals) -> Step<Manifest> {
    let folder = work.folder();
    let (_, source) = work.source()?;
    let mut collection_pages = Vec::new();
    let mut point_in_time = None;
    for number in 0.. {
        let key = PageKind::Collections.key(plan, number);
        if folder.bytes(&key).await?.is_none() {
            break;
        }
        let (collections, page) = folder.read_with_ref::<CollectionCapture>(&key).await?;
        for collection in &collections {
            totals.collections += 1;
            totals.entities += collection.rows.rows();
            point_in_time = point_in_time.into_iter().chain([collection.point_in_time]).min();
        }
        collection_pages.push(page);
    }
    let survey = survey(work).await?;
    Ok(Manifest {
        format: 1,
        backup_id: work.backup.id.clone(),
        instance_id: work.instance.id.clone(),
        name: work.backup.name.clone(),
        method: work.backup.method,
        engine_version: work.backup.engine_version.clone(),
        source,
        // An instance without collections is captured as of when the backup began.
        point_in_time: point_in_time.unwrap_or(work.run.started_at),
        totals,
        databases: survey.databases.into_iter().map(|name| DatabaseCapture { name }).collect(),
        left_out: survey.left_out,
        object_pages,
        collection_pages,
    })
}

/// The newest survey: every flush writes one, and the last one led to this plan.
async fn survey(work: &Work<'_>) -> Step<Survey> {
    let folder = work.folder();
    let (keys, _) = folder.keys(PageKind::Capture.prefix(), None).await?;
    let newest = keys.iter().rfind(|key| key.ends_with("-survey.json"));
    let key = newest.cloned().unwrap_or_else(|| survey_key(0));
    let body = folder.bytes(&key).await?.ok_or_else(|| folder.bad(&key, "is missing"))?;
    Ok(serde_json::from_slice(&body).map_err(|error| folder.bad(&key, error.to_string()))?)
}

/// The manifest is written: tidy up and become AVAILABLE.
pub(crate) async fn publish(work: &mut Work<'_>) -> Step {
    let bucket = &work.jobs.settings.snapshot_bucket;
    let objects = work.jobs.ports.objects.as_ref();
    let manifest = snapshot::manifest(objects, bucket, &work.instance.id, &work.backup.id).await?;
    // An earlier plan may have copied objects that the last one doesn't have.
    let protection = Protection::read(work.jobs, &work.instance.id, &work.backup.id).await?;
    let protection = protection.and_own(work.jobs, &work.instance.id, &work.backup.id).await?;
    remove_planned(work, &protection).await?;
    let snapshot = Snapshot {
        started_at: work.run.started_at,
        completed_at: work.jobs.ports.clock.now(),
        point_in_time: manifest.point_in_time,
        totals: manifest.totals,
    };
    Ok(work.end(BackupState::Available(snapshot), Vec::new()).await?)
}
