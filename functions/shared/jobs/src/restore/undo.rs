//! The undoing of a restore that doesn't complete, and the rollback of one that did.

use milvault_model::{
    CollectionRestore, CollectionStage, Completeness, Ending, Failure, Loaded, Previous, RestorePhase, RestoreState,
    RollbackStep, Time,
};

use super::{
    clean::{discard, remove_staged},
    grants,
    import::Importing,
    ledger::{Concurrency, is_undone},
    names::has_id,
    shared::Shared,
    swap::{require_previous, swap_back, target_taken_since_swap},
    work::{Work, ended_state},
};
use crate::{
    Error,
    engine::halt::{Halt, Step},
};

/// Puts every live collection back, and removes everything that the restore made.
pub(crate) async fn undo(work: &mut Work<'_>, ending: Ending) -> Step {
    let put_back = work.for_each_line(Concurrency::One, async |shared, line| put_back(shared, line).await).await;
    let ending = match put_back {
        Ok(()) => ending,
        // Another collection was put in a swapped one's place: the failure names both, and neither is touched.
        Err(Halt::Fatal(stuck)) => Ending::Failed(match ending {
            Ending::Failed(failure) => Failure::new(failure.code, format!("{}; {}", failure.message, stuck.message)),
            Ending::Cancelled => stuck,
        }),
        Err(halt) => return Err(halt),
    };
    work.for_each_line(Concurrency::Many, async |shared, line| remove_built(shared, line).await).await?;
    let own = work.own_bucket()?;
    work.held.drain(work.deadline).await?;
    remove_staged(work.jobs, &own, &work.restore).await?;
    let now = work.jobs.now();
    Ok(work.end(ended_state(ending, work.run.started_at, now, None)).await?)
}

/// Ends a restore whose undoing is stalled: at once if every live collection is in its place, and otherwise only after
/// ten times the stall limit, with the names of those that aren't. The sweep removes the rest later. Returns whether
/// the restore ended.
pub(crate) async fn end_stalled_undo(work: &mut Work<'_>, first: Ending, last: Ending) -> Result<bool, Error> {
    let now = work.jobs.now();
    let stall = work.jobs.settings.stall;
    if !work.is_stalled_for(now, stall) {
        return Ok(false);
    }
    let mut moved = Vec::new();
    work.read_lines(|line| {
        if matches!(line.stage, CollectionStage::Swapping(_) | CollectionStage::Swapped(_)) {
            moved.push(line.target.to_string());
        }
    })
    .await?;
    let ending = match (first, last) {
        _ if !moved.is_empty() && !work.is_stalled_for(now, stall * 10) => return Ok(false),
        (Ending::Failed(failure), Ending::Failed(stuck)) if !moved.is_empty() => {
            let names = moved.join(", ");
            let suffix = work.restore.id.short();
            let message = format!(
                "{}; and the previous collection could not be put back for {names}: {}. It is kept under the same name \
                 with __before_{suffix} appended",
                failure.message, stuck.message
            );
            Ending::Failed(Failure::new(failure.code, message))
        }
        (first, _) => first,
    };
    let state = ended_state(ending, work.run.started_at, now, Some(now));
    work.end(state).await?;
    Ok(true)
}

/// Puts one live collection back, and removes what was built for it.
pub(super) async fn undo_line(shared: &Shared<'_>, line: CollectionRestore) -> Step {
    match line.stage {
        CollectionStage::Swapping(_) | CollectionStage::Swapped(_) => put_back(shared, line).await,
        _ => remove_built(shared, line).await,
    }
}

/// Puts the live collection back if it was moved.
async fn put_back(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    grants::save_before_swap_back(shared, &mut line).await?;
    match &line.stage {
        CollectionStage::Swapping(swap) | CollectionStage::Swapped(swap) => {
            swap_back(shared, &line, swap).await?;
            discard_rebuilt(shared, line).await
        }
        _ => Ok(()),
    }
}

/// Removes what was built for a collection that isn't swapped in.
async fn remove_built(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    match &line.stage {
        CollectionStage::Built { id: Some(id), imports } if !imports.at_work.is_empty() => {
            let (id, imports) = (*id, imports.clone());
            Importing::new(shared, &mut line, id, imports).wait_until_ended().await?;
        }
        CollectionStage::Built { .. }
        | CollectionStage::Imported { .. }
        | CollectionStage::Compared { .. }
        | CollectionStage::Verified { .. } => {}
        CollectionStage::Waiting
        | CollectionStage::Undone
        | CollectionStage::Swapping(_)
        | CollectionStage::Swapped(_) => return Ok(()),
    }
    discard_rebuilt(shared, line).await
}

