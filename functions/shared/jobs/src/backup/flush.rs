//! FLUSH: every collection at a stated point in time, a page of them after the other.
//!
//! The survey says which collections, by id; it is durable, so that each slice goes on with the same list. Once all are
//! captured, their names are compared with the server's: what was made anew meanwhile is added, and no two captures keep
//! one name.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    pin::pin,
};

use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{
    Again, BackupPhase, CollectionCapture, CollectionName, CollectionPattern, DatabaseCapture, Failure, FailureCode,
    Flushing, LeftOut, LeftOutCause, PageSet, Planning, Principal, Unexplained, Unsettled, Visibility,
};
use milvault_ports::{Milvus, MilvusError};
use serde::{Deserialize, Serialize};

use super::{
    capture::{Captured, Capturing},
    patience::{Patience, Verdict},
    survey::{self, Asked, Survey, Wanted},
    work::Work,
};
use crate::{
    Error,
    engine::{
        halt::{Halt, Step, fatal},
        lease::before,
    },
    snapshot::{
        layout::PageKind,
        pages::{COLLECTIONS_PER_PAGE, Folder, SEGMENTS_PER_PAGE},
    },
};

/// Collections flushed at once: each flush waits seconds for the server, which works on them side by side.
const FLUSHES_IN_FLIGHT: usize = 8;

/// How often collections that were made while the backup ran are added to it.
pub(super) const ADDITIONS: u32 = 1;

/// For how long a name is followed that goes from one collection to another. Then the collections that had it are left out.
const NAMES: Patience = Patience { rounds: 5, lasts: TimeDelta::seconds(300) };

/// The most collections that a message names.
const NAMED: usize = 5;

/// A line of a capture's pages: what FLUSH found.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Found {
    Principal(Principal),
    Database(DatabaseCapture),
    AccessControl(String),
    Collection(Box<Taken>),
    LeftOut(LeftOut),
}

