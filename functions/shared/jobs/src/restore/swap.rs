//! SWAP: renames live → previous and new → live, then moves the aliases. After an interruption, the collections' IDs
//! show which renames were done.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
};

use futures::TryStreamExt;
use milvault_model::{
    CollectionName, CollectionPattern, CollectionRestore, CollectionStage, FailureCode, Grant, Loaded, RestoreMode,
    RestorePhase, Swap, is_restore_name,
};
use milvault_ports::{CollectionDescription, MilvusError};

use super::{
    grants,
    ledger::{Concurrency, lines, read_lines},
    messages::list_names,
    names::{has_id, id_of},
    shared::Shared,
    work::Work,
};
use crate::engine::halt::{Halt, Step, fatal};

/// The restored collection of each alias, by database and alias.
type Owners = HashMap<(String, String), CollectionName>;

/// The backup's aliases and grants.
struct Captured {
    owners: Owners,
    grants: Vec<Grant>,
}

/// Runs the phase SWAP.
pub(crate) async fn swap(work: &mut Work<'_>) -> Step {
    let captured = Captured { owners: owners(work).await?, grants: grants::captured(work).await? };
    work.for_each_active_line(Concurrency::OneUntilFailure, async |shared, line| {
        swap_line(shared, &captured, line).await
    })
    .await?;
    if work.restore.selection.is_empty() {
        warn_of_other_collections(work).await?;
    }
    Ok(work.enter(RestorePhase::Clean).await?)
}

/// Returns the backup's aliases to restore. The aliases of a collection that is restored under another name stay with
/// the collection that has the original name. Those of a collection that was given up stay where they are.
async fn owners(work: &Work<'_>) -> Step<Owners> {
    let shared = work.shared().await?;
    let mut owners = Owners::new();
    let mut ledger = pin!(lines(work.jobs, &work.restore.id));
    while let Some(line) = ledger.try_next().await? {
        if line.source.collection == line.target.collection && line.failure.is_none() {
            for alias in shared.capture(&line).await?.aliases {
                owners.insert((line.target.database.clone(), alias), line.target.clone());
            }
        }
    }
    Ok(owners)
}

/// Warns of the live collections that a restore of everything leaves unchanged because the backup doesn't have them.
/// Collections that the backup's own selection excludes aren't named.
async fn warn_of_other_collections(work: &mut Work<'_>) -> Step {
    let (source, id) = (&work.restore.source_instance_id, &work.restore.backup_id);
    let backup = work.jobs.ports.catalog.backup(source, id).await?;
    let selection = backup.map(|backup| backup.value.selection).unwrap_or_default();
    let mut restored = HashSet::new();
    work.read_lines(|line| restored.extend([line.source, line.target])).await?;
    let milvus = work.milvus().await?;
    let mut others = Vec::new();
    for database in milvus.databases().await? {
        let collections = milvus.collections(&database).await?.into_iter();
        let names = collections.map(|(name, _)| CollectionName::new(&database, name));
        others.extend(names.filter(|name| {
            CollectionPattern::selects(&selection, name)
                && !is_restore_name(&name.collection)
                && !restored.contains(name)
        }));
    }
    if !others.is_empty() {
        let others = others.iter().map(CollectionName::to_string).collect();
        work.warn(format!("not in the backup and left unchanged: {}", list_names(others)));
    }
    Ok(())
}

/// Checks that a collection can get its name: neither an alias nor a collection that must not be replaced has it.
pub(super) async fn require_swappable(shared: &Shared<'_>, line: &CollectionRestore) -> Step {
    match &line.stage {
        CollectionStage::Verified { .. } => {}
        CollectionStage::Swapping(_) | CollectionStage::Swapped(_) => return Ok(()),
        _ => return Err(not_verified(line)),
    }
    let target = &line.target;
    if let Some(of) = shared.milvus.alias_target(&target.database, &target.collection).await? {
        let message = format!("{target} is now an alias of {of}: no collection can have that name");
        return Err(fatal(FailureCode::CollectionExists, message));
    }
    if id_of(shared, target).await?.is_some() && shared.restore.mode == RestoreMode::Create {
        return Err(fatal(FailureCode::CollectionExists, format!("collection {target} exists")));
    }
    Ok(())
}

