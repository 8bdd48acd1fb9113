//! FLUSH: captures every collection at a stated point in time, page by page.
//!
//! The survey lists the collections by id. It is durable, so that every slice continues with the same list. Once all
//! are captured, their names are compared with the server's: collections created during the captures are added, and no
//! two captures keep one name.

use std::pin::pin;

use futures::{StreamExt, stream};
use milvault_model::{
    BackupPhase, DatabaseCapture, FailureCode, Flushing, LeftOutCause, PageSet, Pass, Planning, Visibility,
};
use milvault_ports::{Milvus, MilvusError};

use super::{
    capture::{Captured, Capturer, FLUSHES_IN_FLIGHT},
    changes::Changes,
    lines::{self, CaptureLine, dropped, left_out, troubled},
    recapture::{Range, recapture},
    survey::{self, CaptureTarget, Selected, Survey},
    work::Work,
};
use crate::{
    Error,
    engine::{
        halt::{Halt, Step, fatal},
        lease::run_until,
    },
    snapshot::{
        layout::PageKind,
        pages::{COLLECTIONS_PER_PAGE, SEGMENTS_PER_PAGE},
    },
};

/// Captures collections until all are captured or the time is over.
pub(crate) async fn flush(work: &mut Work<'_>, mut flushing: Flushing) -> Step {
    match flushing.again.take() {
        None => flush_next(work, flushing).await,
        Some(again) => flush_again(work, flushing, again).await,
    }
}

async fn flush_next(work: &mut Work<'_>, mut flushing: Flushing) -> Step {
    let milvus = work.milvus().await?;
    let mut page = Page::default();
    let mut targets = match &work.run.survey {
        Some(pages) => survey::read(&work.folder(), pages).await?,
        None => {
            let survey = survey::take(work, milvus.as_ref()).await?;
            survey::require_matches(work, &survey)?;
            page.lines = instance_lines(work, milvus.as_ref(), &survey).await?;
            page.survey = Some(survey::write(&work.folder(), work.lease.fence, &survey.targets).await?);
            survey.targets
        }
    };
    if let Some(after) = &flushing.after {
        targets.retain(|target| target.id.to_string() > *after);
    }
    let (jobs, deadline) = (work.jobs, work.deadline);
    let capturer = Capturer::new(work, milvus.as_ref(), &flushing.troubled)?;
    let captures = stream::iter(targets).map(|target| async {
        let captured = capturer.capture(&target).await;
        (target, captured)
    });
    let mut captures = pin!(captures.buffered(FLUSHES_IN_FLIGHT));
    loop {
        let Some(next) = run_until(jobs, deadline, captures.next()).await else {
            flushing.troubled = capturer.troubled();
            page.write(work, &mut flushing).await?;
            work.note(BackupPhase::Flush(flushing)).await?;
            return Err(Halt::OutOfTime);
        };
        let Some((target, captured)) = next else { break };
        let captured = match captured {
            Ok(captured) => captured,
            Err(error) => {
                // Completed captures are kept, and the flush of a large collection that made progress counts as
                // progress.
                page.write(work, &mut flushing).await?;
                if capturer.progressed_at().is_some_and(|progressed_at| progressed_at > work.run.advanced_at) {
                    work.enter(BackupPhase::Flush(flushing)).await?;
                }
                return Err(error.into());
            }
        };
        let line = line_of(milvus.as_ref(), &target, captured).await?;
        if matches!(&line, CaptureLine::Collection(captured) if captured.capture.name != target.name) {
            flushing.renamed += 1;
        }
        page.add(line);
        flushing.after = Some(target.id.to_string());
        if page.is_full() {
            flushing.troubled = capturer.troubled();
            page.write(work, &mut flushing).await?;
        }
    }
    page.write(work, &mut flushing).await?;
    finish(work, milvus.as_ref(), flushing, None).await
}

/// Turns the outcome of a capture into a line, or an error that ends the backup.
async fn line_of(milvus: &dyn Milvus, target: &CaptureTarget, captured: Captured) -> Step<CaptureLine> {
    match (captured, &target.selected) {
        (Captured::Whole(capture), selected) => Ok(lines::captured(*capture, selected.clone())),
        (Captured::Dropped, Selected::ByPattern) => Ok(dropped(target, "dropped before its flush")),
        // Another collection has the selected name now: it is added once all are captured.
        (Captured::Dropped, Selected::ByName(_)) if milvus.collection_id(&target.name).await?.is_some() => {
            Ok(dropped(target, "dropped before its flush, and its name given to another collection"))
        }
        (Captured::Dropped, Selected::ByName(_)) => {
            let message = format!("{} was dropped before its flush", target.name);
            Err(fatal(FailureCode::CollectionDropped, message))
        }
        (Captured::Trouble(failure), selected) => troubled(target.id, &target.name, selected, &failure),
    }
}

/// A page of the capture that isn't written yet.
#[derive(Default)]
struct Page {
    lines: Vec<CaptureLine>,
    segments: usize,
    /// The survey, with the first page: it is recorded once the lines of that page are durable.
    survey: Option<PageSet>,
}

impl Page {
    fn add(&mut self, line: CaptureLine) {
        if let CaptureLine::Collection(collection) = &line {
            self.segments +=
                collection.capture.segments.iter().map(|segment| 1 + segment.delta_logs.len()).sum::<usize>();
        }
        self.lines.push(line);
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= COLLECTIONS_PER_PAGE || self.segments >= SEGMENTS_PER_PAGE
    }

