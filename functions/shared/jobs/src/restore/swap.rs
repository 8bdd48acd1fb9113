//! SWAP: live → previous, new → live, aliases after it; from each point on, the ids say what was done.

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
    ledger::{AtOnce, lines, read_lines},
    names::{id_of, is_there},
    reasons::named,
    shared::Shared,
    work::Work,
};
use crate::engine::halt::{Halt, Step, fatal};

/// Which of the restored collections an alias belongs to, by database and alias.
type Owners = HashMap<(String, String), CollectionName>;

/// What the backup has beside the collections.
struct Backup {
    owners: Owners,
    grants: Vec<Grant>,
}

pub(crate) async fn swap(work: &mut Work<'_>) -> Step {
    let backup = Backup { owners: owners(work).await?, grants: grants::captured(work).await? };
    work.each_wanted(AtOnce::OneUntilFailure, async |shared, line| swap_line(shared, &backup, line).await).await?;
    if work.restore.selection.is_empty() {
        name_others(work).await?;
    }
    Ok(work.enter(RestorePhase::Clean).await?)
}

/// The backup's aliases come back, unless the collection comes back under another name: then they belong to the one
/// that has the name. Those of a collection that was given up stay where they are.
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

/// Tells of the collections beside the restored ones that a restore of everything leaves alone: the backup would have
/// them if they had been there. What a backup of a part never was about isn't told of.
async fn name_others(work: &mut Work<'_>) -> Step {
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
        work.warn(format!("not in the backup, and left alone: {}", named(others)));
    }
    Ok(())
}

/// Whether a collection can get its name: no alias has it, and no other collection that may not be replaced.
pub(super) async fn swappable(shared: &Shared<'_>, line: &CollectionRestore) -> Step {
    match &line.stage {
        CollectionStage::Verified { .. } => {}
        CollectionStage::Swapping(_) | CollectionStage::Swapped(_) => return Ok(()),
        _ => return Err(not_verified(line)),
    }
    let target = &line.target;
    if let Some(of) = shared.milvus.alias_target(&target.database, &target.collection).await? {
        let message = format!("{target} is an alias of {of} by now: no collection can have that name");
        return Err(fatal(FailureCode::CollectionExists, message));
    }
    if id_of(shared, target).await?.is_some() && shared.restore.mode == RestoreMode::Create {
        return Err(fatal(FailureCode::CollectionExists, format!("collection {target} exists")));
    }
    Ok(())
}

/// A line that the phases before have passed over: a restore isn't complete without it.
fn not_verified(line: &CollectionRestore) -> Halt {
    let message = format!("{} isn't verified; it is {}", line.target, line.state());
    fatal(FailureCode::VerificationFailed, message)
}

async fn swap_line(shared: &Shared<'_>, backup: &Backup, mut line: CollectionRestore) -> Step {
    let (prepared, new_id) = match &line.stage {
        CollectionStage::Verified { id } => (None, *id),
        CollectionStage::Swapping(swap) => (Some(swap.clone()), swap.new_id),
        CollectionStage::Swapped(_) => return Ok(()),
        _ => return Err(not_verified(&line)),
    };
    let mut swap = match prepared {
        Some(swap) => swap,
        None => {
            let swap = prepare(shared, backup, &line, new_id).await?;
            shared.enter(&mut line, CollectionStage::Swapping(swap.clone())).await?;
            swap
        }
    };
    let unavailable = rename(shared, &line, &swap).await?;
    let late = late_aliases(shared, &line, &swap).await?;
    swap.live_aliases.extend(late.iter().cloned());
    swap.aliases.extend(late);
    for alias in &swap.aliases {
        give_alias(shared, alias, &line.target).await?;
    }
    for (alias, holder) in &swap.taken_aliases {
        let database = &line.target.database;
        shared.warn(format!("alias {database}.{alias} stood for {database}.{holder}, and now for {}", line.target));
    }
    grants::give_after_swap(shared, &line, &mut swap).await?;
    line.unavailable_ms = unavailable.or(line.unavailable_ms);
    Ok(shared.enter(&mut line, CollectionStage::Swapped(swap)).await?)
}

/// Makes an alias stand for the collection of this name, whose id is known, and looks whether it does.
async fn give_alias(shared: &Shared<'_>, alias: &str, to: &CollectionName) -> Step {
    shared.sure(shared.milvus.point_alias(alias, to).await)?;
    let holder = shared.milvus.alias_target(&to.database, alias).await?;
    if holder.as_ref() != Some(&to.collection) {
        shared.warn(format!("alias {}.{alias} doesn't stand for {to}: it was moved meanwhile", to.database));
    }
    Ok(())
}

