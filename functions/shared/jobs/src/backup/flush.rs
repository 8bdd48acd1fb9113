//! FLUSH: every collection at a stated point in time, a page of them after the other.

use std::{
    collections::{BTreeSet, HashSet},
    pin::pin,
};

use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{
    Again, BackupPhase, CollectionCapture, CollectionName, CollectionPattern, DatabaseCapture, FailureCode, Flushing,
    LeftOut, LeftOutCause, Planning, RestoreState, previous_name, rebuilt_name,
};
use serde::{Deserialize, Serialize};

use super::{
    capture::{Captured, capture},
    work::Work,
};
use crate::{
    Error,
    layout::PageKind,
    pages::{COLLECTIONS_PER_PAGE, Folder, SEGMENTS_PER_PAGE},
    ports::{Milvus, MilvusError, PageRequest},
    slice::{Halt, Step, before, fatal},
};

/// Collections flushed at once: each flush waits seconds for the server, which works on them side by side.
const FLUSHES_IN_FLIGHT: usize = 8;

/// The most collections that a message names.
const NAMED: usize = 5;

/// A line of a capture's pages: what FLUSH found.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Found {
    Database(DatabaseCapture),
    AccessControl(String),
    Collection(Box<CollectionCapture>),
    LeftOut(LeftOut),
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
    let mut survey = survey(work, milvus.as_ref()).await?;
    let mut page = Page::default();
    match &flushing.after {
        None if flushing.capture.count == 0 => page.lines = beside(work, milvus.as_ref(), &mut survey).await?,
        None => {}
        Some(after) => survey.wanted.retain(|(id, _)| id > after),
    }
    let (jobs, deadline) = (work.jobs, work.deadline);
    let captures = stream::iter(survey.wanted).map(|(id, name)| {
        let milvus = milvus.as_ref();
        async move { (id, capture(milvus, &name).await) }
    });
    let mut captures = pin!(captures.buffered(FLUSHES_IN_FLIGHT));
    loop {
        let Some(captured) = before(jobs, deadline, captures.next()).await else {
            page.write(work, &mut flushing).await?;
            return Err(Halt::OutOfTime);
        };
        let Some((id, captured)) = captured else { break };
        page.add(match captured? {
            Captured::Whole(collection) => Found::Collection(collection),
            Captured::DroppedBefore(name) => left_out(name, "dropped before its flush"),
        });
        flushing.after = Some(id);
        if page.is_full() {
            page.write(work, &mut flushing).await?;
        }
    }
    page.write(work, &mut flushing).await?;
    let planning = Planning { capture: flushing.capture, ..Planning::default() };
    Ok(work.enter(BackupPhase::Plan(planning)).await?)
}

/// A page of what was found.
#[derive(Default)]
struct Page {
    lines: Vec<Found>,
    segments: usize,
}

