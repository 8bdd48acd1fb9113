//! Copies one page of a plan, in the invocation that works on the backup or in another one on its behalf.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    StreamExt,
    future::{Either, select},
    stream,
};
use milvault_model::{BackupId, Copied, Failure, FailureCode, Instance, ObjectEntry, Origin};
use milvault_ports::{Bucket, CopyEnd, CopyOutcome, CopyReport, CopyRequest, CopyTask, Deadline, Lease, ObjectsError};

use super::source::registered_source;
use crate::{
    Error, Jobs,
    engine::{lease::run_until, throttle::Throttle, watched::Watched},
    snapshot::{
        layout::{self, PageKind},
        pages::Folder,
    },
};

/// Copies a page for another invocation, while that invocation has the instance's lease and the backup isn't cancelled.
///
/// # Errors
/// [`Error::LeaseLost`] if the lease is over; any error that prevents the copy. Some of the page may be copied.
pub async fn copy_page(jobs: &Jobs, task: CopyTask, deadline: Deadline) -> Result<CopyReport, Error> {
    let instance = jobs.instance(&task.instance_id).await?.value;
    let deadline = Deadline::at(task.until.min(deadline.time()));
    let (jobs, watched) = &Watched::wrap(jobs);
    let shared = Shared::new(jobs, deadline);
    let lease = Lease { instance_id: instance.id.clone(), fence: task.fence };
    let (backup, page) = (task.backup_id.clone(), task.page);
    let copy = PageCopy::new(jobs, &instance, task)?;
    match select(pin!(copy.run(&shared)), pin!(watch(jobs, &lease, &backup, &shared))).await {
        Either::Left((report, _)) => {
            let objects = report.as_ref().map_or(0, |report| report.copied.objects);
            tracing::info!(instance = %instance.id, %backup, page, objects, "a page was copied for another invocation");
            report.map(|report| CopyReport { failed_at: watched.failed_at(), ..report })
        }
        Either::Right(((), _)) => Err(Error::LeaseLost),
    }
}

/// Returns when the lease is over or about to end. Stops the copy when the backup is cancelled.
async fn watch(jobs: &Jobs, lease: &Lease, backup: &BackupId, shared: &Shared) {
    let catalog = jobs.ports.catalog.as_ref();
    // The same margin as for the lease's holder: see `lease::keep`.
    let margin = jobs.settings.lease / 3;
    let mut safe_until = jobs.now() + margin;
    loop {
        match run_until(jobs, Deadline::at(safe_until), catalog.held_until(lease)).await {
            Some(Ok(Some(held))) => safe_until = held - margin,
            Some(Err(error)) => tracing::warn!(%error, %backup, "the lease cannot be checked"),
            Some(Ok(None)) | None => return,
        }
        if jobs.now() >= safe_until {
            return;
        }
        if let Ok(Some(backup)) = catalog.backup(&lease.instance_id, backup).await
            && backup.value.cancel_requested_at.is_some()
        {
            shared.stop();
        }
        jobs.ports.clock.sleep((margin / 2).to_std().unwrap_or(Duration::from_secs(1))).await;
    }
}

/// The state that pages in flight share.
pub(super) struct Shared {
    pub(super) throttle: Throttle,
    deadline: Deadline,
    is_stopped: AtomicBool,
    /// The progress of the pages in flight.
    pages: Mutex<BTreeMap<u32, Copied>>,
}

impl Shared {
    pub(super) fn new(jobs: &Jobs, deadline: Deadline) -> Self {
        Self {
            throttle: Throttle::new(jobs.settings.copies_in_flight),
            deadline,
            is_stopped: AtomicBool::new(false),
            pages: Mutex::default(),
        }
    }

    /// Prevents further copies from beginning.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self, jobs: &Jobs) -> bool {
        self.is_stopped.load(Ordering::Relaxed) || self.deadline.is_over(jobs.now())
    }

    /// Counts stored objects of a page.
    pub(super) fn count(&self, page: u32, copied: Copied) {
        self.pages().entry(page).or_default().add(copied);
    }

    pub(super) fn pages(&self) -> MutexGuard<'_, BTreeMap<u32, Copied>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies one page.
pub(super) struct PageCopy<'a> {
    jobs: &'a Jobs,
    task: CopyTask,
    source: Bucket,
    target: &'a Bucket,
    root: String,
    data: String,
}

impl<'a> PageCopy<'a> {
    /// Creates the copy of the task's page.
    ///
    /// # Errors
    /// If the instance is registered without its object storage.
    pub(super) fn new(jobs: &'a Jobs, instance: &Instance, task: CopyTask) -> Result<Self, Error> {
        let (source, storage) = registered_source(instance)?;
        let target = jobs.settings.snapshots.in_region(&task.region)?;
        Ok(Self { jobs, task, source, target, root: storage.root_path.prefix(), data: layout::data(&instance.id) })
    }

