//! The roles' grants on the collections that a restore renames and drops.
//!
//! From Milvus 2.6.12 on, a collection's grants move with it when it is renamed, and are dropped with it
//! (`AlterCollection` → `MigrateGrantCollectionName`, and `DropCollection` → `DeleteGrantByCollectionName`, in
//! `internal/rootcoord/meta_table.go`); in earlier versions, they stay with the name. Grants of privilege groups stay
//! with the name in all versions.

use milvault_model::{CollectionName, CollectionRestore, CollectionStage, Grant, Swap};

use super::{messages::list_names, names::id_of, shared::Shared, work::Work};
use crate::engine::halt::Step;

/// The grants that could be read from the server.
#[derive(Debug, Default)]
pub(super) struct KnownGrants {
    /// The roles whose grants could be read.
    pub(super) roles: Vec<String>,
    pub(super) grants: Vec<Grant>,
}

impl KnownGrants {
    /// Returns the grants on exactly this collection.
    pub(super) fn on(&self, name: &CollectionName) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(|grant| grant.is_on(name))
    }
}

/// Reads every role's grants in a database, or in any database (`*`). Warns of those that the server refuses to show.
pub(super) async fn read_grants(shared: &Shared<'_>, database: &str) -> Step<KnownGrants> {
    let roles = match shared.milvus.roles().await {
        Err(error) if error.is_refusal() => {
            shared.warn(format!(
                "the grants of roles cannot be read, and are not given back where the server moves them with a renamed \
                 collection (Milvus 2.6.12 and later): {error}"
            ));
            return Ok(KnownGrants::default());
        }
        roles => roles?,
    };
    let mut known = KnownGrants::default();
    for role in roles {
        match shared.milvus.grants(&role, database).await {
            Err(error) if error.is_refusal() => {
                shared.warn(format!("the grants of role {role} cannot be read: {error}"));
            }
            grants => {
                known.grants.extend(grants?);
                known.roles.push(role);
            }
        }
    }
    Ok(known)
}

/// Returns the backup's grants.
pub(super) async fn captured(work: &mut Work<'_>) -> Step<Vec<Grant>> {
    let Some(captured) = work.manifest().await?.access_control else { return Ok(Vec::new()) };
    match work.milvus().await?.captured_grants(&captured) {
        Err(error) if error.is_refusal() => {
            work.warn(format!("the backup's grants are not restored: {error}"));
            Ok(Vec::new())
        }
        grants => Ok(grants?),
    }
}

/// Adds the grants that the list doesn't have. Returns whether any was added.
pub(super) fn merge(into: &mut Vec<Grant>, others: impl IntoIterator<Item = Grant>) -> bool {
    let before = into.len();
    for other in others {
        if !into.contains(&other) {
            into.push(other);
        }
    }
    into.len() > before
}

/// Makes the wanted grants that are missing, and returns them. A grant that the server refuses, or doesn't have
/// afterwards, is named in a warning and doesn't fail the restore.
pub(super) async fn grant_missing<'a>(
    shared: &Shared<'_>,
    known: &KnownGrants,
    wanted: impl Iterator<Item = &'a Grant>,
    database: &str,
) -> Step<Vec<&'a Grant>> {
    let lacking: Vec<&Grant> = wanted.filter(|grant| !known.grants.contains(grant)).collect();
    let (mut given, mut failed) = (Vec::new(), Vec::new());
    for grant in lacking {
        match shared.milvus.grant(grant).await {
            Err(error) if error.is_refusal() => failed.push(format!("{grant} ({error})")),
            result => {
                shared.watch(result)?;
                given.push(grant);
            }
        }
    }
    if !given.is_empty() {
        let now = read_grants(shared, database).await?.grants;
        let lost = given.extract_if(.., |grant| !now.contains(grant));
        failed.extend(lost.map(|grant| format!("{grant} (Milvus accepted it, but does not have it)")));
    }
    if !failed.is_empty() {
        shared.warn(format!("grants that could not be given back: {}", list_names(failed)));
    }
    Ok(given)
}

/// Gives the name the grants that it had, and those made on the live collection between its reading and its renaming.
pub(super) async fn grant_after_swap(shared: &Shared<'_>, line: &CollectionRestore, swap: &mut Swap) -> Step {
    let (target, previous) = (&line.target, shared.previous(line));
    let known = read_grants(shared, &target.database).await?;
    merge(&mut swap.live_grants, renamed(&known, &previous, target));
    grant_missing(shared, &known, swap.live_grants.iter().chain(&swap.grants), &target.database).await?;
    Ok(())
}

/// Saves the grants that were made on the name since the swap: the server may move them with the restored collection.
pub(super) async fn save_before_swap_back(shared: &Shared<'_>, line: &mut CollectionRestore) -> Step {
    let (CollectionStage::Swapping(swap) | CollectionStage::Swapped(swap)) = &mut line.stage else { return Ok(()) };
    // If there is no collection to put back, the name isn't given any grants back.
    if swap.live_id.is_none() || id_of(shared, &line.target).await? != Some(swap.new_id) {
        return Ok(());
    }
    let known = read_grants(shared, &line.target.database).await?;
    match merge(&mut swap.live_grants, known.on(&line.target).cloned()) {
        true => Ok(shared.save(line).await?),
        false => Ok(()),
    }
}

/// Gives the name the grants that it had before the swap and those made since, including those made between the reading
/// of the restored collection and its renaming, which moved with it.
pub(super) async fn grant_after_swap_back(shared: &Shared<'_>, line: &CollectionRestore, swap: &Swap) -> Step {
    let (target, rebuilt) = (&line.target, shared.rebuilt(line));
    let known = read_grants(shared, &target.database).await?;
    let mut wanted = swap.live_grants.clone();
    merge(&mut wanted, renamed(&known, &rebuilt, target));
    grant_missing(shared, &known, wanted.iter(), &target.database).await?;
    Ok(())
}

/// Returns the grants on one name as grants on another.
fn renamed<'a>(
    known: &'a KnownGrants,
    from: &'a CollectionName,
    to: &'a CollectionName,
) -> impl Iterator<Item = Grant> + 'a {
    known.on(from).map(|grant| Grant { name: to.collection.clone(), ..grant.clone() })
}
