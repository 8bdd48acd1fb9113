//! FLUSH: every collection at a stated point in time, a page of them after the other.
//!
//! The survey says which collections, by id; it is durable, so that each slice goes on with the same list. Once all are
//! captured, their names are compared with the server's: what was made anew meanwhile is added, and no two captures keep
//! one name.

use std::pin::pin;

use futures::{StreamExt, stream};
use milvault_model::{
    Again, BackupPhase, DatabaseCapture, FailureCode, Flushing, LeftOutCause, PageSet, Planning, Visibility,
};
use milvault_ports::{Milvus, MilvusError};

use super::{
    capture::{Captured, Capturing, FLUSHES_IN_FLIGHT},
    changes::Changes,
    found::{Found, Taken, dropped, left_out, troubled},
    recapture::{Range, recapture},
    survey::{self, Asked, Survey, Wanted},
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

/// Captures collections until all are or the time is over.
pub(crate) async fn flush(work: &mut Work<'_>, mut flushing: Flushing) -> Step {
    match flushing.again.take() {
        None => flush_next(work, flushing).await,
        Some(again) => flush_again(work, flushing, again).await,
    }
}

async fn flush_next(work: &mut Work<'_>, mut flushing: Flushing) -> Step {
    let milvus = work.milvus().await?;
    let mut page = Page::default();
    let mut wanted = match &work.run.survey {
        Some(pages) => survey::read(&work.folder(), pages).await?,
        None => {
            let survey = survey::take(work, milvus.as_ref()).await?;
            survey::require_matches(work, &survey)?;
            page.lines = beside(work, milvus.as_ref(), &survey).await?;
            page.survey = Some(survey::write(&work.folder(), work.lease.fence, &survey.wanted).await?);
            survey.wanted
        }
    };
    if let Some(after) = &flushing.after {
        wanted.retain(|wanted| wanted.id.to_string() > *after);
    }
    let (jobs, deadline) = (work.jobs, work.deadline);
    let capturing = Capturing::new(work, milvus.as_ref(), &flushing.troubled)?;
    let captures = stream::iter(wanted).map(|wanted| async {
        let captured = capturing.capture(&wanted).await;
        (wanted, captured)
    });
    let mut captures = pin!(captures.buffered(FLUSHES_IN_FLIGHT));
    loop {
        let Some(next) = run_until(jobs, deadline, captures.next()).await else {
            flushing.troubled = capturing.troubled();
            page.write(work, &mut flushing).await?;
            work.note(BackupPhase::Flush(flushing)).await?;
            return Err(Halt::OutOfTime);
        };
        let Some((wanted, captured)) = next else { break };
        let captured = match captured {
            Ok(captured) => captured,
            Err(error) => {
                // What was captured needn't be captured again, and the flush of a large collection gets on beside it.
                page.write(work, &mut flushing).await?;
                if capturing.moved_at().is_some_and(|moved_at| moved_at > work.run.advanced_at) {
                    work.enter(BackupPhase::Flush(flushing)).await?;
                }
                return Err(error.into());
            }
        };
        let found = found(milvus.as_ref(), &wanted, captured).await?;
        if matches!(&found, Found::Collection(taken) if taken.capture.name != wanted.name) {
            flushing.renamed += 1;
        }
        page.add(found);
        flushing.after = Some(wanted.id.to_string());
        if page.is_full() {
            flushing.troubled = capturing.troubled();
            page.write(work, &mut flushing).await?;
        }
    }
    page.write(work, &mut flushing).await?;
    finish(work, milvus.as_ref(), flushing, None).await
}

/// What a capture means for the backup.
async fn found(milvus: &dyn Milvus, wanted: &Wanted, captured: Captured) -> Step<Found> {
    match (captured, &wanted.asked) {
        (Captured::Whole(capture), asked) => {
            Ok(Found::Collection(Box::new(Taken { capture: *capture, asked: asked.clone() })))
        }
        (Captured::Dropped, Asked::ByPattern) => Ok(dropped(wanted, "dropped before its flush")),
        // Another collection has the name that was asked for: it is added once all are captured.
        (Captured::Dropped, Asked::ByName(_)) if milvus.collection_id(&wanted.name).await?.is_some() => {
            Ok(dropped(wanted, "dropped before its flush, and its name given to another collection"))
        }
        (Captured::Dropped, Asked::ByName(_)) => {
            let message = format!("{} was dropped before its flush", wanted.name);
            Err(fatal(FailureCode::CollectionDropped, message))
        }
        (Captured::Trouble(failure), asked) => troubled(wanted.id, &wanted.name, asked, &failure),
    }
}

/// A page of what was found.
#[derive(Default)]
struct Page {
    lines: Vec<Found>,
    segments: usize,
    /// The survey, on the first page: it counts once what is on that page is durable.
    survey: Option<PageSet>,
}

impl Page {
    fn add(&mut self, found: Found) {
        if let Found::Collection(taken) = &found {
            self.segments += taken.capture.segments.iter().map(|segment| 1 + segment.delta_logs.len()).sum::<usize>();
        }
        self.lines.push(found);
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
        work.folder().write(&PageKind::Capture.key_of(work.lease.fence, flushing.capture.count), &page.lines).await?;
        flushing.capture.push(work.lease.fence);
        work.run.survey = page.survey.or(work.run.survey.take());
        work.enter(BackupPhase::Flush(flushing.clone())).await
    }
}

/// What is captured beside collections, once.
async fn beside(work: &Work<'_>, milvus: &dyn Milvus, survey: &Survey) -> Step<Vec<Found>> {
    let mut principal = milvus.principal().await?;
    let made_by_restore = "made by a restore: being rebuilt, or kept for a rollback";
    let mut beside: Vec<Found> = survey
        .restores
        .iter()
        .map(|(name, id)| left_out(name.clone(), *id, made_by_restore.to_owned(), LeftOutCause::Restores))
        .collect();
    for database in &survey.databases {
        let properties = match milvus.database_properties(database).await {
            Ok(properties) => properties,
            Err(error) => {
                let reason = format!("the properties of database '{database}' can't be read: {}", refusal(error)?);
                // What the user may not see weighs more than what it may not read.
                if principal.visibility == Visibility::Everything {
                    principal.visibility = Visibility::Unsure { reason };
                }
                Vec::new()
            }
        };
        beside.push(Found::Database(DatabaseCapture { name: database.clone(), properties }));
    }
    match milvus.access_control().await {
        Ok(found) => beside.extend(found.map(Found::AccessControl)),
        // The user that we are registered as may not ask for it, and need not for the collections.
        Err(error) => {
            let reason = refusal(error)?;
            tracing::warn!(reason, backup = %work.backup.id, "users, roles and grants aren't captured");
        }
    }
    beside.push(Found::Principal(principal));
    Ok(beside)
}

/// What a server says that doesn't do something for us, and never will.
fn refusal(error: MilvusError) -> Step<String> {
    match error {
        MilvusError::Unreachable(_) | MilvusError::NotReady(_) | MilvusError::RateLimited(_) => Err(error.into()),
        error => Ok(error.to_string()),
    }
}

/// All are captured: goes on to PLAN, unless names went from one collection to another, or to a new one, meanwhile.
async fn finish(work: &mut Work<'_>, milvus: &dyn Milvus, mut flushing: Flushing, earlier: Option<Again>) -> Step {
    let changes = Changes::since(work, milvus, &flushing).await?;
    flushing.reconciled += 1;
    if !changes.is_none() {
        let earlier = earlier.unwrap_or_default();
        let again = Again {
            capture: flushing.capture,
            plan: earlier.plan,
            collections: earlier.collections.into_iter().chain(changes.again).collect(),
            unexplained: changes.homeless,
            superseded: changes.superseded,
            left_out: changes.left_out,
        };
        let Flushing { reconciled, renamed, .. } = flushing;
        let (again, restless) = (Some(again), changes.restless);
        let flushing = Flushing { reconciled, restless, renamed, again, ..Flushing::default() };
        let reason = "collections were made or renamed while others were captured".to_owned();
        return work.enter_round(BackupPhase::Flush(flushing), reason).await;
    }
    // Without an earlier plan all of it is planned.
    let again = earlier.filter(|again| again.plan.count > 0);
    let planning = Planning { capture: flushing.capture, again, ..Planning::default() };
    Ok(work.enter(BackupPhase::Plan(planning)).await?)
}

/// Copies the next page of the earlier capture, with the collections captured anew whose source changed, and those added
/// that are new.
async fn flush_again(work: &mut Work<'_>, mut flushing: Flushing, again: Again) -> Step {
    let milvus = work.milvus().await?;
    let number = flushing.capture.count;
    if number == 0 {
        work.pause_before_round().await?;
    }
    if number == again.capture.count {
        return finish(work, milvus.as_ref(), flushing, Some(again)).await;
    }
    let mut lines: Vec<Found> = work.folder().read(&PageKind::Capture.key(&again.capture, number)).await?;
    let capturing = Capturing::new(work, milvus.as_ref(), &flushing.troubled)?;
    let range = Range {
        after: flushing.after.clone(),
        // What sorts behind the last page is added to it; to one without collections, nothing.
        until: match number + 1 == again.capture.count {
            true => None,
            false => Some(last_of(&lines).or_else(|| flushing.after.clone()).unwrap_or_default()),
        },
    };
    let recaptured = recapture(work, &capturing, &mut lines, &again, &range);
    match run_until(work.jobs, work.deadline, recaptured).await {
        Some(done) => done?,
        None => {
            flushing.troubled = capturing.troubled();
            flushing.again = Some(again);
            work.note(BackupPhase::Flush(flushing)).await?;
            return Err(Halt::OutOfTime);
        }
    }
    flushing.after = last_of(&lines).or(flushing.after);
    work.folder().write(&PageKind::Capture.key_of(work.lease.fence, number), &lines).await?;
    flushing.capture.push(work.lease.fence);
    flushing.again = Some(again);
    Ok(work.enter(BackupPhase::Flush(flushing)).await?)
}

/// The last collection of a page, by id.
fn last_of(lines: &[Found]) -> Option<String> {
    lines.iter().rev().find_map(|line| match line {
        Found::Collection(taken) => Some(taken.capture.id.to_string()),
        _ => None,
    })
}