    /// Writes the page, if there is anything in it, and begins another.
    async fn write(&mut self, work: &mut Work<'_>, flushing: &mut Flushing) -> Result<(), Error> {
        let page = std::mem::take(self);
        if page.lines.is_empty() {
            return Ok(());
        }
        work.folder()
            .write(&PageKind::Capture.key_with_fence(work.lease.fence, flushing.capture.count), &page.lines)
            .await?;
        flushing.capture.push(work.lease.fence);
        work.run.survey = page.survey.or(work.run.survey.take());
        work.enter(BackupPhase::Flush(flushing.clone())).await
    }
}

/// Captures everything except collections: databases, access control and the user. Leaves out collections of restores.
async fn instance_lines(work: &Work<'_>, milvus: &dyn Milvus, survey: &Survey) -> Step<Vec<CaptureLine>> {
    let mut principal = milvus.principal().await?;
    let reason = "created by a restore: being rebuilt, or kept for a rollback";
    let mut lines: Vec<CaptureLine> = survey
        .restores
        .iter()
        .map(|(name, id)| left_out(name.clone(), *id, reason.to_owned(), LeftOutCause::Restores))
        .collect();
    for database in &survey.databases {
        let properties = match milvus.database_properties(database).await {
            Ok(properties) => properties,
            Err(error) => {
                let reason = format!("the properties of database '{database}' cannot be read: {}", refusal(error)?);
                // Collections that are hidden from the user matter more than properties that it may not read.
                if principal.visibility == Visibility::Everything {
                    principal.visibility = Visibility::Unsure { reason };
                }
                Vec::new()
            }
        };
        lines.push(CaptureLine::Database(DatabaseCapture { name: database.clone(), properties }));
    }
    match milvus.access_control().await {
        Ok(found) => lines.extend(found.map(CaptureLine::AccessControl)),
        // The registered user may lack this privilege, which the collections don't need.
        Err(error) => {
            let reason = refusal(error)?;
            tracing::warn!(reason, backup = %work.backup.id, "users, roles and grants are not captured");
        }
    }
    lines.push(CaptureLine::Principal(principal));
    Ok(lines)
}

/// Returns the reason of a permanent refusal; errors that may pass are returned as errors.
fn refusal(error: MilvusError) -> Step<String> {
    match error {
        MilvusError::Unreachable(_) | MilvusError::NotReady(_) | MilvusError::RateLimited(_) => Err(error.into()),
        error => Ok(error.to_string()),
    }
}

/// Continues with PLAN, unless names moved to other or new collections during the captures.
async fn finish(work: &mut Work<'_>, milvus: &dyn Milvus, mut flushing: Flushing, earlier: Option<Pass>) -> Step {
    let changes = Changes::find(work, milvus, &flushing).await?;
    flushing.reconciled += 1;
    if !changes.is_empty() {
        let earlier = earlier.unwrap_or_default();
        let again = Pass {
            capture: flushing.capture,
            plan: earlier.plan,
            collections: earlier.collections.into_iter().chain(changes.again).collect(),
            unexplained: changes.nameless,
            superseded: changes.superseded,
            left_out: changes.left_out,
        };
        let Flushing { reconciled, renamed, .. } = flushing;
        let (again, restless) = (Some(again), changes.restless);
        let flushing = Flushing { reconciled, restless, renamed, again, ..Flushing::default() };
        let reason = "collections were created or renamed while others were captured".to_owned();
        return work.enter_round(BackupPhase::Flush(flushing), reason).await;
    }
    // Without an earlier plan, all collections are planned.
    let again = earlier.filter(|again| again.plan.count > 0);
    let planning = Planning { capture: flushing.capture, again, ..Planning::default() };
    Ok(work.enter(BackupPhase::Plan(planning)).await?)
}

/// Copies the next page of the earlier capture, captures the collections whose source changed, and adds new ones.
async fn flush_again(work: &mut Work<'_>, mut flushing: Flushing, again: Pass) -> Step {
    let milvus = work.milvus().await?;
    let number = flushing.capture.count;
    if number == 0 {
        work.pause_before_round().await?;
    }
    if number == again.capture.count {
        return finish(work, milvus.as_ref(), flushing, Some(again)).await;
    }
    let mut lines: Vec<CaptureLine> = work.folder().read(&PageKind::Capture.key(&again.capture, number)).await?;
    let capturer = Capturer::new(work, milvus.as_ref(), &flushing.troubled)?;
    let range = Range {
        after: flushing.after.clone(),
        // Collections that sort behind the last page are added to it. A page without collections gets none.
        until: match number + 1 == again.capture.count {
            true => None,
            false => Some(last_of(&lines).or_else(|| flushing.after.clone()).unwrap_or_default()),
        },
    };
    let recaptured = recapture(work, &capturer, &mut lines, &again, &range);
    match run_until(work.jobs, work.deadline, recaptured).await {
        Some(done) => done?,
        None => {
            flushing.troubled = capturer.troubled();
            flushing.again = Some(again);
            work.note(BackupPhase::Flush(flushing)).await?;
            return Err(Halt::OutOfTime);
        }
    }
    flushing.after = last_of(&lines).or(flushing.after);
    work.folder().write(&PageKind::Capture.key_with_fence(work.lease.fence, number), &lines).await?;
    flushing.capture.push(work.lease.fence);
    flushing.again = Some(again);
    Ok(work.enter(BackupPhase::Flush(flushing)).await?)
}

/// The id of the last collection of a page.
fn last_of(lines: &[CaptureLine]) -> Option<String> {
    lines.iter().rev().find_map(|line| match line {
        CaptureLine::Collection(line) => Some(line.capture.id.to_string()),
        _ => None,
    })
}
