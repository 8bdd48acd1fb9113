//! The state that concurrent work on several collections shares.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;
use milvault_model::{
    CollectionCapture, CollectionName, CollectionRestore, CollectionStage, DatabaseCapture, ImportProgress, Manifest,
    Restore, Time, previous_name, rebuilt_name,
};
use milvault_ports::{Deadline, Milvus, MilvusError, Tenure, Write};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::work::{Work, add_warnings, snapshot_of};
use crate::{
    Error, Jobs,
    engine::{
        halt::{Step, require_time},
        lease::Held,
    },
    snapshot::pages::Folder,
};

/// How many collections' logs are read at once.
const LOG_READERS: usize = 3;

/// The state that concurrent work on several collections shares.
pub(crate) struct Shared<'a> {
    pub(crate) held: &'a Held,
    pub(crate) jobs: &'a Jobs,
    pub(crate) deadline: Deadline,
    /// The time from the slice's beginning to its deadline.
    pub(super) slice: TimeDelta,
    pub(crate) restore: Restore,
    pub(crate) milvus: Arc<dyn Milvus>,
    advanced_at: Mutex<Time>,
    imports: Semaphore,
    /// The progress of the imports.
    imported: Mutex<ImportProgress>,
    warnings: Mutex<Vec<String>>,
    /// The page of the manifest's collections that was read last. Lines are in the manifest's order.
    captures: tokio::sync::Mutex<Option<(u32, Vec<CollectionCapture>)>>,
    manifest: OnceCell<Manifest>,
    /// Limits how many collections' logs are in memory at once.
    pub(super) log_readers: Semaphore,
}

impl<'a> Work<'a> {
    /// Creates the state for work on several collections.
    pub(crate) async fn shared(&self) -> Result<Shared<'a>, Error> {
        Ok(Shared {
            held: self.held,
            jobs: self.jobs,
            deadline: self.deadline,
            slice: self.deadline.time() - self.began_at,
            restore: Restore::clone(&self.restore),
            milvus: self.milvus().await?,
            advanced_at: Mutex::new(self.run.advanced_at.max(self.began_at)),
            imports: Semaphore::new(self.jobs.settings.imports_in_flight),
            imported: Mutex::new(self.run.progress.imports.unwrap_or_default()),
            warnings: Mutex::default(),
            captures: tokio::sync::Mutex::default(),
            manifest: OnceCell::new(),
            log_readers: Semaphore::new(LOG_READERS),
        })
    }

    /// Moves the warnings of the work on collections to the restore's record.
    pub(crate) fn take_warnings(&mut self, shared: &Shared<'_>) {
        add_warnings(&mut self.restore.warnings, shared.take_warnings());
    }
}

impl Shared<'_> {
    /// Enters a stage of a line, durably.
    pub(super) async fn enter(&self, line: &mut CollectionRestore, stage: CollectionStage) -> Result<(), Error> {
        line.enter(stage, self.now());
        self.save(line).await
    }

    /// Saves a line of the ledger, with the warnings that the restore's record doesn't have yet.
    pub(crate) async fn save(&self, line: &CollectionRestore) -> Result<(), Error> {
        let mut line = line.clone();
        add_warnings(&mut line.warnings, self.warnings().iter().cloned());
        let put = Write::LedgerLine(self.restore.id.clone(), Box::new(line));
        self.held.commit(Tenure::Keep, [put]).await?;
        self.mark_advanced();
        Ok(())
    }

    /// Records that the job made progress now.
    pub(super) fn mark_advanced(&self) {
        *self.advanced_at.lock().unwrap_or_else(PoisonError::into_inner) = self.jobs.now();
    }

    /// Returns when the job last made progress.
    pub(super) fn advanced_at(&self) -> Time {
        *self.advanced_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the result of a call that changes something at the server. Records a failure after which the call may
    /// still take effect, for [`Held::drain`].
    pub(crate) fn watch<T>(&self, result: Result<T, MilvusError>) -> Step<T> {
        if matches!(result, Err(MilvusError::Unreachable(_) | MilvusError::NotReady(_))) {
            self.held.objects.record_failure(self.jobs.now());
        }
        Ok(result?)
    }

    pub(crate) fn now(&self) -> Time {
        self.jobs.now()
    }

    /// Checks that the slice has time left.
    pub(super) fn require_time(&self) -> Step {
        require_time(self.deadline, self.now())
    }

    /// Adds a warning, which the next write of the restore or of a line saves.
    pub(crate) fn warn(&self, warning: String) {
        self.warnings().push(warning);
    }

    fn warnings(&self) -> MutexGuard<'_, Vec<String>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the warnings.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings())
    }

    /// Waits for a permit to import this many segments beside the other imports.
    pub(crate) async fn import_permit(&self, segments: usize) -> Option<SemaphorePermit<'_>> {
        let segments = self.permits_for(segments);
        // The semaphore is never closed, so there is no error.
        self.imports.acquire_many(segments).await.ok()
    }

    /// Returns a permit to import this many segments, if it is available now.
    pub(crate) fn try_import_permit(&self, segments: usize) -> Option<SemaphorePermit<'_>> {
        let segments = self.permits_for(segments);
        self.imports.try_acquire_many(segments).ok()
    }

    /// Returns the permits that this many segments take. More segments than the limit take all: they are imported
    /// alone.
    fn permits_for(&self, segments: usize) -> u32 {
        u32::try_from(segments.min(self.jobs.settings.imports_in_flight)).unwrap_or_default()
    }

    /// Returns the progress of the imports.
    pub(crate) fn imported(&self) -> MutexGuard<'_, ImportProgress> {
        self.imported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the folder of the source backup's documents.
    pub(super) fn snapshot(&self) -> Result<Folder<'_>, Error> {
        snapshot_of(self.jobs, &self.restore)
    }

    /// Returns the source backup's manifest, which is read once.
    pub(super) async fn manifest(&self) -> Result<&Manifest, Error> {
        self.manifest.get_or_try_init(async || self.snapshot()?.manifest().await).await
    }

    /// Returns the backup's databases.
    pub(crate) async fn databases(&self) -> Result<&[DatabaseCapture], Error> {
        Ok(&self.manifest().await?.databases)
    }

    /// Returns the backup's capture of a line's collection.
    pub(crate) async fn capture(&self, line: &CollectionRestore) -> Result<CollectionCapture, Error> {
        let folder = self.snapshot()?;
        let missing = || folder.bad("collections/", format!("has no {}", line.source));
        let mut read = self.captures.lock().await;
        let captures = match read.take() {
            Some((page, captures)) if page == line.capture_page => captures,
            _ => {
                let manifest = self.manifest().await?;
                let page = manifest.collection_pages.get(line.capture_page as usize).ok_or_else(missing)?;
                folder.collections(page).await?
            }
        };
        let (_, captures) = read.insert((line.capture_page, captures));
        captures.iter().find(|capture| capture.name == line.source).cloned().ok_or_else(missing)
    }

    /// Returns the name of the collection that is rebuilt for a line.
    pub(crate) fn rebuilt(&self, line: &CollectionRestore) -> CollectionName {
        rebuilt_name(&line.target, &self.restore.id)
    }

    /// Returns the name under which a line's previous collection is kept.
    pub(crate) fn previous(&self, line: &CollectionRestore) -> CollectionName {
        previous_name(&line.target, &self.restore.id)
    }
}