async fn discard_rebuilt(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    shared.watch(discard(shared.milvus.as_ref(), &shared.rebuilt(&line), &line.target).await)?;
    Ok(shared.enter(&mut line, CollectionStage::Undone).await?)
}

/// Checks that every previous collection of a completed restore can be put back, and loads each as it was loaded
/// before. Returns whether all can: if not, the rollback is over, and nothing was moved.
pub(crate) async fn prepare_rollback(work: &mut Work<'_>, completed_at: Time, until: Time) -> Step<bool> {
    match work.for_each_line(Concurrency::Many, async |shared, line| prepare_line(shared, line).await).await {
        Ok(()) => {
            work.enter(RestorePhase::Rollback { completed_at, until, step: RollbackStep::PutBack }).await?;
            Ok(true)
        }
        Err(Halt::Fatal(stuck)) => {
            stop_rollback(work, &stuck, completed_at, until).await?;
            Ok(false)
        }
        Err(halt) => Err(halt),
    }
}

/// Puts the previous collections back. If one can't be put back any more, the others still are.
pub(crate) async fn roll_back(work: &mut Work<'_>, completed_at: Time, until: Time) -> Step {
    match work.for_each_line(Concurrency::One, async |shared, line| put_back(shared, line).await).await {
        Ok(()) => {
            // Remove what is left of collections that were given up: the sweep skips a restore that was rolled back.
            work.for_each_line(Concurrency::Many, async |shared, line| {
                match is_undone(&line) || line.failure.is_none() {
                    true => Ok(()),
                    false => undo_line(shared, line).await,
                }
            })
            .await?;
            // An instance that was registered again without its storage still gets its collections back.
            if let Ok(own) = work.own_bucket() {
                remove_staged(work.jobs, &own, &work.restore).await?;
            }
            let started_at = work.run.started_at;
            let rolled_back_at = work.jobs.now();
            Ok(work.end(RestoreState::RolledBack { started_at, completed_at, rolled_back_at }).await?)
        }
        // The user has to move the collection that is in the way; the previous collections stay.
        Err(Halt::Fatal(stuck)) => Ok(stop_rollback(work, &stuck, completed_at, until).await?),
        Err(halt) => Err(halt),
    }
}

/// Ends a rollback that can't continue, without undoing it: the user can request it again. The sweep releases the
/// collections that it loaded.
pub(crate) async fn stop_rollback(
    work: &mut Work<'_>,
    stuck: &Failure,
    completed_at: Time,
    until: Time,
) -> Result<(), Error> {
    work.restore.warnings.push(format!("the rollback was not possible: {}", stuck.message));
    let mut reasons = Vec::new();
    work.read_lines(|line| match (line.failure, line.stage) {
        (Some(failure), _) => reasons.push(failure.message),
        (None, CollectionStage::Undone) => reasons.push(format!("{}: it was rolled back", line.target)),
        (None, _) => {}
    })
    .await?;
    work.restore.completeness = Completeness::for_restore(reasons.into_iter());
    let started_at = work.run.started_at;
    let previous = Previous::Kept { until };
    let leftovers_since = Some(work.jobs.now());
    work.end(RestoreState::Completed { started_at, completed_at, previous, leftovers_since }).await
}

async fn prepare_line(shared: &Shared<'_>, line: CollectionRestore) -> Step {
    let (CollectionStage::Swapped(swap) | CollectionStage::Swapping(swap)) = &line.stage else { return Ok(()) };
    let previous = shared.previous(&line);
    require_previous(shared, &line, swap).await?;
    let live = shared.milvus.collection_id(&line.target).await?;
    if live.is_some_and(|live| live != swap.new_id && Some(live) != swap.live_id) {
        return Err(target_taken_since_swap(&line, &previous));
    }
    let (Some(live_id), false) = (swap.live_id, swap.live_loaded == Loaded::No) else { return Ok(()) };
    if !has_id(shared.milvus.as_ref(), &previous, live_id).await? {
        return Ok(());
    }
    shared.load(&previous, &swap.live_loaded, &previous).await
}
