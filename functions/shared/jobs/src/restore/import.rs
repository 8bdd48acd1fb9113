//! IMPORT: imports the staged logs into the new collections, by concurrent import jobs of the server.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use futures::{StreamExt, stream};
use milvault_model::{
    CollectionCapture, CollectionName, CollectionRestore, CollectionStage, FailureCode, ImportJob, ImportProgress,
    ImportState, Imports, RestorePhase, Time,
};
use milvault_ports::{ImportData, ImportRequest, ImportStatus, ImportTasks, MilvusError};
use tokio::sync::SemaphorePermit;

use super::{
    build::build_collection,
    groups::{Group, groups},
    ledger::Concurrency,
    poll::Poll,
    shared::Shared,
    work::Work,
};
use crate::{
    Error,
    engine::halt::{Halt, Step, fatal},
    snapshot::layout,
};

/// How many times a collection is built before its import counts as failed.
const MAX_ATTEMPTS: u32 = 5;

/// The most segments of which a job makes one step of progress within the stall limit; a job with more gets a multiple.
const SEGMENTS_PER_STALL_LIMIT: u32 = 16;

/// How long an import may wait in the server's queue, behind other imports and other users' imports.
const QUEUE_TIMEOUT: TimeDelta = TimeDelta::hours(1);

/// How long to wait after the server refused a job for lack of room, unless one of the collection's jobs ends.
const REFUSAL_BACKOFF: TimeDelta = TimeDelta::seconds(5);

/// The most jobs of one collection that are begun together: one write saves their states.
const BATCH: usize = 16;

/// How many jobs' states are requested concurrently.
const STATUS_REQUESTS: usize = 8;

/// How often the jobs' progress is saved. Their beginnings and ends are saved at once.
const SAVE_INTERVAL: TimeDelta = TimeDelta::seconds(5);

/// Runs the phase IMPORT.
pub(crate) async fn import(work: &mut Work<'_>) -> Step {
    let mut progress = ImportProgress::default();
    work.read_lines(|line| {
        if line.failure.is_some() {
            return;
        }
        progress.jobs_total += u64::from(line.jobs);
        progress.rows_total += line.rows_expected;
        match line.stage {
            CollectionStage::Built { imports, .. } => {
                progress.jobs_done += imports.completed.len() as u64;
                progress.rows_done += imports.rows;
            }
            CollectionStage::Imported { rows, .. } => {
                progress.jobs_done += u64::from(line.jobs);
                progress.rows_done += rows;
            }
            _ => {}
        }
    })
    .await?;
    work.run.progress.imports = Some(progress);
    work.for_each_active_line(Concurrency::Many, async |shared, line| import_line(shared, line).await).await?;
    Ok(work.enter(RestorePhase::Verify).await?)
}

async fn import_line(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    let capture = match &line.stage {
        CollectionStage::Built { .. } => shared.capture(&line).await?,
        _ => return Ok(()),
    };
    loop {
        let CollectionStage::Built { id: Some(id), imports } = line.stage.clone() else {
            // A worker died while it built the collection.
            build_collection(shared, &mut line, &capture).await?;
            continue;
        };
        match Importing::new(shared, &mut line, id, imports).run(&capture).await? {
            Outcome::Completed { rows, empty } => {
                wait_for_indexes(shared, &mut line).await?;
                return Ok(shared.enter(&mut line, CollectionStage::Imported { id, rows, empty }).await?);
            }
            Outcome::Failed(reason) if line.attempts >= MAX_ATTEMPTS => {
                let message = format!("{}: the import failed {MAX_ATTEMPTS} times: {reason}", line.target);
                return Err(fatal(FailureCode::ImportFailed, message));
            }
            Outcome::Failed(_) => {
                if let CollectionStage::Built { imports, .. } = &line.stage {
                    let mut imported = shared.imported();
                    imported.jobs_done -= imports.completed.len() as u64;
                    imported.rows_done -= imports.rows;
                }
                // The collection is built from the beginning, so that no row is imported twice. The server's reason may
                // quote rows: it is not logged, and only the restore's caller sees it, if the last attempt fails.
                tracing::warn!(
                    attempts = line.attempts, collection = %line.target,
                    "an import failed: rebuilding the collection"
                );
                build_collection(shared, &mut line, &capture).await?;
            }
        }
    }
}

/// Waits until the imported rows are indexed. An index that can't be built is a warning.
async fn wait_for_indexes(shared: &Shared<'_>, line: &mut CollectionRestore) -> Step {
    let (name, what) = (shared.rebuilt(line), format!("indexing {}", line.target));
    match shared.wait_until(&what, async || Ok(shared.milvus.indexing(&name).await?.into())).await {
        Err(Halt::Error(Error::Milvus(MilvusError::Refused(reason)))) => {
            shared.warn(format!("{}: {reason}", line.target));
            line.lost_indexes.push(reason);
            Ok(())
        }
        ended => ended,
    }
}