/// Aliases that were given to the live collection between the look at it and its renaming.
async fn late_aliases(shared: &Shared<'_>, line: &CollectionRestore, swap: &Swap) -> Step<Vec<String>> {
    let Some(live_id) = swap.live_id else { return Ok(Vec::new()) };
    match shared.milvus.describe(&shared.previous(line)).await {
        Ok(previous) if previous.id == live_id => {
            Ok(previous.aliases.into_iter().filter(|alias| !swap.live_aliases.contains(alias)).collect())
        }
        // Whoever dropped or renamed it meanwhile dropped its aliases, or took them along.
        Ok(_) | Err(MilvusError::NoCollection(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// What there is to move, by id.
async fn prepare(shared: &Shared<'_>, backup: &Backup, line: &CollectionRestore, new_id: i64) -> Step<Swap> {
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
    // The live collection's aliases stay on its name. One that the backup has of another collection goes there with that
    // one's swap; if that is over, a user has moved it here since.
    swap.aliases.clone_from(&swap.live_aliases);
    let mut coming: Vec<&String> =
        backup.owners.iter().filter(|(_, owner)| **owner == line.target).map(|((_, alias), _)| alias).collect();
    coming.sort();
    for alias in coming.into_iter().filter(|alias| !swap.live_aliases.contains(alias)) {
        if shared.milvus.collection_id(&CollectionName::new(database, alias)).await?.is_some() {
            shared.warn(format!("alias {database}.{alias} isn't brought back: a collection has that name by now"));
            continue;
        }
        swap.aliases.push(alias.clone());
        if let Some(holder) = shared.milvus.alias_target(database, alias).await?
            && !is_restore_name(&holder)
        {
            swap.taken_aliases.push((alias.clone(), holder));
        }
    }
    let known = grants::known(shared, database).await?;
    swap.live_grants = known.on(&line.target).cloned().collect();
    // A collection that is gone may have taken its grants with it. Under another name, or on another server, nobody had
    // any on it.
    let is_back = line.source == line.target && shared.restore.source_instance_id == shared.restore.instance_id;
    if swap.live_id.is_none() && is_back {
        let of_known_roles = backup.grants.iter().filter(|grant| known.roles.contains(&grant.role));
        swap.grants = of_known_roles.filter(|grant| grant.is_on(&line.target)).cloned().collect();
    }
    Ok(swap)
}

/// Both renames, as far as they aren't done, and the milliseconds in which the name had no collection, if it had one.
async fn rename(shared: &Shared<'_>, line: &CollectionRestore, swap: &Swap) -> Step<Option<u64>> {
    let (milvus, target, previous) = (&shared.milvus, &line.target, shared.previous(line));
    // It may be hidden: a worker that died right after the rename left it so.
    let at_target = id_of(shared, target).await?;
    if at_target == Some(swap.new_id) {
        return Ok(None);
    }
    if at_target.is_some() && at_target != swap.live_id {
        return Err(taken(target));
    }
    let clock = &shared.jobs.ports.clock;
    let began = clock.now();
    if at_target.is_some() {
        again_if_unknown(shared, milvus.rename(target, &previous.collection).await)?;
    }
    let renamed = milvus.rename(&shared.rebuilt(line), &target.collection).await;
    if matches!(renamed, Err(MilvusError::Refused(_))) && at_target.is_none() && id_of(shared, target).await?.is_some()
    {
        return Err(taken(target));
    }
    again_if_unknown(shared, renamed)?;
    require_named(shared, target, swap.new_id).await?;
    let took = clock.now() - began;
    Ok(at_target.and(u64::try_from(took.num_milliseconds()).ok()))
}

/// Another collection has the name than the one that the swap is to replace.
fn taken(target: &CollectionName) -> Halt {
    fatal(FailureCode::CollectionExists, format!("another collection was made as {target} meanwhile"))
}

/// Whether a collection is found under the name that it was given.
async fn require_named(shared: &Shared<'_>, name: &CollectionName, id: i64) -> Step {
    match id_of(shared, name).await? {
        Some(found) if found == id => Ok(()),
        _ => Err(MilvusError::NotReady(format!("{name} was renamed, and isn't found under its name yet")).into()),
    }
}

/// The answer to a rename decides nothing: whether it took effect is looked up, here or by whoever comes next.
fn again_if_unknown(shared: &Shared<'_>, result: Result<(), MilvusError>) -> Step {
    shared.sure(result.map_err(|error| match error {
        MilvusError::NoCollection(_) => MilvusError::Unreachable("a rename's outcome has to be looked up".into()),
        error => error,
    }))
}

/// Whether what was live before a swap is still there to be put back: otherwise what is live now is all there is.
pub(crate) async fn require_previous(shared: &Shared<'_>, line: &CollectionRestore, swap: &Swap) -> Step {
    let Some(live_id) = swap.live_id else { return Ok(()) };
    let previous = shared.previous(line);
    if id_of(shared, &line.target).await? == Some(live_id)
        || is_there(shared.milvus.as_ref(), &previous, live_id).await?
    {
        return Ok(());
    }
    let message = format!("{}: what it was before the swap is gone; {previous} was dropped or renamed", line.target);
    Err(fatal(FailureCode::CollectionDropped, message))
}

/// Someone has put another collection in a swapped one's place: it isn't touched.
pub(crate) fn another(line: &CollectionRestore, previous: &CollectionName) -> Halt {
    let target = &line.target;
    let message = format!(
        "another collection was made as {target} since, or restored: rename it, or roll that restore back first; what \
         {target} was before is kept as {previous}"
    );
    fatal(FailureCode::CollectionExists, message)
}

/// Whether the restore itself has given an alias of `from` to another of its collections: it goes back with that one.
async fn gave_away(shared: &Shared<'_>, alias: &str, from: &CollectionName, to: &str) -> Step<bool> {
    let to = CollectionName::new(&from.database, to);
    let taken = (alias.to_owned(), from.collection.clone());
    let mut gave = false;
    read_lines(shared.jobs, &shared.restore.id, |line| {
        if let CollectionStage::Swapping(swap) | CollectionStage::Swapped(swap) = line.stage {
            gave |= line.target == to && swap.taken_aliases.contains(&taken);
        }
    })
    .await?;
    Ok(gave)
}

/// Puts a collection back where it was before its swap: the live one under its name, the new one under the restore's.
pub(crate) async fn swap_back(shared: &Shared<'_>, line: &CollectionRestore, swap: &Swap) -> Step {
    let (milvus, target, previous) = (&shared.milvus, &line.target, shared.previous(line));
    let rebuilt = shared.rebuilt(line);
    if let Err(Halt::Fatal(gone)) = require_previous(shared, line, swap).await {
        // Dropped between the two renames: the new one is better than nothing.
        if id_of(shared, target).await?.is_none() && milvus.collection_id(&rebuilt).await? == Some(swap.new_id) {
            again_if_unknown(shared, milvus.rename(&rebuilt, &target.collection).await)?;
            grants::give_after_swap_back(shared, line, swap).await?;
        }
        return Err(Halt::Fatal(gone));
    }
    if id_of(shared, target).await? == Some(swap.new_id) {
        again_if_unknown(shared, milvus.rename(target, &rebuilt.collection).await)?;
    }
    if let Some(live_id) = swap.live_id
        && is_there(milvus.as_ref(), &previous, live_id).await?
    {
        if id_of(shared, target).await?.is_some() {
            return Err(another(line, &previous));
        }
        again_if_unknown(shared, milvus.rename(&previous, &target.collection).await)?;
        require_named(shared, target, live_id).await?;
    }
    let database = &target.database;
    let ours = [&target.collection, &rebuilt.collection, &previous.collection];
    for alias in &swap.live_aliases {
        // What another collection has by now is that one's: its own line's, or the user's doing.
        let holder = milvus.alias_target(database, alias).await?;
        let is_a_name = milvus.collection_id(&CollectionName::new(database, alias)).await?.is_some();
        let moved_to = holder.filter(|holder| !ours.contains(&holder) && !is_restore_name(holder));
        if is_a_name || moved_to.is_some() {
            if let Some(holder) = moved_to
                && gave_away(shared, alias, target, &holder).await?
            {
                continue;
            }
            shared.warn(format!("alias {database}.{alias} was moved meanwhile, and isn't put back to {target}"));
            continue;
        }
        give_alias(shared, alias, target).await?;
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
                give_alias(shared, alias, &holder).await?;
            }
            _ => shared.sure(milvus.drop_alias(database, alias).await)?,
        }
    }
    grants::give_after_swap_back(shared, line, swap).await
}