impl Page {
    fn add(&mut self, found: Found) {
        if let Found::Collection(collection) = &found {
            self.segments += collection.segments.len();
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
        work.enter(BackupPhase::Flush(flushing.clone())).await
    }
}

/// What there is to capture.
struct Survey {
    /// By id, in the order of its text.
    wanted: Vec<(String, CollectionName)>,
    /// The databases that the selection looks into.
    databases: Vec<String>,
    left_out: Vec<Found>,
}

/// How the names end of collections that this instance's restores made, or keep for a rollback. What a restore that
/// failed couldn't put back is the user's.
async fn restores_suffixes(work: &Work<'_>) -> Result<HashSet<String>, Error> {
    let mut suffixes = HashSet::new();
    let mut after = None;
    loop {
        let page = work.jobs.ports.catalog.restores(&work.instance.id, PageRequest { after, limit: 100 }).await?;
        for restore in &page.items {
            let name = CollectionName::new("", "");
            suffixes.insert(rebuilt_name(&name, &restore.id).collection);
            if !matches!(restore.state, RestoreState::Failed { .. } | RestoreState::Cancelled { .. }) {
                suffixes.insert(previous_name(&name, &restore.id).collection);
            }
        }
        after = page.items.last().map(|restore| restore.id.to_string());
        if !page.more {
            return Ok(suffixes);
        }
    }
}

async fn survey(work: &Work<'_>, milvus: &dyn Milvus) -> Step<Survey> {
    let owned = restores_suffixes(work).await?;
    let mut databases = milvus.databases().await?;
    databases.retain(|database| CollectionPattern::looks_into(&work.backup.selection, database));
    let (mut wanted, mut left) = (Vec::new(), Vec::new());
    let listings = databases.iter().map(|database| milvus.collections(database));
    let listings: Vec<_> = stream::iter(listings).buffered(FLUSHES_IN_FLIGHT).try_collect().await?;
    for (database, listing) in databases.iter().zip(listings) {
        for (collection, id) in listing {
            let name = CollectionName::new(database, collection);
            if owned.iter().any(|suffix| name.collection.ends_with(suffix)) {
                left.push(left_out(name, "made by a restore: being rebuilt, or kept for a rollback"));
            } else if CollectionPattern::selects(&work.backup.selection, &name) {
                wanted.push((id.to_string(), name));
            }
        }
    }
    for pattern in &work.backup.selection {
        if !wanted.iter().any(|(_, name)| pattern.matches(name)) {
            return Err(fatal(FailureCode::MilvusRefused, format!("nothing matches '{pattern}': no such collection")));
        }
    }
    wanted.sort();
    Ok(Survey { wanted, databases, left_out: left })
}

/// What is captured beside collections, once.
async fn beside(work: &Work<'_>, milvus: &dyn Milvus, survey: &mut Survey) -> Step<Vec<Found>> {
    let mut beside = std::mem::take(&mut survey.left_out);
    for database in &survey.databases {
        let properties = milvus.database_properties(database).await?;
        beside.push(Found::Database(DatabaseCapture { name: database.clone(), properties }));
    }
    match milvus.access_control().await {
        Ok(found) => beside.extend(found.map(Found::AccessControl)),
        // The user that we are registered as may not ask for it, and need not for the collections.
        Err(MilvusError::Refused(reason) | MilvusError::Unauthenticated(reason)) => {
            tracing::warn!(reason, backup = %work.backup.id, "users, roles and grants aren't captured");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(beside)
}

fn left_out(collection: CollectionName, reason: &str) -> Found {
    Found::LeftOut(LeftOut { collection, reason: reason.to_owned(), cause: LeftOutCause::Dropped })
}

/// Copies the next page of the earlier capture, with the collections captured anew whose source changed.
async fn flush_again(work: &mut Work<'_>, mut flushing: Flushing, again: Again) -> Step {
    let number = flushing.capture.count;
    if number == again.capture.count {
        let planning = Planning { capture: flushing.capture, again: Some(again), ..Planning::default() };
        return Ok(work.enter(BackupPhase::Plan(planning)).await?);
    }
    let mut lines: Vec<Found> = work.folder().read(&PageKind::Capture.key(&again.capture, number)).await?;
    let flushes = recapture(work, &mut lines, &again.collections);
    before(work.jobs, work.deadline, flushes).await.ok_or(Halt::OutOfTime)??;
    work.folder().write(&PageKind::Capture.key_of(work.lease.fence, number), &lines).await?;
    flushing.capture.push(work.lease.fence);
    flushing.again = Some(again);
    Ok(work.enter(BackupPhase::Flush(flushing)).await?)
}

async fn recapture(work: &Work<'_>, lines: &mut [Found], collections: &BTreeSet<i64>) -> Step {
    for line in lines {
        let Found::Collection(earlier) = line else { continue };
        if !collections.contains(&earlier.id) {
            continue;
        }
        let milvus = work.milvus().await?;
        // Under the name that it has by now.
        let names = milvus.collections(&earlier.name.database).await?;
        let name = names.into_iter().find(|(_, id)| *id == earlier.id);
        let name = name.map(|(name, _)| CollectionName::new(&earlier.name.database, name));
        let captured = match &name {
            Some(name) => Some(capture(milvus.as_ref(), name).await?),
            None => None,
        };
        match captured {
            Some(Captured::Whole(again)) if again.id == earlier.id => *earlier = again,
            _ => {
                let message =
                    format!("{} was dropped after its point in time, before all of it was copied", earlier.name);
                return Err(fatal(FailureCode::CollectionDropped, message));
            }
        }
    }
    Ok(())
}

/// The names of some of the collections that are captured again, for people.
pub(super) async fn names(folder: &Folder<'_>, again: &Again) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for number in 0..again.capture.count {
        for line in folder.read(&PageKind::Capture.key(&again.capture, number)).await? {
            match line {
                Found::Collection(collection) if again.collections.contains(&collection.id) => {
                    names.push(collection.name.to_string());
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