/// The outcome of the imports into a collection.
enum Outcome {
    /// All jobs are completed. `empty` has the groups whose jobs imported no rows.
    Completed { rows: u64, empty: Vec<u32> },
    /// A job failed for this reason.
    Failed(String),
}

/// The imports into a collection.
///
/// A collection may have several jobs. Each is written to the ledger before the server is asked to begin it. Once a job
/// has failed, no other is begun, and those at work are waited for: if the collection were dropped, Milvus 2.3.5 would
/// leave the jobs behind the failed one pending forever.
pub(super) struct Importing<'s, 'a> {
    shared: &'s Shared<'a>,
    line: &'s mut CollectionRestore,
    id: i64,
    imports: Imports,
    /// The permits of the groups that are imported now.
    permits: BTreeMap<u32, SemaphorePermit<'s>>,
    /// Why a job failed, if this worker saw the reason.
    reason: Option<String>,
    /// When this worker last saved the jobs' states.
    saved_at: Option<Time>,
    /// Whether a job has made progress since.
    has_advanced: bool,
    /// When the server last had no room for another job.
    refused_at: Option<Time>,
}

impl<'s, 'a> Importing<'s, 'a> {
    pub(super) fn new(shared: &'s Shared<'a>, line: &'s mut CollectionRestore, id: i64, imports: Imports) -> Self {
        let permits = BTreeMap::new();
        Self { shared, line, id, imports, permits, reason: None, saved_at: None, has_advanced: false, refused_at: None }
    }

    /// Imports the groups that aren't imported yet.
    async fn run(mut self, capture: &CollectionCapture) -> Step<Outcome> {
        let groups = groups(capture, self.line.segments_per_job)?;
        self.find_unrecorded().await?;
        let (shared, what) = (self.shared, format!("the import into {}", self.line.target));
        shared
            .wait_until(&what, async || {
                if !self.has_failed() {
                    self.begin(&groups, capture).await?;
                }
                self.poll_jobs().await?;
                let is_all_begun = self.has_failed() || self.imports.begun() >= groups.len();
                Ok(if is_all_begun { self.state() } else { self.pending() })
            })
            .await?;
        Ok(match self.has_failed() {
            false => Outcome::Completed { rows: self.imports.rows, empty: self.empty_groups(&groups) },
            true => Outcome::Failed(self.reason.unwrap_or_else(|| "one of its jobs failed".to_owned())),
        })
    }

    /// Returns the groups whose jobs imported no rows.
    fn empty_groups(&self, groups: &[Group]) -> Vec<u32> {
        match self.imports.rows {
            0 => (0..).zip(groups).map(|(number, _)| number).collect(),
            _ => self.imports.empty.clone(),
        }
    }

    /// Begins no more jobs, and waits until those at work have ended, successfully or not.
    pub(super) async fn wait_until_ended(mut self) -> Step {
        self.find_unrecorded().await?;
        self.cancel_unbegun();
        let (shared, what) = (self.shared, format!("the import into {}", self.line.target));
        let ended = shared.wait_until(&what, async || {
            self.poll_jobs().await?;
            Ok(self.state())
        });
        ended.await
    }

    /// Returns whether all jobs have ended.
    fn state(&self) -> Poll {
        match self.imports.at_work.iter().all(|job| job.state == ImportState::Failed) {
            true => Poll::Done,
            false => self.pending(),
        }
    }

    /// Returns a pending state that always counts as progress: this module has its own limits for each job.
    fn pending(&self) -> Poll {
        Poll::Pending(self.now().timestamp_millis().cast_unsigned())
    }

    fn now(&self) -> Time {
        self.shared.now()
    }

    async fn save(&mut self) -> Step {
        (self.saved_at, self.has_advanced) = (Some(self.now()), false);
        let stage = CollectionStage::Built { id: Some(self.id), imports: self.imports.clone() };
        Ok(self.shared.enter(self.line, stage).await?)
    }

    fn has_failed(&self) -> bool {
        self.imports.at_work.iter().any(|job| job.state == ImportState::Failed)
    }

    /// Marks a group's job as failed, and begins no more jobs.
    fn fail(&mut self, group: u32, reason: String) {
        self.permits.remove(&group);
        self.set(group, ImportState::Failed);
        self.reason.get_or_insert(reason);
        self.cancel_unbegun();
    }