/// A captured collection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(super) capture: CollectionCapture,
    pub(super) asked: Asked,
}

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
        let Some(next) = before(jobs, deadline, captures.next()).await else {
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

fn dropped(wanted: &Wanted, reason: &str) -> Found {
    left_out(wanted.name.clone(), wanted.id, reason.to_owned(), LeftOutCause::Dropped)
}

/// A collection that can't be captured is left out, unless it was asked for by name: then the backup fails.
fn troubled(id: i64, name: &CollectionName, asked: &Asked, failure: &Failure) -> Step<Found> {
    match asked {
        Asked::ByPattern => Ok(Found::LeftOut(LeftOut {
            collection: name.clone(),
            id: Some(id),
            reason: failure.message.clone(),
            cause: LeftOutCause::Trouble,
            code: Some(failure.code),
        })),
        Asked::ByName(_) => Err(fatal(failure.code, format!("{name}: {}", failure.message))),
    }
}

fn left_out(collection: CollectionName, id: i64, reason: String, cause: LeftOutCause) -> Found {
    Found::LeftOut(LeftOut { collection, id: Some(id), reason, cause, code: None })
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

/// What happened to names while collections were captured.
#[derive(Default)]
struct Changes {
    /// Collections to capture, or to capture again.
    again: BTreeSet<i64>,
    /// Collections whose names others have, again and again.
    homeless: Vec<Unexplained>,
    /// See [`Again::superseded`].
    superseded: BTreeSet<i64>,
    /// What was made again and again.
    left_out: Vec<LeftOut>,
    /// See [`Flushing::restless`].
    restless: Vec<Unsettled<CollectionName>>,
}

impl Changes {
    fn is_none(&self) -> bool {
        self.again.is_empty() && self.homeless.is_empty() && self.superseded.is_empty() && self.left_out.is_empty()
    }

    async fn since(work: &Work<'_>, milvus: &dyn Milvus, flushing: &Flushing) -> Step<Self> {
        let folder = work.folder();
        let surveyed: BTreeMap<i64, CollectionName> = match &work.run.survey {
            Some(pages) => survey::read(&folder, pages).await?.into_iter().map(|w| (w.id, w.name)).collect(),
            None => BTreeMap::new(),
        };
        let survey = survey::take(work, milvus).await?;
        let now = survey.names();
        if flushing.renamed == 0 && flushing.reconciled == 0 && now.keys().all(|id| surveyed.contains_key(id)) {
            // Each has the name that it was surveyed with, and nothing is new.
            return Ok(Self::default());
        }
        let mut captured: BTreeMap<CollectionName, Vec<i64>> = BTreeMap::new();
        let mut renamed = Vec::new();
        let (mut dropped, mut given_up) = (BTreeSet::new(), BTreeSet::new());
        let mut done: BTreeSet<i64> = BTreeSet::new();
        for number in 0..flushing.capture.count {
            for line in folder.read(&PageKind::Capture.key(&flushing.capture, number)).await? {
                match line {
                    Found::Collection(taken) => {
                        done.insert(taken.capture.id);
                        if let Asked::ByName(name) = taken.asked
                            && !CollectionPattern::selects(&work.backup.selection, &taken.capture.name)
                        {
                            renamed.push((taken.capture.id, name));
                        }
                        captured.entry(taken.capture.name).or_default().push(taken.capture.id);
                    }
                    Found::LeftOut(out) if out.cause == LeftOutCause::Dropped => drop(dropped.insert(out.collection)),
                    Found::LeftOut(out) => drop(given_up.insert(out.collection)),
                    _ => {}
                }
            }
        }
        let mut changes = Self::default();
        let (mut restless, at) = (flushing.restless.clone(), work.jobs.now());
        let mut moved = HashSet::new();
        let mut judge = |name: &CollectionName| {
            moved.insert(name.clone());
            NAMES.judge(&mut restless, name.clone(), at)
        };
        let made = now.iter().filter(|(id, name)| !done.contains(id) && !given_up.contains(**name));
        for (id, name) in made {
            let is_missed = dropped.contains(*name)
                || surveyed.values().any(|surveyed| surveyed == *name)
                || renamed.iter().any(|(_, asked)| asked == *name);
            let is_remade = is_missed && !captured.contains_key(*name);
            let is_new = flushing.reconciled < ADDITIONS && !surveyed.contains_key(id);
            if !is_remade && !is_new {
                continue;
            }
            match judge(name) {
                Verdict::Again => drop(changes.again.insert(*id)),
                Verdict::GiveUp(_) if is_remade => changes.left_out.push(remade(*id, (*name).clone())),
                Verdict::GiveUp(_) => {}
            }
        }
        // Another collection has the name that was asked for, and is in the backup.
        let is_superseded = |name: &CollectionName| captured.contains_key(name);
        changes.superseded.extend(renamed.iter().filter(|(_, name)| is_superseded(name)).map(|(id, _)| *id));
        for (name, ids) in captured.into_iter().filter(|(_, ids)| ids.len() > 1) {
            // The one that has the name keeps it; the others had it before.
            let others = ids.into_iter().filter(|id| now.get(id) != Some(&&name));
            match judge(&name) {
                Verdict::Again => changes.again.extend(others),
                Verdict::GiveUp(_) => changes.homeless.extend(others.map(|collection| Unexplained {
                    collection,
                    code: FailureCode::SourceChanged,
                    reason: "its name went to other collections all the while it was captured".to_owned(),
                })),
            }
        }
        // A name that was found in its place this time is counted from the beginning if it moves later.
        restless.retain(|restless| moved.contains(&restless.what));
        changes.restless = restless;
        Ok(changes)
    }
}

fn remade(id: i64, collection: CollectionName) -> LeftOut {
    LeftOut {
        collection,
        id: Some(id),
        reason: "it was dropped and made again all the while it was captured".to_owned(),
        cause: LeftOutCause::Trouble,
        code: Some(FailureCode::SourceChanged),
    }
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
    match before(work.jobs, work.deadline, recaptured).await {
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

/// Which ids belong to a page.
struct Range {
    after: Option<String>,
    until: Option<String>,
}

impl Range {
    fn has(&self, id: i64) -> bool {
        let id = id.to_string();
        self.after.as_ref().is_none_or(|after| id > *after) && self.until.as_ref().is_none_or(|until| id <= *until)
    }
}

async fn recapture(
    work: &Work<'_>,
    capturing: &Capturing<'_>,
    lines: &mut Vec<Found>,
    again: &Again,
    range: &Range,
) -> Step {
    let mut kept = Vec::new();
    let mut wanted = Vec::new();
    let mut added: BTreeSet<i64> = again.collections.iter().copied().filter(|id| range.has(*id)).collect();
    for line in std::mem::take(lines) {
        let Found::Collection(taken) = line else {
            kept.push(line);
            continue;
        };
        let CollectionCapture { id, name, .. } = &taken.capture;
        added.remove(id);
        if again.superseded.contains(id) {
            continue;
        }
        if let Some(unexplained) = again.unexplained.iter().find(|unexplained| unexplained.collection == *id) {
            let failure = Failure::new(unexplained.code, unexplained.reason.clone());
            kept.push(troubled(*id, name, &taken.asked, &failure)?);
        } else if again.collections.contains(id) {
            wanted.push((Wanted { id: *id, name: name.clone(), asked: taken.asked.clone() }, Before::Captured));
        } else {
            kept.push(Found::Collection(taken));
        }
    }
    for id in added {
        // One that is gone again was never in the backup.
        if let Some(name) = capturing.name_of(id, "").await? {
            let asked = Asked::of(&work.backup.selection, &name);
            wanted.push((Wanted { id, name, asked }, Before::Unknown));
        }
    }
    let captures = stream::iter(wanted)
        .map(|(wanted, before)| async move {
            let captured = capturing.capture(&wanted).await?;
            Ok::<_, Error>((wanted, before, captured))
        })
        .buffered(FLUSHES_IN_FLIGHT);
    for (wanted, before, captured) in captures.try_collect::<Vec<_>>().await? {
        match (captured, before) {
            (Captured::Whole(capture), _) => {
                kept.push(Found::Collection(Box::new(Taken { capture: *capture, asked: wanted.asked })));
            }
            (Captured::Trouble(failure), _) => kept.push(troubled(wanted.id, &wanted.name, &wanted.asked, &failure)?),
            (Captured::Dropped, Before::Unknown) => {}
            // Its name is another collection's, which is added if the backup hasn't got it.
            (Captured::Dropped, Before::Captured) if capturing.is_taken(&wanted.name).await? => {
                kept.push(dropped(
                    &wanted,
                    "dropped while others were captured, and its name given to another collection",
                ));
            }
            (Captured::Dropped, Before::Captured) => {
                let message = "it was dropped after its point in time, and its files were gone before they were copied";
                let failure = Failure::new(FailureCode::CollectionDropped, message);
                kept.push(troubled(wanted.id, &wanted.name, &wanted.asked, &failure)?);
            }
        }
    }
    if range.until.is_none() {
        for out in &again.left_out {
            match Asked::of(&work.backup.selection, &out.collection) {
                Asked::ByPattern => kept.push(Found::LeftOut(out.clone())),
                Asked::ByName(name) => {
                    let code = out.code.unwrap_or(FailureCode::SourceChanged);
                    return Err(fatal(code, format!("{name}: {}", out.reason)));
                }
            }
        }
    }
    kept.sort_by_cached_key(|line| match line {
        Found::Collection(taken) => Some(taken.capture.id.to_string()),
        _ => None,
    });
    *lines = kept;
    Ok(())
}

/// What the earlier capture has of a collection.
enum Before {
    Captured,
    Unknown,
}

/// The names of some of the collections that are captured again, for people.
pub(super) async fn names(folder: &Folder<'_>, again: &Again) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for number in 0..again.capture.count {
        for line in folder.read(&PageKind::Capture.key(&again.capture, number)).await? {
            match line {
                Found::Collection(taken) if again.collections.contains(&taken.capture.id) => {
                    names.push(taken.capture.name.to_string());
                }
                _ => {}
            }
        }
        if names.len() >= NAMED {
            names.truncate(NAMED);
            names.push("others".to_owned());
            break;
        }
    }
    Ok(names)
}