/// Returns the failure of a line that the earlier phases skipped: without it, the restore would be incomplete.
fn not_verified(line: &CollectionRestore) -> Halt {
    let message = format!("{} is not verified: its state is {}", line.target, line.state());
    fatal(FailureCode::VerificationFailed, message)
}

async fn swap_line(shared: &Shared<'_>, captured: &Captured, mut line: CollectionRestore) -> Step {
    let (prepared, new_id) = match &line.stage {
        CollectionStage::Verified { id } => (None, *id),
        CollectionStage::Swapping(swap) => (Some(swap.clone()), swap.new_id),
        CollectionStage::Swapped(_) => return Ok(()),
        _ => return Err(not_verified(&line)),
    };
    let mut swap = match prepared {
        Some(swap) => swap,
        None => {
            let swap = prepare(shared, captured, &line, new_id).await?;
            shared.enter(&mut line, CollectionStage::Swapping(swap.clone())).await?;
            swap
        }
    };
    let unavailable = rename(shared, &line, &swap).await?;
    let late = late_aliases(shared, &line, &swap).await?;
    swap.live_aliases.extend(late.iter().cloned());
    swap.aliases.extend(late);
    for alias in &swap.aliases {
        assign_alias(shared, alias, &line.target).await?;
    }
    for (alias, holder) in &swap.taken_aliases {
        let database = &line.target.database;
        shared
            .warn(format!("alias {database}.{alias} pointed to {database}.{holder} and now points to {}", line.target));
    }
    grants::grant_after_swap(shared, &line, &mut swap).await?;
    line.unavailable_ms = unavailable.or(line.unavailable_ms);
    Ok(shared.enter(&mut line, CollectionStage::Swapped(swap)).await?)
}

/// Points an alias at a collection whose ID was checked, and warns if it doesn't point there afterwards.
async fn assign_alias(shared: &Shared<'_>, alias: &str, to: &CollectionName) -> Step {
    shared.watch(shared.milvus.point_alias(alias, to).await)?;
    let holder = shared.milvus.alias_target(&to.database, alias).await?;
    if holder.as_ref() != Some(&to.collection) {
        shared.warn(format!("alias {}.{alias} does not point to {to}: it was moved by another client", to.database));
    }
    Ok(())
}