    /// Marks the jobs that haven't begun as failed.
    fn cancel_unbegun(&mut self) {
        let is_begun = |job: &ImportJob| matches!(job.state, ImportState::Started { .. });
        self.imports.at_work.iter_mut().filter(|job| !is_begun(job)).for_each(|job| job.state = ImportState::Failed);
    }

    /// Finds the jobs that a worker began without saving their IDs before it died.
    async fn find_unrecorded(&mut self) -> Step {
        let starting = self.imports.at_work.iter().filter(|job| job.state == ImportState::Starting);
        let starting: Vec<u32> = starting.map(|job| job.group).collect();
        if starting.is_empty() {
            return Ok(());
        }
        let mut found = import_tasks(self.shared, &self.shared.rebuilt(self.line)).await?.unwrap_or_default();
        let is_at_work =
            |job: &ImportJob, task| matches!(job.state, ImportState::Started { task: of, .. } if of == task);
        found.retain(|task| {
            !self.imports.completed.contains(task) && !self.imports.at_work.iter().any(|job| is_at_work(job, *task))
        });
        // If there are several, their groups are guessed: all have to be completed.
        let (is_guess, since) = (starting.len() > 1, self.now());
        let mut found = found.into_iter();
        for group in starting {
            match found.next() {
                Some(task) => {
                    self.set(group, ImportState::Started { task, progress: None, since });
                    self.imports.guessed.extend(Some(task).filter(|_| is_guess));
                }
                // The job may never have begun, or the server may have imported its rows and forgotten it. The other
                // jobs are waited for.
                None => {
                    self.fail(group, "it is unknown whether the job began".to_owned());
                    break;
                }
            }
        }
        self.save().await
    }

    /// Begins as many jobs as there is room for.
    async fn begin(&mut self, groups: &[Group], capture: &CollectionCapture) -> Step {
        let wanted = self.take_permits(groups).await;
        if wanted.is_empty() {
            return Ok(());
        }
        for group in &wanted {
            self.set(*group, ImportState::Starting);
        }
        self.save().await?;
        let (shared, name) = (self.shared, self.shared.rebuilt(self.line));
        let starts = wanted.into_iter().filter_map(|number| Some((number, groups.get(number as usize)?)));
        let starts = starts.map(|(number, group)| {
            let name = &name;
            async move { (number, start(shared, name, number, group, capture).await) }
        });
        let started: Vec<(u32, Step<i64>)> = stream::iter(starts).buffer_unordered(BATCH).collect().await;
        let (now, mut halted) = (self.now(), None);
        for (group, started) in started {
            match started {
                Ok(task) => self.set(group, ImportState::Started { task, progress: None, since: now }),
                Err(Halt::Error(Error::Milvus(MilvusError::RateLimited(reason)))) => self.postpone(group, reason, now),
                // The next attempt looks up whether the job began.
                Err(halt) => halted = Some(halt),
            }
        }
        self.save().await?;
        halted.map_or(Ok(()), Err)
    }

    /// Takes permits, and returns their groups: first those that the server had no room for, then the next ones.
    async fn take_permits(&mut self, groups: &[Group]) -> Vec<u32> {
        let (now, shared) = (self.now(), self.shared);
        if self.refused_at.is_some_and(|at| now - at < REFUSAL_BACKOFF) {
            return Vec::new();
        }
        let is_refused = |job: &&ImportJob| matches!(job.state, ImportState::Refused { .. });
        let mut is_idle = !self.imports.at_work.iter().any(|job| !is_refused(&job));
        let refused: Vec<u32> = self.imports.at_work.iter().filter(is_refused).map(|job| job.group).collect();
        let mut taken = Vec::new();
        let next = u32::try_from(self.imports.begun()).unwrap_or(u32::MAX)..;
        for number in refused.into_iter().chain(next).take(BATCH) {
            let Some(group) = groups.get(number as usize) else { break };
            let permit = match is_idle {
                // Without a job at work there is nothing else to do.
                true => shared.import_permit(group.segments.len()).await,
                false => shared.try_import_permit(group.segments.len()),
            };
            let Some(permit) = permit else { break };
            is_idle = false;
            self.permits.insert(number, permit);
            taken.push(number);
        }
        taken
    }

    fn set(&mut self, group: u32, state: ImportState) {
        match self.imports.at_work.iter_mut().find(|job| job.group == group) {
            Some(job) => job.state = state,
            None => self.imports.at_work.push(ImportJob { group, state }),
        }
    }

