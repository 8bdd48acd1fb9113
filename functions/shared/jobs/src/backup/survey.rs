//! The survey: the collections that a backup captures, by id, as the server lists them when the backup begins.

use std::{
    collections::{BTreeMap, HashSet},
    pin::pin,
};

use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{
    CollectionName, CollectionPattern, FailureCode, PageSet, RestoreState, previous_name, rebuilt_name,
};
use milvault_ports::{Milvus, items};
use serde::{Deserialize, Serialize};

use super::work::Work;
use crate::{
    Error,
    engine::halt::{Step, fatal},
    snapshot::{layout::PageKind, pages::Folder},
};

/// Databases listed at once.
const LISTINGS_IN_FLIGHT: usize = 8;

/// The most collections in a page of the survey.
const PAGE: usize = 5_000;

/// A collection to capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CaptureTarget {
    /// The id, which identifies the collection even if it is renamed.
    pub(super) id: i64,
    /// The collection's name in the survey.
    pub(super) name: CollectionName,
    #[serde(rename = "asked")]
    pub(super) selected: Selected,
}

/// How the caller selected a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Selected {
    /// By the name that it had in the survey: the backup fails if it can't be captured.
    ByName(CollectionName),
    /// By a pattern, or because all collections are backed up: it is left out if it can't be captured.
    ByPattern,
}

impl Selected {
    /// Returns how a selection selects the collection with this name.
    pub(super) fn from_selection(selection: &[CollectionPattern], name: &CollectionName) -> Self {
        let is_named = |pattern: &CollectionPattern| matches!(pattern, CollectionPattern::One(one) if one == name);
        if selection.iter().any(is_named) { Self::ByName(name.clone()) } else { Self::ByPattern }
    }
}

/// The collections and databases on the server.
pub(super) struct Survey {
    /// The collections to capture, sorted by the text of their ids, as [`milvault_model::ObjectKey::collection`] sorts.
    pub(super) targets: Vec<CaptureTarget>,
    /// The databases that the selection refers to.
    pub(super) databases: Vec<String>,
    /// Collections that restores created.
    pub(super) restores: Vec<(CollectionName, i64)>,
}

impl Survey {
    /// The names of the collections to capture, by id.
    pub(super) fn names(&self) -> BTreeMap<i64, &CollectionName> {
        self.targets.iter().map(|target| (target.id, &target.name)).collect()
    }
}

/// Lists the collections that the backup is to capture.
pub(super) async fn take(work: &Work<'_>, milvus: &dyn Milvus) -> Step<Survey> {
    let selection = &work.backup.selection;
    let suffixes = restore_suffixes(work).await?;
    let mut databases = milvus.databases().await?;
    databases.retain(|database| CollectionPattern::selects_in_database(selection, database));
    let listings = databases.iter().map(|database| milvus.collections(database));
    let listings: Vec<_> = stream::iter(listings).buffered(LISTINGS_IN_FLIGHT).try_collect().await?;
    let (mut targets, mut restores) = (Vec::new(), Vec::new());
    for (database, listing) in databases.iter().zip(listings) {
        for (collection, id) in listing {
            let name = CollectionName::new(database, collection);
            if suffixes.iter().any(|suffix| name.collection.ends_with(suffix)) {
                restores.push((name, id));
            } else if CollectionPattern::selects(selection, &name) {
                let selected = Selected::from_selection(selection, &name);
                targets.push(CaptureTarget { id, name, selected });
            }
        }
    }
    targets.sort_by_cached_key(|target| target.id.to_string());
    // A collection is listed twice if it was moved to another database between two listings.
    targets.dedup_by_key(|target| target.id);
    Ok(Survey { targets, databases, restores })
}

/// Checks that the server has every collection and database that the selection names.
pub(super) fn require_matches(work: &Work<'_>, survey: &Survey) -> Step {
    for pattern in &work.backup.selection {
        let is_there = match pattern {
            CollectionPattern::One(name) => survey.targets.iter().any(|target| target.name == *name),
            CollectionPattern::Database(name) => survey.databases.contains(name),
        };
        if !is_there {
            let what = match pattern {
                CollectionPattern::One(_) => "collection",
                CollectionPattern::Database(_) => "database",
            };
            return Err(fatal(FailureCode::MilvusRefused, format!("nothing matches '{pattern}': no such {what}")));
        }
    }
    Ok(())
}

/// Writes a survey's pages.
pub(super) async fn write(folder: &Folder<'_>, fence: u64, targets: &[CaptureTarget]) -> Result<PageSet, Error> {
    let mut pages = PageSet::default();
    for page in targets.chunks(PAGE) {
        folder.write(&PageKind::Survey.key_with_fence(fence, pages.count), page).await?;
        pages.push(fence);
    }
    Ok(pages)
}

/// Reads a survey's pages.
pub(super) async fn read(folder: &Folder<'_>, pages: &PageSet) -> Result<Vec<CaptureTarget>, Error> {
    let mut targets = Vec::new();
    for number in 0..pages.count {
        targets.extend(folder.read(&PageKind::Survey.key(pages, number)).await?);
    }
    Ok(targets)
}

/// Returns the suffixes of the names of collections that this instance's restores create, or keep for a rollback.
/// Previous collections that a failed or cancelled restore couldn't put back belong to the user.
async fn restore_suffixes(work: &Work<'_>) -> Result<HashSet<String>, Error> {
    let mut suffixes = HashSet::new();
    let mut restores = pin!(items(100, |page| work.jobs.ports.catalog.restores(&work.instance.id, page)));
    while let Some(restore) = restores.try_next().await? {
        let name = CollectionName::new("", "");
        suffixes.insert(rebuilt_name(&name, &restore.id).collection);
        if !matches!(restore.state, RestoreState::Failed { .. } | RestoreState::Cancelled { .. }) {
            suffixes.insert(previous_name(&name, &restore.id).collection);
        }
    }
    Ok(suffixes)
}
