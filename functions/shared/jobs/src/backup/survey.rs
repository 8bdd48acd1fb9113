//! The survey: which collections a backup is to capture, by id, as they are when it begins.

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
pub(super) struct Wanted {
    /// What identifies it from here on.
    pub(super) id: i64,
    /// Its name when it was surveyed.
    pub(super) name: CollectionName,
    pub(super) asked: Asked,
}

/// How the caller asked for a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Asked {
    /// By this name, which it had then: a backup without it isn't what was asked for.
    ByName(CollectionName),
    /// By a pattern, or with everything: its trouble doesn't cost the others.
    ByPattern,
}

impl Asked {
    /// How a selection asks for the collection of this name.
    pub(super) fn of(selection: &[CollectionPattern], name: &CollectionName) -> Self {
        let is_named = |pattern: &CollectionPattern| matches!(pattern, CollectionPattern::One(one) if one == name);
        if selection.iter().any(is_named) { Self::ByName(name.clone()) } else { Self::ByPattern }
    }
}

/// What there is on the server.
pub(super) struct Survey {
    /// By id, in the order of its text, as [`milvault_model::ObjectKey::collection`] sorts.
    pub(super) wanted: Vec<Wanted>,
    /// The databases that the selection looks into.
    pub(super) databases: Vec<String>,
    /// Collections that restores made.
    pub(super) restores: Vec<(CollectionName, i64)>,
}

impl Survey {
    /// The names of what is wanted, by id.
    pub(super) fn names(&self) -> BTreeMap<i64, &CollectionName> {
        self.wanted.iter().map(|wanted| (wanted.id, &wanted.name)).collect()
    }
}

/// Lists what the backup is to capture.
pub(super) async fn take(work: &Work<'_>, milvus: &dyn Milvus) -> Step<Survey> {
    let selection = &work.backup.selection;
    let owned = restores_suffixes(work).await?;
    let mut databases = milvus.databases().await?;
    databases.retain(|database| CollectionPattern::selects_in_database(selection, database));
    let listings = databases.iter().map(|database| milvus.collections(database));
    let listings: Vec<_> = stream::iter(listings).buffered(LISTINGS_IN_FLIGHT).try_collect().await?;
    let (mut wanted, mut restores) = (Vec::new(), Vec::new());
    for (database, listing) in databases.iter().zip(listings) {
        for (collection, id) in listing {
            let name = CollectionName::new(database, collection);
            if owned.iter().any(|suffix| name.collection.ends_with(suffix)) {
                restores.push((name, id));
            } else if CollectionPattern::selects(selection, &name) {
                let asked = Asked::of(selection, &name);
                wanted.push(Wanted { id, name, asked });
            }
        }
    }
    wanted.sort_by_cached_key(|wanted| wanted.id.to_string());
    // Renamed to another database between two listings.
    wanted.dedup_by_key(|wanted| wanted.id);
    Ok(Survey { wanted, databases, restores })
}

/// Refuses a selection of what isn't there.
pub(super) fn require_matches(work: &Work<'_>, survey: &Survey) -> Step {
    for pattern in &work.backup.selection {
        let is_there = match pattern {
            CollectionPattern::One(name) => survey.wanted.iter().any(|wanted| wanted.name == *name),
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
pub(super) async fn write(folder: &Folder<'_>, fence: u64, wanted: &[Wanted]) -> Result<PageSet, Error> {
    let mut pages = PageSet::default();
    for page in wanted.chunks(PAGE) {
        folder.write(&PageKind::Survey.key_with_fence(fence, pages.count), page).await?;
        pages.push(fence);
    }
    Ok(pages)
}

/// Reads a survey's pages.
pub(super) async fn read(folder: &Folder<'_>, pages: &PageSet) -> Result<Vec<Wanted>, Error> {
    let mut wanted = Vec::new();
    for number in 0..pages.count {
        wanted.extend(folder.read(&PageKind::Survey.key(pages, number)).await?);
    }
    Ok(wanted)
}

/// How the names end of collections that this instance's restores made, or keep for a rollback. What a restore that
/// failed couldn't put back is the user's.
async fn restores_suffixes(work: &Work<'_>) -> Result<HashSet<String>, Error> {
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