    /// Postpones a job for which the server has no room: 2.4 and later take `dataCoord.import.maxImportJobNum` of them,
    /// including other users' jobs.
    fn postpone(&mut self, group: u32, reason: String, now: Time) {
        self.refused_at = Some(now);
        self.permits.remove(&group);
        let before = self.imports.at_work.iter().find(|job| job.group == group).map(|job| job.state);
        let since = if let Some(ImportState::Refused { since }) = before { since } else { now };
        if now - since > QUEUE_TIMEOUT {
            return self.fail(group, reason);
        }
        self.set(group, ImportState::Refused { since });
    }

    /// Polls the jobs at work, and saves their ends and progress.
    async fn poll_jobs(&mut self) -> Step {
        let started = self.imports.at_work.iter().filter_map(|job| match job.state {
            ImportState::Started { task, .. } => Some((job.group, task)),
            ImportState::Starting | ImportState::Refused { .. } | ImportState::Failed => None,
        });
        let shared = self.shared;
        let polls = started.map(|(group, task)| async move { (group, task, shared.milvus.import_status(task).await) });
        let polls = stream::iter(polls.collect::<Vec<_>>());
        let polled: Vec<_> = polls.buffer_unordered(STATUS_REQUESTS).collect().await;
        let (now, mut has_ended, mut halted) = (self.now(), false, None);
        for (group, task, status) in polled {
            match status {
                Ok(ImportStatus::Completed { rows }) => {
                    self.imports.completed.push(task);
                    self.imports.rows += rows;
                    if rows == 0 && !self.imports.guessed.contains(&task) {
                        self.imports.empty.push(group);
                    }
                    self.permits.remove(&group);
                    self.imports.at_work.retain(|job| job.group != group);
                    // The progress doesn't count a collection that was given up.
                    if self.line.failure.is_none() {
                        let mut imported = shared.imported();
                        imported.jobs_done += 1;
                        imported.rows_done += rows;
                    }
                    has_ended = true;
                }
                // The server no longer knows the job.
                Ok(ImportStatus::Failed(reason)) | Err(MilvusError::Refused(reason)) => {
                    self.fail(group, reason);
                    has_ended = true;
                }
                Ok(ImportStatus::Running { progress }) => self.update(group, Some(progress), now),
                Ok(ImportStatus::Waiting) => self.update(group, None, now),
                Err(error) => halted = Some(error),
            }
        }
        if has_ended {
            self.refused_at = None;
        }
        // The first progress is saved at once: a slice may be shorter than the jobs' limits and than the interval.
        let is_due = self.saved_at.is_none_or(|at| now - at > SAVE_INTERVAL);
        if has_ended || (self.has_advanced && is_due) {
            self.save().await?;
        }
        halted.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Updates a job's progress. A job that makes none within the limit counts as failed: after a restart, a server
    /// forgets the work, but not the job (observed on 2.3.5, which leaves it "Started").
    fn update(&mut self, group: u32, current: Option<u64>, now: Time) {
        let Some(job) = self.imports.at_work.iter_mut().find(|job| job.group == group) else { return };
        let ImportState::Started { task, progress, since } = job.state else { return };
        // Milvus reports progress in percent of all of a job's segments.
        let parts = self.line.segments_per_job.div_ceil(SEGMENTS_PER_STALL_LIMIT);
        let parts = i32::try_from(parts).unwrap_or(i32::MAX).max(1);
        let limit = if current.is_some() { self.shared.jobs.settings.import_stall * parts } else { QUEUE_TIMEOUT };
        if current != progress {
            job.state = ImportState::Started { task, progress: current, since: now };
            self.has_advanced = true;
        } else if now - since > limit {
            self.fail(group, format!("no progress for {} s", limit.num_seconds()));
            self.has_advanced = true;
        }
    }
}

/// Begins a group's import job, and returns its ID.
async fn start(
    shared: &Shared<'_>,
    name: &CollectionName,
    number: u32,
    group: &Group,
    capture: &CollectionCapture,
) -> Step<i64> {
    let [insert_prefix, delta_prefix] = group.prefixes(&layout::staging(&shared.restore.id), number, capture.id);
    let request = ImportRequest {
        collection: name,
        partition: &group.partition,
        data: ImportData { insert_prefix: &insert_prefix, delta_prefix: &delta_prefix, storage: group.storage },
        end_timestamp: capture.flush_timestamp,
    };
    shared.watch(shared.milvus.import(request).await)
}

/// Returns a collection's import jobs, or `None` if the server doesn't name them.
async fn import_tasks(shared: &Shared<'_>, name: &CollectionName) -> Step<Option<Vec<i64>>> {
    match shared.milvus.import_tasks(name).await {
        Ok(ImportTasks::Named(tasks)) => Ok(Some(tasks)),
        Ok(ImportTasks::Unnamed) => Ok(None),
        // A worker died between dropping the collection and creating it again.
        Err(MilvusError::NoCollection(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
