//! IMPORT: the staged logs into the new collections, by jobs of the server's own, several of them side by side.

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
    build::make,
    groups::{Group, groups},
    ledger::AtOnce,
    poll::Wait,
    shared::Shared,
    work::Work,
};
use crate::{
    Error,
    engine::halt::{Halt, Step, fatal},
    snapshot::layout,
};

/// How often a collection is built before its import counts as failed.
const MAX_ATTEMPTS: u32 = 5;

/// Of so many segments in a job, one step of its progress comes within the limit.
const PATIENT_WITH: u32 = 16;

/// How long an import may wait for its turn behind others, not all of them ours.
const TURN: TimeDelta = TimeDelta::hours(1);

/// How long a server that has as many jobs as it takes isn't asked again, unless one of ours ends.
const ASK_AGAIN: TimeDelta = TimeDelta::seconds(5);

/// Jobs of one collection that are begun together: their states are written down together.
const BATCH: usize = 16;

/// Jobs asked about at once.
const QUESTIONS: usize = 8;

/// How old what is durable of the jobs' progress becomes; that they begin and end is written down at once.
const SAVE_PROGRESS: TimeDelta = TimeDelta::seconds(5);

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
    work.each_wanted(AtOnce::Many, async |shared, line| import_line(shared, line).await).await?;
    Ok(work.enter(RestorePhase::Verify).await?)
}

async fn import_line(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    let capture = match &line.stage {
        CollectionStage::Built { .. } => shared.capture(&line).await?,
        _ => return Ok(()),
    };
    loop {
        let CollectionStage::Built { id: Some(id), imports } = line.stage.clone() else {
            // Made by a worker that died before it was whole.
            make(shared, &mut line, &capture).await?;
            continue;
        };
        match Importing::new(shared, &mut line, id, imports).all(&capture).await? {
            Ended::Whole { rows, empty } => {
                index(shared, &mut line).await?;
                return Ok(shared.enter(&mut line, CollectionStage::Imported { id, rows, empty }).await?);
            }
            Ended::Failed(reason) if line.attempts >= MAX_ATTEMPTS => {
                let message = format!("{}: the import failed {MAX_ATTEMPTS} times: {reason}", line.target);
                return Err(fatal(FailureCode::ImportFailed, message));
            }
            Ended::Failed(_) => {
                if let CollectionStage::Built { imports, .. } = &line.stage {
                    let mut imported = shared.imported();
                    imported.jobs_done -= imports.completed.len() as u64;
                    imported.rows_done -= imports.rows;
                }
                // From the beginning, so that no row is loaded twice. The server's reason may quote rows: it is for the
                // restore's caller, who sees it if this goes on, and not for whoever reads logs.
                tracing::warn!(attempts = line.attempts, collection = %line.target, "an import failed: building the collection again");
                make(shared, &mut line, &capture).await?;
            }
        }
    }
}

/// Waits until the imported rows are indexed. An index that can't be built costs nobody the rows.
async fn index(shared: &Shared<'_>, line: &mut CollectionRestore) -> Step {
    let (name, what) = (shared.rebuilt(line), format!("the indexes of {}", line.target));
    match shared.wait_until(&what, async || Ok(shared.milvus.indexing(&name).await?.into())).await {
        Err(Halt::Error(Error::Milvus(MilvusError::Refused(reason)))) => {
            shared.warn(format!("{}: {reason}", line.target));
            line.lost_indexes.push(reason);
            Ok(())
        }
        ended => ended,
    }
}

/// How the imports into a collection ended.
enum Ended {
    Whole { rows: u64, empty: Vec<u32> },
    Failed(String),
}

/// The imports into a collection.
///
/// Jobs of one collection may be several: what of them is at work is in the ledger before it is asked for. Once one has
/// failed none is begun any more, and the others are waited for: Milvus 2.3.5 leaves jobs behind a failed one of a dropped
/// collection pending for ever.
pub(super) struct Importing<'s, 'a> {
    shared: &'s Shared<'a>,
    line: &'s mut CollectionRestore,
    id: i64,
    imports: Imports,
    /// Of the groups that are imported now.
    turns: BTreeMap<u32, SemaphorePermit<'s>>,
    /// Why one has failed, if this worker saw it.
    reason: Option<String>,
    /// When this worker last wrote down where the jobs stand, and whether one got further since.
    saved_at: Option<Time>,
    has_moved: bool,
    /// When the server had no room for another job.
    refused_at: Option<Time>,
}

impl<'s, 'a> Importing<'s, 'a> {
    pub(super) fn new(shared: &'s Shared<'a>, line: &'s mut CollectionRestore, id: i64, imports: Imports) -> Self {
        let turns = BTreeMap::new();
        Self { shared, line, id, imports, turns, reason: None, saved_at: None, has_moved: false, refused_at: None }
    }

