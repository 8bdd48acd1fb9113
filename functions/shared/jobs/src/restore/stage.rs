//! STAGE: writes the ledger, then copies the snapshot's objects into the instance's own bucket, server-side.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::atomic::{AtomicBool, Ordering},
};

use futures::{StreamExt, stream};
use milvault_model::{
    Capabilities, CollectionCapture, CollectionRestore, CollectionStage, Failure, FailureCode, Manifest, ObjectEntry,
    OnError, PageRef, Progress, RestoreId, RestorePhase,
};
use milvault_ports::{Bucket, CopyOutcome, CopyRequest, Deadline, MilvusError, Tenure, Write};

use super::{
    accept::targets,
    groups::{StagingKeys, groups},
    work::Work,
};
use crate::{
    Error, Jobs,
    engine::{
        halt::{Halt, Step},
        throttle::Throttle,
    },
    snapshot::layout,
};

/// The lines per commit. A commit has room for a hundred writes.
const LINES_PER_COMMIT: usize = 50;

/// Writes one line per collection to restore. Repeated calls write the same lines.
pub(crate) async fn write_ledger(work: &mut Work<'_>) -> Step {
    let manifest = work.manifest().await?;
    let folder = work.snapshot()?;
    let now = work.jobs.now();
    let reported = work.milvus().await?.version().await?;
    let at_once = u32::try_from(work.jobs.settings.imports_in_flight).unwrap_or(u32::MAX);
    let segments_per_job = Capabilities::for_reported_version(&reported).segments_per_import().min(at_once);
    let mut number = 0;
    for (capture_page, page) in (0..).zip(&manifest.collection_pages) {
        let captures: Vec<CollectionCapture> = folder.read_named(page).await?;
        let targets = targets(captures.iter().map(|c| &c.name), &work.restore.selection, &work.restore.rename);
        let mut lines = Vec::with_capacity(targets.len());
        for (source, target) in targets {
            let Some(capture) = captures.iter().find(|capture| capture.name == source) else { continue };
            let (jobs, failure) = match (groups(capture, segments_per_job), work.restore.on_error) {
                (Ok(groups), _) => (groups.len(), None),
                (Err(Halt::Fatal(failure)), OnError::Continue) => (0, Some(failure)),
                (Err(halt), _) => return Err(halt),
            };
            let mut line = CollectionRestore {
                number,
                source,
                source_id: capture.id,
                target,
                capture_page,
                loaded_before: capture.loaded.clone(),
                rows_expected: capture.rows.rows(),
                rows_expected_kind: capture.rows.kind(),
                rows_found: None,
                segments_per_job,
                jobs: u32::try_from(jobs).unwrap_or(u32::MAX),
                lost_indexes: Vec::new(),
                attempts: 0,
                unavailable_ms: None,
                failure: None,
                warnings: Vec::new(),
                stage: CollectionStage::Waiting,
                since: Some(now),
            };
            failure.into_iter().for_each(|failure| line.give_up(failure, now));
            lines.push(line);
            number += 1;
        }
        for batch in lines.chunks(LINES_PER_COMMIT) {
            let line = |line: &CollectionRestore| Write::LedgerLine(work.restore.id.clone(), Box::new(line.clone()));
            let writes = batch.iter().map(line);
            work.held.commit(Tenure::Keep, writes).await?;
        }
    }
    work.restore.collections = number;
    warn_of_database_properties(work, &manifest).await?;
    Ok(work.enter(RestorePhase::Stage { next: Some(0) }).await?)
}

