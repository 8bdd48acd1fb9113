//! What the work on several collections at once shares.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;
use milvault_model::{
    CollectionCapture, CollectionName, CollectionRestore, CollectionStage, DatabaseCapture, ImportProgress, Manifest,
    Restore, Time, previous_name, rebuilt_name,
};
use milvault_ports::{Deadline, Milvus, MilvusError, Tenure, Write};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::work::{Work, add_warnings, manifest_of, snapshot_of};
use crate::{
    Error, Jobs,
    engine::{
        halt::{Step, require_time},
        lease::Held,
    },
    snapshot::pages::Folder,
};

/// Collections whose logs are read at once.
const LOGS_READ: usize = 3;

/// What the work on several collections at once shares.
pub(crate) struct Shared<'a> {
    pub(crate) held: &'a Held,
    pub(crate) jobs: &'a Jobs,
    pub(crate) deadline: Deadline,
    /// How long the slice may take from its beginning to its deadline.
    pub(super) slice: TimeDelta,
    pub(crate) restore: Restore,
    pub(crate) milvus: Arc<dyn Milvus>,
    advanced_at: Mutex<Time>,
    imports: Semaphore,
    /// How far the imports are.
    imported: Mutex<ImportProgress>,
    warnings: Mutex<Vec<String>>,
    /// The page of the manifest's collections that was read last: lines are in its order.
    captures: tokio::sync::Mutex<Option<(u32, Vec<CollectionCapture>)>>,
    manifest: OnceCell<Manifest>,
    /// The logs of so many collections are in memory at once.
    pub(super) reading_logs: Semaphore,
}

impl<'a> Work<'a> {
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
            reading_logs: Semaphore::new(LOGS_READ),
        })
    }

    /// Takes over what the user should know.
    pub(crate) fn take_warnings(&mut self, shared: &Shared<'_>) {
        add_warnings(&mut self.restore.warnings, shared.take_warnings());
    }
}

impl Shared<'_> {
    /// Goes on with this stage of a line, durably.
    pub(super) async fn enter(&self, line: &mut CollectionRestore, stage: CollectionStage) -> Result<(), Error> {
        line.enter(stage, self.now());
        self.save(line).await
    }

    /// Writes a line of the ledger down, with the warnings that the restore's record doesn't have yet.
    pub(crate) async fn save(&self, line: &CollectionRestore) -> Result<(), Error> {
        let mut line = line.clone();
        add_warnings(&mut line.warnings, self.warnings().iter().cloned());
        let put = Write::LedgerLine(self.restore.id.clone(), Box::new(line));
        self.held.commit(Tenure::Keep, [put]).await?;
        self.advanced();
        Ok(())
    }

    pub(super) fn advanced(&self) {
        *self.advanced_at.lock().unwrap_or_else(PoisonError::into_inner) = self.jobs.now();
    }

    pub(super) fn advanced_at(&self) -> Time {
        *self.advanced_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a call that changes something at the server. One that got lost may take effect for a while yet:
    /// nothing more is done before that is over, see [`Held::drain`].
    pub(crate) fn sure<T>(&self, result: Result<T, MilvusError>) -> Step<T> {
        if matches!(result, Err(MilvusError::Unreachable(_) | MilvusError::NotReady(_))) {
            self.held.objects.record_failure(self.jobs.now());
        }
        Ok(result?)
    }

    pub(crate) fn now(&self) -> Time {
        self.jobs.now()
    }

    /// Sees that the slice's time isn't over.
    pub(super) fn require_time(&self) -> Step {
        require_time(self.deadline, self.now())
    }

    /// Tells the user, with the next write of the restore.
    pub(crate) fn warn(&self, warning: String) {
        self.warnings().push(warning);
    }

    fn warnings(&self) -> MutexGuard<'_, Vec<String>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the user is to be told.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings())
    }

    /// Waits until so many segments may be imported beside the others'; they may until this is dropped.
    pub(crate) async fn import_turn(&self, segments: usize) -> Option<SemaphorePermit<'_>> {
        let segments = self.turn_of(segments);
        // An error would mean that it was closed, which it never is.
        self.imports.acquire_many(segments).await.ok()
    }

    /// The same, if they may at once.
    pub(crate) fn import_turn_now(&self, segments: usize) -> Option<SemaphorePermit<'_>> {
        let segments = self.turn_of(segments);
        self.imports.try_acquire_many(segments).ok()
    }

    /// More than may be imported at once are imported alone.
    fn turn_of(&self, segments: usize) -> u32 {
        u32::try_from(segments.min(self.jobs.settings.imports_in_flight)).unwrap_or_default()
    }

    /// How far the imports are.
    pub(crate) fn imported(&self) -> MutexGuard<'_, ImportProgress> {
        self.imported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source backup's documents.
    pub(super) fn snapshot(&self) -> Result<Folder<'_>, Error> {
        snapshot_of(self.jobs, &self.restore)
    }

    pub(super) async fn manifest(&self) -> Result<&Manifest, Error> {
        self.manifest.get_or_try_init(async || manifest_of(self.jobs, &self.restore).await).await
    }

    /// The backup's databases.
    pub(crate) async fn databases(&self) -> Result<&[DatabaseCapture], Error> {
        Ok(&self.manifest().await?.databases)
    }

    /// What the backup says of the line's collection.
    pub(crate) async fn capture(&self, line: &CollectionRestore) -> Result<CollectionCapture, Error> {
        let folder = self.snapshot()?;
        let missing = || folder.bad("collections/", format!("has no {}", line.source));
        let mut read = self.captures.lock().await;
        let captures = match read.take() {
            Some((page, captures)) if page == line.capture_page => captures,
            _ => {
                let manifest = self.manifest().await?;
                let page = manifest.collection_pages.get(line.capture_page as usize).ok_or_else(missing)?;
                folder.read_named(page).await?
            }
        };
        let (_, captures) = read.insert((line.capture_page, captures));
        captures.iter().find(|capture| capture.name == line.source).cloned().ok_or_else(missing)
    }

    /// The name of the collection being rebuilt for a line.
    pub(crate) fn rebuilt(&self, line: &CollectionRestore) -> CollectionName {
        rebuilt_name(&line.target, &self.restore.id)
    }

    /// The name under which what was live is kept.
    pub(crate) fn previous(&self, line: &CollectionRestore) -> CollectionName {
        previous_name(&line.target, &self.restore.id)
    }
}