    /// Copies the objects that aren't stored yet, until all are stored or no further copy may begin.
    pub(super) async fn run(&self, shared: &Shared) -> Result<CopyReport, Error> {
        let (jobs, task) = (self.jobs, &self.task);
        let folder = Folder::new(jobs.ports.objects.as_ref(), self.target, &task.instance_id, &task.backup_id);
        let planned = PageKind::Plan.key_with_fence(task.plan, task.page);
        let mut entries: Vec<ObjectEntry> = folder.read(&planned).await?;
        let mut report =
            CopyReport { end: CopyEnd::Whole, copied: Copied::default(), gone: BTreeSet::new(), failed_at: None };
        entries.iter().for_each(|entry| report.copied.add(stored(entry)));
        shared.count(task.page, report.copied);

        let missing: Vec<usize> = (0..entries.len()).filter(|place| entries[*place].etag.is_none()).collect();
        let planned_entries = &entries;
        let copies =
            missing.into_iter().map(|place| async move { (place, self.copy(&planned_entries[place], shared).await) });
        // The upper bound of copies in flight; the throttle decides how many of them run.
        let mut copies = stream::iter(copies).buffer_unordered(jobs.settings.copies_in_flight);
        let mut outcomes = Vec::new();
        let mut failure = None;
        while let Some((place, outcome)) = copies.next().await {
            let entry = &entries[place];
            match outcome {
                Ok(Some(CopyOutcome::Copied { etag })) => outcomes.push((place, etag, Origin::Own)),
                Ok(Some(CopyOutcome::AlreadyThere { etag, stored_by })) => {
                    let is_own = stored_by.is_some_and(|id| id == task.backup_id.as_str());
                    outcomes.push((place, etag, if is_own { Origin::Own } else { Origin::AlreadyStored }));
                }
                Ok(Some(CopyOutcome::SourceGone)) => {
                    tracing::info!(key = %entry.key, backup = %task.backup_id, "an object is gone from the source");
                    report.gone.extend(entry.key.collection().parse::<i64>());
                    continue;
                }
                Ok(Some(CopyOutcome::Occupied)) => {
                    let message = format!("another object is stored as {}", entry.key);
                    report.end = CopyEnd::Failed(Failure::new(FailureCode::SnapshotDamaged, message));
                    continue;
                }
                Ok(None) => {
                    report.end = if report.end == CopyEnd::Whole { CopyEnd::Part } else { report.end };
                    continue;
                }
                Err(error) => {
                    failure = Some(error);
                    shared.stop();
                    continue;
                }
            }
            let one = Copied { objects: 1, bytes: entry.size, added_bytes: 0 };
            shared.count(task.page, one);
        }
        drop(copies);
        for (place, etag, origin) in outcomes {
            let entry = &mut entries[place];
            (entry.etag, entry.origin) = (Some(etag), origin);
            report.copied.add(stored(entry));
        }
        // The manifest names complete pages. An incomplete page stays in the plan, with its stored objects marked.
        let key = match report.end == CopyEnd::Whole && failure.is_none() && report.gone.is_empty() {
            true => PageKind::Objects.key_with_fence(task.plan, task.page),
            false => planned,
        };
        folder.write(&key, &entries).await?;
        failure.map_or(Ok(report), |error| Err(error.into()))
    }

    /// Copies one object; `None` if it may not begin any more.
    async fn copy(&self, entry: &ObjectEntry, shared: &Shared) -> Result<Option<CopyOutcome>, ObjectsError> {
        let jobs = self.jobs;
        let from_key = self.root.clone() + &entry.key.source();
        let to_key = self.data.clone() + &entry.key.stored();
        let request = CopyRequest {
            from: &self.source,
            from_key: &from_key,
            from_etag: &entry.source_etag,
            size: entry.size,
            to: self.target,
            to_key: &to_key,
            stored_by: self.task.backup_id.as_str(),
        };
        shared.throttle.copy(jobs, request, || shared.is_over(jobs)).await
    }
}

/// The stored objects and bytes of an entry.
fn stored(entry: &ObjectEntry) -> Copied {
    match (&entry.etag, entry.origin) {
        (None, _) => Copied::default(),
        (Some(_), Origin::Earlier | Origin::AlreadyStored) => Copied { objects: 1, bytes: entry.size, added_bytes: 0 },
        (Some(_), Origin::Own) => Copied { objects: 1, bytes: entry.size, added_bytes: entry.size },
    }
}