    /// Imports what isn't imported yet.
    async fn all(mut self, capture: &CollectionCapture) -> Step<Ended> {
        let groups = groups(capture, self.line.segments_per_job)?;
        self.find_unrecorded().await?;
        let (shared, what) = (self.shared, format!("the import into {}", self.line.target));
        shared
            .wait_until(&what, async || {
                if !self.has_failed() {
                    self.begin(&groups, capture).await?;
                }
                self.look().await?;
                let is_all_begun = self.has_failed() || self.imports.begun() >= groups.len();
                Ok(if is_all_begun { self.wait() } else { self.at_work() })
            })
            .await?;
        Ok(match self.has_failed() {
            false => Ended::Whole { rows: self.imports.rows, empty: self.empty(&groups) },
            true => Ended::Failed(self.reason.unwrap_or_else(|| "one of its jobs failed".to_owned())),
        })
    }

    /// The groups whose jobs brought no row.
    fn empty(&self, groups: &[Group]) -> Vec<u32> {
        match self.imports.rows {
            0 => (0..).zip(groups).map(|(number, _)| number).collect(),
            _ => self.imports.empty.clone(),
        }
    }

    /// Waits until no job is at work any more, however they end.
    pub(super) async fn end(mut self) -> Step {
        self.find_unrecorded().await?;
        self.begin_no_more();
        let (shared, what) = (self.shared, format!("the import into {}", self.line.target));
        let ended = shared.wait_until(&what, async || {
            self.look().await?;
            Ok(self.wait())
        });
        ended.await
    }

    /// Whether no job is at work any more.
    fn wait(&self) -> Wait {
        match self.imports.at_work.iter().all(|job| job.state == ImportState::Failed) {
            true => Wait::Over,
            false => self.at_work(),
        }
    }

    /// The limits of jobs are here: to the restore, a server that answers is at work.
    fn at_work(&self) -> Wait {
        Wait::Further(self.now().timestamp_millis().cast_unsigned())
    }

    fn now(&self) -> Time {
        self.shared.now()
    }

    async fn save(&mut self) -> Step {
        (self.saved_at, self.has_moved) = (Some(self.now()), false);
        let stage = CollectionStage::Built { id: Some(self.id), imports: self.imports.clone() };
        Ok(self.shared.enter(self.line, stage).await?)
    }

    fn has_failed(&self) -> bool {
        self.imports.at_work.iter().any(|job| job.state == ImportState::Failed)
    }

    /// A group isn't imported: nothing more is begun.
    fn fail(&mut self, group: u32, reason: String) {
        self.turns.remove(&group);
        self.set(group, ImportState::Failed);
        self.reason.get_or_insert(reason);
        self.begin_no_more();
    }

    fn begin_no_more(&mut self) {
        let is_begun = |job: &ImportJob| matches!(job.state, ImportState::Started { .. });
        self.imports.at_work.iter_mut().filter(|job| !is_begun(job)).for_each(|job| job.state = ImportState::Failed);
    }

    /// Finds the jobs that a worker asked for and died before it wrote them down.
    async fn find_unrecorded(&mut self) -> Step {
        let starting = self.imports.at_work.iter().filter(|job| job.state == ImportState::Starting);
        let starting: Vec<u32> = starting.map(|job| job.group).collect();
        if starting.is_empty() {
            return Ok(());
        }
        let mut found = unrecorded(self.shared, &self.shared.rebuilt(self.line)).await?.unwrap_or_default();
        let is_at_work =
            |job: &ImportJob, task| matches!(job.state, ImportState::Started { task: of, .. } if of == task);
        found.retain(|task| {
            !self.imports.completed.contains(task) && !self.imports.at_work.iter().any(|job| is_at_work(job, *task))
        });
        // Which of them is of which group can't be told of several; all have to be completed.
        let (is_guess, since) = (starting.len() > 1, self.now());
        let mut found = found.into_iter();
        for group in starting {
            match found.next() {
                Some(task) => {
                    self.set(group, ImportState::Started { task, progress: None, since });
                    self.imports.guessed.extend(Some(task).filter(|_| is_guess));
                }
                // Perhaps it never began; perhaps its rows are there, and the server has forgotten it. The others are
                // waited for.
                None => {
                    self.fail(group, "whether it began isn't known".to_owned());
                    break;
                }
            }
        }
        self.save().await
    }