/// Warns of existing databases whose properties differ from the backup's: a database that exists keeps its properties.
async fn warn_of_database_properties(work: &mut Work<'_>, manifest: &Manifest) -> Step {
    let milvus = work.milvus().await?;
    let existing = milvus.databases().await?;
    for database in manifest.databases.iter().filter(|database| existing.contains(&database.name)) {
        let mut present = match milvus.database_properties(&database.name).await {
            Ok(present) => present,
            // Reading them requires a privilege that a restore doesn't.
            Err(MilvusError::Forbidden(reason)) => {
                work.warn(format!(
                    "the properties of database {} cannot be compared with the backup's: {reason}",
                    database.name
                ));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut captured = database.properties.clone();
        present.sort();
        captured.sort();
        if present != captured {
            work.warn(format!("database {} has other properties than in the backup and keeps them", database.name));
        }
    }
    Ok(())
}

/// The inputs of a slice's staging.
struct Staging {
    manifest: Manifest,
    own: Bucket,
    /// The source IDs of the collections to restore that have objects.
    collections: BTreeSet<String>,
    keys: StagingKeys,
    throttle: Throttle,
    /// The total size of these collections, in bytes.
    bytes: u64,
}

/// Copies the objects of the collections to restore, from the manifest's page `next` on.
pub(crate) async fn stage(work: &mut Work<'_>, next: u32) -> Step {
    let mut staging = prepare(work).await?;
    for next in next.. {
        let Some(page) = staging.manifest.object_pages.get(next as usize) else { break };
        let damaged = stage_page(work, &staging, page).await?;
        match damaged.first_key_value() {
            Some((_, failure)) if work.restore.on_error == OnError::Stop => return Err(Halt::Fatal(failure.clone())),
            Some(_) => work.give_up_unbuilt(&damaged).await?,
            None => {}
        }
        staging.collections.retain(|collection| !damaged.contains_key(collection));
        work.run.phase = RestorePhase::Stage { next: Some(next + 1) };
        work.checkpoint().await?;
        work.require_time()?;
    }
    Ok(work.enter(RestorePhase::Build).await?)
}

async fn prepare(work: &Work<'_>) -> Step<Staging> {
    let manifest = work.manifest().await?;
    // Segments per import job, by page of the manifest's collections and by source ID.
    let mut lines: BTreeMap<u32, BTreeMap<i64, u32>> = BTreeMap::new();
    work.read_lines(|line| {
        if line.failure.is_none() {
            lines.entry(line.capture_page).or_default().insert(line.source_id, line.segments_per_job);
        }
    })
    .await?;
    let mut staging = Staging {
        own: work.own_bucket()?,
        collections: BTreeSet::new(),
        keys: StagingKeys::default(),
        throttle: Throttle::new(work.jobs.settings.copies_in_flight),
        bytes: 0,
        manifest,
    };
    let folder = work.snapshot()?;
    for (number, ids) in lines {
        let Some(page) = staging.manifest.collection_pages.get(number as usize) else { continue };
        for capture in folder.collections(page).await? {
            if let Some(segments_per_job) = ids.get(&capture.id)
                && !capture.segments.is_empty()
            {
                staging.collections.insert(capture.id.to_string());
                staging.keys.add(&capture, *segments_per_job)?;
                staging.bytes += capture.size_bytes;
            }
        }
    }
    Ok(staging)
}

/// Copies a page's objects of the collections to restore. Returns the failures of the collections, by source ID, of
/// which an object is missing or changed.
async fn stage_page(work: &mut Work<'_>, staging: &Staging, page: &PageRef) -> Step<BTreeMap<String, Failure>> {
    let mut damaged = BTreeMap::new();
    let mut affected = staging.collections.range(collections_of(page)).peekable();
    if affected.peek().is_none() {
        return Ok(damaged);
    }
    let entries = match work.snapshot()?.read_named::<ObjectEntry>(page).await {
        Err(error @ Error::Document { .. }) => {
            let failure = Failure::new(FailureCode::SnapshotDamaged, error.to_string());
            return Ok(affected.map(|collection| (collection.clone(), failure.clone())).collect());
        }
        entries => entries?,
    };
    let wanted: Vec<_> = entries.iter().filter(|entry| staging.collections.contains(entry.key.collection())).collect();
    let mut progress = Progress { bytes_total: staging.bytes, ..work.run.progress };
    progress.objects_total += wanted.len() as u64;

    let on_error = work.restore.on_error;
    let copying = Copying {
        jobs: work.jobs,
        deadline: work.deadline,
        restore: &work.restore.id,
        snapshots: work.jobs.settings.snapshots.in_region(&work.restore.backup_region)?,
        data: layout::data(&work.restore.source_instance_id),
        staging,
        is_stopped: AtomicBool::new(false),
    };
    let copies = wanted.into_iter().flat_map(|entry| {
        let keys = staging.keys.keys_of(&entry.key).into_iter().enumerate();
        keys.map(move |(number, key)| (entry, number, key))
    });
    let copies = copies.map(|(entry, number, key)| copying.copy(entry, number, key));
    let mut copies = stream::iter(copies).buffer_unordered(work.jobs.settings.copies_in_flight);
    let mut halted = None;
    // Copies in flight are waited for even after a failure: none may arrive after the staged objects are removed.
    while let Some(result) = copies.next().await {
        match result {
            Ok(Staged::First(entry)) if halted.is_none() => {
                progress.objects_done += 1;
                progress.bytes_done += entry.size;
            }
            Ok(Staged::First(_) | Staged::Duplicate) => {}
            Ok(Staged::Failed(entry, failure)) => {
                damaged.entry(entry.key.collection().to_owned()).or_insert(failure);
                if on_error == OnError::Stop {
                    copying.is_stopped.store(true, Ordering::Relaxed);
                }
            }
            Err(halt) => {
                copying.is_stopped.store(true, Ordering::Relaxed);
                halted.get_or_insert(halt);
            }
        }
    }
    drop(copies);
    // If the page is repeated, the copies that were made are found.
    match halted {
        Some(halt) if on_error == OnError::Continue || damaged.is_empty() => return Err(halt),
        _ => {}
    }
    work.run.progress = progress;
    Ok(damaged)
}

/// The copying of a page's objects into the instance's own bucket.
struct Copying<'a> {
    jobs: &'a Jobs,
    deadline: Deadline,
    restore: &'a RestoreId,
    snapshots: &'a Bucket,
    /// The prefix of the source's data objects.
    data: String,
    staging: &'a Staging,
    is_stopped: AtomicBool,
}

impl Copying<'_> {
    /// Copies an object to one of its keys below the staging prefix; `number` is the key's number among them.
    async fn copy<'e>(&self, entry: &'e ObjectEntry, number: usize, key: String) -> Step<Staged<'e>> {
        let to_key = format!("{}{key}", layout::staging(self.restore));
        let request = CopyRequest {
            from: self.snapshots,
            from_key: &format!("{}{}", self.data, entry.key.stored()),
            from_etag: entry.etag.as_deref().unwrap_or_default(),
            size: entry.size,
            to: &self.staging.own,
            to_key: &to_key,
            stored_by: self.restore.as_str(),
        };
        let is_over = || self.is_stopped.load(Ordering::Relaxed) || self.deadline.is_over(self.jobs.now());
        match self.staging.throttle.copy(self.jobs, request, is_over).await? {
            None => Err(Halt::OutOfTime),
            Some(CopyOutcome::Copied { .. } | CopyOutcome::AlreadyThere { .. }) => {
                Ok(if number == 0 { Staged::First(entry) } else { Staged::Duplicate })
            }
            Some(CopyOutcome::SourceGone) => {
                let message = format!("the backup's object {} is missing or changed", entry.key);
                Ok(Staged::Failed(entry, Failure::new(FailureCode::SnapshotDamaged, message)))
            }
            Some(CopyOutcome::Occupied) => {
                let message = format!("another object exists at {to_key}");
                Ok(Staged::Failed(entry, Failure::new(FailureCode::StorageUnreachable, message)))
            }
        }
    }
}

/// The outcome of an object's copy.
enum Staged<'e> {
    /// The object is at its first key, and counts as progress.
    First(&'e ObjectEntry),
    /// The object is at another of its keys.
    Duplicate,
    /// The copy failed.
    Failed(&'e ObjectEntry, Failure),
}

/// Returns the range of the collections, by source ID, of which a page has objects: a page is sorted by them.
pub(super) fn collections_of(page: &PageRef) -> RangeInclusive<String> {
    let collection = |key: &str| key.split('/').next().unwrap_or_default().to_owned();
    collection(&page.first)..=collection(&page.last)
}
