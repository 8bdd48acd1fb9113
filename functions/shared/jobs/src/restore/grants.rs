//! What roles may do with the collections that a restore renames and drops.
//!
//! From 2.6.12 on, grants on a collection follow it when it is renamed, and go with it when it is dropped
//! (`AlterCollection` → `MigrateGrantCollectionName`, and `DropCollection` → `DeleteGrantByCollectionName`, in
//! `internal/rootcoord/meta_table.go`); before, they stay with the name through both. Groups of privileges stay in either.

use milvault_model::{CollectionName, CollectionRestore, CollectionStage, Grant, Swap};

use super::{names::id_of, reasons::named, shared::Shared, work::Work};
use crate::engine::halt::Step;

/// What could be found out.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The roles whose grants are known.
    pub(super) roles: Vec<String>,
    pub(super) grants: Vec<Grant>,
}

impl Known {
    /// The grants on this very collection.
    pub(super) fn on(&self, name: &CollectionName) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(|grant| grant.is_on(name))
    }
}

/// Every role's grants in a database, or in any (`*`). What can't be asked for is told.
pub(super) async fn known(shared: &Shared<'_>, database: &str) -> Step<Known> {
    let roles = match shared.milvus.roles().await {
        Err(error) if error.is_refusal() => {
            shared.warn(format!(
                "what roles are granted can't be asked for, and isn't given back where the server takes it from a \
                 collection that is renamed (Milvus 2.6.12 and newer): {error}"
            ));
            return Ok(Known::default());
        }
        roles => roles?,
    };
    let mut known = Known::default();
    for role in roles {
        match shared.milvus.grants(&role, database).await {
            Err(error) if error.is_refusal() => {
                shared.warn(format!("what role {role} is granted can't be asked for: {error}"));
            }
            grants => {
                known.grants.extend(grants?);
                known.roles.push(role);
            }
        }
    }
    Ok(known)
}

/// The backup's grants.
pub(super) async fn captured(work: &mut Work<'_>) -> Step<Vec<Grant>> {
    let Some(captured) = work.manifest().await?.access_control else { return Ok(Vec::new()) };
    match work.milvus().await?.captured_grants(&captured) {
        Err(error) if error.is_refusal() => {
            work.warn(format!("grants of the backup are not brought back: {error}"));
            Ok(Vec::new())
        }
        grants => Ok(grants?),
    }
}

/// Adds those that aren't there. Whether any was added.
pub(super) fn merge(into: &mut Vec<Grant>, others: impl IntoIterator<Item = Grant>) -> bool {
    let before = into.len();
    for other in others {
        if !into.contains(&other) {
            into.push(other);
        }
    }
    into.len() > before
}

/// Gives those of these grants that are lacking, and returns them. What the server refuses, or doesn't have afterwards,
/// is told with its name, and undoes no restore.
pub(super) async fn give<'a>(
    shared: &Shared<'_>,
    known: &Known,
    wanted: impl Iterator<Item = &'a Grant>,
    database: &str,
) -> Step<Vec<&'a Grant>> {
    let lacking: Vec<&Grant> = wanted.filter(|grant| !known.grants.contains(grant)).collect();
    let (mut given, mut failed) = (Vec::new(), Vec::new());
    for grant in lacking {
        match shared.milvus.grant(grant).await {
            Err(error) if error.is_refusal() => failed.push(format!("{grant} ({error})")),
            result => {
                shared.sure(result)?;
                given.push(grant);
            }
        }
    }
    if !given.is_empty() {
        let now = self::known(shared, database).await?.grants;
        let lost = given.extract_if(.., |grant| !now.contains(grant));
        failed.extend(lost.map(|grant| format!("{grant} (Milvus took it, and doesn't have it)")));
    }
    if !failed.is_empty() {
        shared.warn(format!("grants that couldn't be given back: {}", named(failed)));
    }
    Ok(given)
}

/// Gives the name what it had, and what was granted on the live collection between the look at it and its renaming.
pub(super) async fn give_after_swap(shared: &Shared<'_>, line: &CollectionRestore, swap: &mut Swap) -> Step {
    let (target, previous) = (&line.target, shared.previous(line));
    let known = known(shared, &target.database).await?;
    merge(&mut swap.live_grants, renamed(&known, &previous, target));
    give(shared, &known, swap.live_grants.iter().chain(&swap.grants), &target.database).await?;
    Ok(())
}

/// Writes down what the name was granted since the swap: the restored collection may take it along when it goes.
pub(super) async fn keep_for_swap_back(shared: &Shared<'_>, line: &mut CollectionRestore) -> Step {
    let (CollectionStage::Swapping(swap) | CollectionStage::Swapped(swap)) = &mut line.stage else { return Ok(()) };
    // Without a collection to put back, the name is left with what it had.
    if swap.live_id.is_none() || id_of(shared, &line.target).await? != Some(swap.new_id) {
        return Ok(());
    }
    let known = known(shared, &line.target.database).await?;
    match merge(&mut swap.live_grants, known.on(&line.target).cloned()) {
        true => Ok(shared.save(line).await?),
        false => Ok(()),
    }
}

/// Gives the name what it had before the swap, and since: also what was granted between the look at the restored
/// collection and its renaming, which went along with it.
pub(super) async fn give_after_swap_back(shared: &Shared<'_>, line: &CollectionRestore, swap: &Swap) -> Step {
    let (target, rebuilt) = (&line.target, shared.rebuilt(line));
    let known = known(shared, &target.database).await?;
    let mut wanted = swap.live_grants.clone();
    merge(&mut wanted, renamed(&known, &rebuilt, target));
    give(shared, &known, wanted.iter(), &target.database).await?;
    Ok(())
}

/// What is granted on one name, as grants on another.
fn renamed<'a>(known: &'a Known, from: &'a CollectionName, to: &'a CollectionName) -> impl Iterator<Item = Grant> + 'a {
    known.on(from).map(|grant| Grant { name: to.collection.clone(), ..grant.clone() })
}