    /// Begins as many jobs as there is room for.
    async fn begin(&mut self, groups: &[Group], capture: &CollectionCapture) -> Step {
        let wanted = self.take_turns(groups).await;
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
                Err(Halt::Error(Error::Milvus(MilvusError::RateLimited(reason)))) => self.refused(group, reason, now),
                // Whether it began is looked up by whoever comes next.
                Err(halt) => halted = Some(halt),
            }
        }
        self.save().await?;
        halted.map_or(Ok(()), Err)
    }

    /// The groups whose turn it is: those that the server had no room for, then those that come next.
    async fn take_turns(&mut self, groups: &[Group]) -> Vec<u32> {
        let (now, shared) = (self.now(), self.shared);
        if self.refused_at.is_some_and(|at| now - at < ASK_AGAIN) {
            return Vec::new();
        }
        let is_refused = |job: &&ImportJob| matches!(job.state, ImportState::Refused { .. });
        let mut is_idle = !self.imports.at_work.iter().any(|job| !is_refused(&job));
        let refused: Vec<u32> = self.imports.at_work.iter().filter(is_refused).map(|job| job.group).collect();
        let mut taken = Vec::new();
        let fresh = u32::try_from(self.imports.begun()).unwrap_or(u32::MAX)..;
        for number in refused.into_iter().chain(fresh).take(BATCH) {
            let Some(group) = groups.get(number as usize) else { break };
            let turn = match is_idle {
                // Until then there is nothing to look after.
                true => shared.import_turn(group.segments.len()).await,
                false => shared.import_turn_now(group.segments.len()),
            };
            let Some(turn) = turn else { break };
            is_idle = false;
            self.turns.insert(number, turn);
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

    /// The server has no room for a job: 2.4 and later take `dataCoord.import.maxImportJobNum` of them, other users' included.
    fn refused(&mut self, group: u32, reason: String, now: Time) {
        self.refused_at = Some(now);
        self.turns.remove(&group);
        let before = self.imports.at_work.iter().find(|job| job.group == group).map(|job| job.state);
        let since = if let Some(ImportState::Refused { since }) = before { since } else { now };
        if now - since > TURN {
            return self.fail(group, reason);
        }
        self.set(group, ImportState::Refused { since });
    }

    /// Asks how the jobs that are at work are.
    async fn look(&mut self) -> Step {
        let started = self.imports.at_work.iter().filter_map(|job| match job.state {
            ImportState::Started { task, .. } => Some((job.group, task)),
            ImportState::Starting | ImportState::Refused { .. } | ImportState::Failed => None,
        });
        let shared = self.shared;
        let asked = started.map(|(group, task)| async move { (group, task, shared.milvus.import_status(task).await) });
        let answers: Vec<_> = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(QUESTIONS).collect().await;
        let (now, mut has_ended, mut halted) = (self.now(), false, None);
        for (group, task, status) in answers {
            match status {
                Ok(ImportStatus::Completed { rows }) => {
                    self.imports.completed.push(task);
                    self.imports.rows += rows;
                    if rows == 0 && !self.imports.guessed.contains(&task) {
                        self.imports.empty.push(group);
                    }
                    self.turns.remove(&group);
                    self.imports.at_work.retain(|job| job.group != group);
                    // What was given up counts no more.
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
                Ok(ImportStatus::Running { progress }) => self.see(group, Some(progress), now),
                Ok(ImportStatus::Waiting) => self.see(group, None, now),
                Err(error) => halted = Some(error),
            }
        }
        if has_ended {
            self.refused_at = None;
        }
        // Durable, the first at once: slices may be shorter than the limits, and than this.
        let is_due = self.saved_at.is_none_or(|at| now - at > SAVE_PROGRESS);
        if has_ended || (self.has_moved && is_due) {
            self.save().await?;
        }
        halted.map_or(Ok(()), |error| Err(error.into()))
    }

    /// A job is seen to be this far. One that has started and gets no further for the limit counts as failed: a server that
    /// was restarted forgets the work, but not the job (seen on 2.3.5, which leaves it "Started").
    fn see(&mut self, group: u32, seen: Option<u64>, now: Time) {
        let Some(job) = self.imports.at_work.iter_mut().find(|job| job.group == group) else { return };
        let ImportState::Started { task, progress, since } = job.state else { return };
        // Progress is told in percents of all of a job's segments.
        let parts = i32::try_from(self.line.segments_per_job.div_ceil(PATIENT_WITH)).unwrap_or(i32::MAX).max(1);
        let patience = if seen.is_some() { self.shared.jobs.settings.import_stall * parts } else { TURN };
        if seen != progress {
            job.state = ImportState::Started { task, progress: seen, since: now };
            self.has_moved = true;
        } else if now - since > patience {
            self.fail(group, format!("no progress for {} s", patience.num_seconds()));
            self.has_moved = true;
        }
    }
}

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
    shared.sure(shared.milvus.import(request).await)
}

/// The jobs of a collection, where the server tells.
async fn unrecorded(shared: &Shared<'_>, name: &CollectionName) -> Step<Option<Vec<i64>>> {
    match shared.milvus.import_tasks(name).await {
        Ok(ImportTasks::Named(tasks)) => Ok(Some(tasks)),
        Ok(ImportTasks::Unnamed) => Ok(None),
        // Dropped by a worker that died before it made it again.
        Err(MilvusError::NoCollection(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