/// Returns the aliases that the live collection got between its description and its renaming.
async fn late_aliases(shared: &Shared<'_>, line: &CollectionRestore, swap: &Swap) -> Step<Vec<String>> {
    let Some(live_id) = swap.live_id else { return Ok(Vec::new()) };
    match shared.milvus.describe(&shared.previous(line)).await {
        Ok(previous) if previous.id == live_id => {
            Ok(previous.aliases.into_iter().filter(|alias| !swap.live_aliases.contains(alias)).collect())
        }
        // If another client dropped or renamed it, its aliases were dropped or moved with it.
        Ok(_) | Err(MilvusError::NoCollection(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Plans a line's swap: the collections to rename, by ID, and the aliases and grants to move.
async fn prepare(shared: &Shared<'_>, captured: &Captured, line: &CollectionRestore, new_id: i64) -> Step<Swap> {
    let database = &line.target.database;
    let live = match id_of(shared, &line.target).await? {
        Some(_) if shared.restore.mode == RestoreMode::Create => {
            return Err(fatal(FailureCode::CollectionExists, format!("collection {} exists", line.target)));
        }
        Some(_) => Some(shared.milvus.describe(&line.target).await?),
        None => None,
    };
    let mut swap = Swap {
        new_id,
        live_id: live.as_ref().map(|live| live.id),
        live_loaded: live.as_ref().map_or(Loaded::No, |live| live.loaded.clone()),
        live_aliases: live.map(|live: CollectionDescription| live.aliases).unwrap_or_default(),
        aliases: Vec::new(),
        taken_aliases: Vec::new(),
        live_grants: Vec::new(),
        grants: Vec::new(),
    };
    // The live collection's aliases stay on its name. If the backup has one of them on another collection, the other
    // collection's swap moves it there; if that swap is over, a user has moved the alias here since.
    swap.aliases.clone_from(&swap.live_aliases);
    let mut aliases: Vec<&String> =
        captured.owners.iter().filter(|(_, owner)| **owner == line.target).map(|((_, alias), _)| alias).collect();
    aliases.sort();
    for alias in aliases.into_iter().filter(|alias| !swap.live_aliases.contains(alias)) {
        if shared.milvus.collection_id(&CollectionName::new(database, alias)).await?.is_some() {
            shared.warn(format!("alias {database}.{alias} is not restored: a collection now has that name"));
            continue;
        }
        swap.aliases.push(alias.clone());
        if let Some(holder) = shared.milvus.alias_target(database, alias).await?
            && !is_restore_name(&holder)
        {
            swap.taken_aliases.push((alias.clone(), holder));
        }
    }
    let known = grants::read_grants(shared, database).await?;
    swap.live_grants = known.on(&line.target).cloned().collect();
    // The grants of a collection that no longer exists may have been dropped with it. Under another name or on another
    // server, the collection had no grants.
    let is_same_place = line.source == line.target && shared.restore.source_instance_id == shared.restore.instance_id;
    if swap.live_id.is_none() && is_same_place {
        let of_known_roles = captured.grants.iter().filter(|grant| known.roles.contains(&grant.role));
        swap.grants = of_known_roles.filter(|grant| grant.is_on(&line.target)).cloned().collect();
    }
    Ok(swap)
}

/// Does both renames, unless they are done. Returns the milliseconds in which the name had no collection, if it had one
/// before.
async fn rename(shared: &Shared<'_>, line: &CollectionRestore, swap: &Swap) -> Step<Option<u64>> {
    let (milvus, target, previous) = (&shared.milvus, &line.target, shared.previous(line));
    // An alias may hide the collection if a worker died right after the rename.
    let at_target = id_of(shared, target).await?;
    if at_target == Some(swap.new_id) {
        return Ok(None);
    }
    if at_target.is_some() && at_target != swap.live_id {
        return Err(target_taken(target));
    }
    let clock = &shared.jobs.ports.clock;
    let began = clock.now();
    if at_target.is_some() {
        watch_rename(shared, milvus.rename(target, &previous.collection).await)?;
    }
    let renamed = milvus.rename(&shared.rebuilt(line), &target.collection).await;
    if matches!(renamed, Err(MilvusError::Refused(_))) && at_target.is_none() && id_of(shared, target).await?.is_some()
    {
        return Err(target_taken(target));
    }
    watch_rename(shared, renamed)?;
    require_named(shared, target, swap.new_id).await?;
    let took = clock.now() - began;
    Ok(at_target.and(u64::try_from(took.num_milliseconds()).ok()))
}

/// Returns the failure if a collection other than the one to replace has the target's name.
fn target_taken(target: &CollectionName) -> Halt {
    fatal(FailureCode::CollectionExists, format!("another collection was created as {target} during the restore"))
}

/// Checks that a collection is found under its new name.
async fn require_named(shared: &Shared<'_>, name: &CollectionName, id: i64) -> Step {
    match id_of(shared, name).await? {
        Some(found) if found == id => Ok(()),
        _ => Err(MilvusError::NotReady(format!("{name} was renamed, but is not found under its name yet")).into()),
    }
}

/// Returns the result of a rename, as [`Shared::watch`] does. If the collection isn't found, the rename may have taken
/// effect before: the error is made retryable, and the next attempt looks up the outcome.
fn watch_rename(shared: &Shared<'_>, result: Result<(), MilvusError>) -> Step {
    shared.watch(result.map_err(|error| match error {
        MilvusError::NoCollection(_) => MilvusError::Unreachable("the outcome of a rename is unknown".into()),
        error => error,
    }))
}

/// Checks that the previous collection of a swap still exists: otherwise the live collection is the only one.
pub(crate) async fn require_previous(shared: &Shared<'_>, line: &CollectionRestore, swap: &Swap) -> Step {
    let Some(live_id) = swap.live_id else { return Ok(()) };
    let previous = shared.previous(line);
    if id_of(shared, &line.target).await? == Some(live_id) || has_id(shared.milvus.as_ref(), &previous, live_id).await?
    {
        return Ok(());
    }
    let message = format!("{}: the previous collection is gone: {previous} was dropped or renamed", line.target);
    Err(fatal(FailureCode::CollectionDropped, message))
}

/// Returns the failure if another collection has the target's name since the swap: it isn't touched.
pub(crate) fn target_taken_since_swap(line: &CollectionRestore, previous: &CollectionName) -> Halt {
    let target = &line.target;
    let message = format!(
        "another collection was created or restored as {target} after the swap: rename it, or roll back the other \
         restore first; the previous {target} is kept as {previous}"
    );
    fatal(FailureCode::CollectionExists, message)
}

/// Returns whether the restore itself moved an alias from `from` to another of its collections: that collection's
/// undoing moves it back.
async fn is_moved_by_restore(shared: &Shared<'_>, alias: &str, from: &CollectionName, to: &str) -> Step<bool> {
    let to = CollectionName::new(&from.database, to);
    let taken = (alias.to_owned(), from.collection.clone());
    let mut is_moved = false;
    read_lines(shared.jobs, &shared.restore.id, |line| {
        if let CollectionStage::Swapping(swap) | CollectionStage::Swapped(swap) = line.stage {
            is_moved |= line.target == to && swap.taken_aliases.contains(&taken);
        }
    })
    .await?;
    Ok(is_moved)
}

/// Undoes a swap: the live collection gets its name back, and the new one its name of the restore.
pub(crate) async fn swap_back(shared: &Shared<'_>, line: &CollectionRestore, swap: &Swap) -> Step {
    let (milvus, target, previous) = (&shared.milvus, &line.target, shared.previous(line));
    let rebuilt = shared.rebuilt(line);
    if let Err(Halt::Fatal(gone)) = require_previous(shared, line, swap).await {
        // If the previous collection was dropped between the two renames, the name gets the new collection.
        if id_of(shared, target).await?.is_none() && milvus.collection_id(&rebuilt).await? == Some(swap.new_id) {
            watch_rename(shared, milvus.rename(&rebuilt, &target.collection).await)?;
            grants::grant_after_swap_back(shared, line, swap).await?;
        }
        return Err(Halt::Fatal(gone));
    }
    if id_of(shared, target).await? == Some(swap.new_id) {
        watch_rename(shared, milvus.rename(target, &rebuilt.collection).await)?;
    }
    if let Some(live_id) = swap.live_id
        && has_id(milvus.as_ref(), &previous, live_id).await?
    {
        if id_of(shared, target).await?.is_some() {
            return Err(target_taken_since_swap(line, &previous));
        }
        watch_rename(shared, milvus.rename(&previous, &target.collection).await)?;
        require_named(shared, target, live_id).await?;
    }
    let database = &target.database;
    let ours = [&target.collection, &rebuilt.collection, &previous.collection];
    for alias in &swap.live_aliases {
        // An alias that another collection has now stays there: another line's swap or a user moved it.
        let holder = milvus.alias_target(database, alias).await?;
        let is_collection = milvus.collection_id(&CollectionName::new(database, alias)).await?.is_some();
        let moved_to = holder.filter(|holder| !ours.contains(&holder) && !is_restore_name(holder));
        if is_collection || moved_to.is_some() {
            if let Some(holder) = moved_to
                && is_moved_by_restore(shared, alias, target, &holder).await?
            {
                continue;
            }
            shared
                .warn(format!("alias {database}.{alias} was moved by another client and is not put back to {target}"));
            continue;
        }
        assign_alias(shared, alias, target).await?;
    }
    for alias in swap.aliases.iter().filter(|alias| !swap.live_aliases.contains(alias)) {
        let holder = milvus.alias_target(database, alias).await?;
        if holder.is_some_and(|holder| !ours.contains(&&holder)) {
            continue;
        }
        let before = swap.taken_aliases.iter().find(|(taken, _)| taken == alias);
        let before = before.map(|(_, holder)| CollectionName::new(database, holder));
        match before {
            Some(holder) if milvus.collection_id(&holder).await?.is_some() => {
                assign_alias(shared, alias, &holder).await?;
            }
            _ => shared.watch(milvus.drop_alias(database, alias).await)?,
        }
    }
    grants::grant_after_swap_back(shared, line, swap).await
}
