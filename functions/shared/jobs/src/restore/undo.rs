//! The ways back: a restore that doesn't complete, and one that is rolled back.

use milvault_model::{
    CollectionRestore, CollectionStage, Completeness, Ending, Failure, Loaded, Previous, RestorePhase, RestoreState,
    RollbackStep, Time,
};

use super::{
    clean::{discard, remove_staged},
    grants,
    import::Importing,
    ledger::{AtOnce, is_undone},
    names::is_there,
    shared::Shared,
    swap::{another, require_previous, swap_back},
    work::{Work, ended},
};
use crate::{
    Error,
    engine::halt::{Halt, Step},
};

/// Leaves every live collection as it was, and nothing of the restore.
pub(crate) async fn undo(work: &mut Work<'_>, ending: Ending) -> Step {
    let put_back = work.each_line(AtOnce::One, async |shared, line| put_back(shared, line).await).await;
    let ending = match put_back {
        Ok(()) => ending,
        // Someone put another collection in a swapped one's place: say which is where, and touch neither.
        Err(Halt::Fatal(stuck)) => Ending::Failed(match ending {
            Ending::Failed(failure) => Failure::new(failure.code, format!("{}; {}", failure.message, stuck.message)),
            Ending::Cancelled => stuck,
        }),
        Err(halt) => return Err(halt),
    };
    work.each_line(AtOnce::Many, async |shared, line| remove_built(shared, line).await).await?;
    let own = work.own_bucket()?;
    work.held.drain(work.deadline).await?;
    remove_staged(work.jobs, &own, &work.restore).await?;
    let now = work.jobs.now();
    Ok(work.end(ended(ending, work.run.started_at, now, None)).await?)
}

/// Ends a restore whose undoing doesn't go on: at once if every live collection is in its place, and otherwise only
/// after many tries, with the names of those that aren't. The sweep removes the rest later. Whether it ended.
pub(crate) async fn give_up(work: &mut Work<'_>, first: Ending, last: Ending) -> Result<bool, Error> {
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
                "{}; and what was live couldn't be put back for {names}, because {}: it is kept beside it, with \
                 __before_{suffix} after its name",
                failure.message, stuck.message
            );
            Ending::Failed(Failure::new(failure.code, message))
        }
        (first, _) => first,
    };
    let state = ended(ending, work.run.started_at, now, Some(now));
    work.end(state).await?;
    Ok(true)
}

/// Leaves one live collection as it was, and nothing that was built for it.
pub(super) async fn undo_line(shared: &Shared<'_>, line: CollectionRestore) -> Step {
    match line.stage {
        CollectionStage::Swapping(_) | CollectionStage::Swapped(_) => put_back(shared, line).await,
        _ => remove_built(shared, line).await,
    }
}

/// Puts what was live back where it was, if it was moved.
async fn put_back(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    grants::keep_for_swap_back(shared, &mut line).await?;
    match &line.stage {
        CollectionStage::Swapping(swap) | CollectionStage::Swapped(swap) => {
            swap_back(shared, &line, swap).await?;
            remove(shared, line).await
        }
        _ => Ok(()),
    }
}

/// Removes what was built for a collection that isn't swapped in.
async fn remove_built(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    match &line.stage {
        CollectionStage::Built { id: Some(id), imports } if !imports.at_work.is_empty() => {
            let (id, imports) = (*id, imports.clone());
            Importing::new(shared, &mut line, id, imports).end().await?;
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
    remove(shared, line).await
}

async fn remove(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    shared.sure(discard(shared.milvus.as_ref(), &shared.rebuilt(&line), &line.target).await)?;
    Ok(shared.enter(&mut line, CollectionStage::Undone).await?)
}

/// Sees that every previous collection of a completed restore can be put back, and loads it as it was. Whether all can:
/// if not, the rollback is over, and nothing was moved.
pub(crate) async fn prepare_rollback(work: &mut Work<'_>, completed_at: Time, until: Time) -> Step<bool> {
    match work.each_line(AtOnce::Many, async |shared, line| prepare_line(shared, line).await).await {
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

/// Puts the previous collections back. One that can't be by now doesn't keep the others from it.
pub(crate) async fn roll_back(work: &mut Work<'_>, completed_at: Time, until: Time) -> Step {
    match work.each_line(AtOnce::One, async |shared, line| put_back(shared, line).await).await {
        Ok(()) => {
            // What is left of collections that were given up: nobody looks at it after this.
            work.each_line(AtOnce::Many, async |shared, line| match is_undone(&line) || line.failure.is_none() {
                true => Ok(()),
                false => undo_line(shared, line).await,
            })
            .await?;
            // Whoever registered the instance anew without its storage gets their collections back all the same.
            if let Ok(own) = work.own_bucket() {
                remove_staged(work.jobs, &own, &work.restore).await?;
            }
            let started_at = work.run.started_at;
            let rolled_back_at = work.jobs.now();
            Ok(work.end(RestoreState::RolledBack { started_at, completed_at, rolled_back_at }).await?)
        }
        // What is in the way has to be moved by the user; what is kept is kept on.
        Err(Halt::Fatal(stuck)) => Ok(stop_rollback(work, &stuck, completed_at, until).await?),
        Err(halt) => Err(halt),
    }
}

/// Leaves a rollback that can't go on as far as it is: it can be asked for again. What it loaded the sweep releases.
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
    work.restore.completeness = Completeness::of_restore(reasons.into_iter());
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
        return Err(another(&line, &previous));
    }
    let (Some(live_id), false) = (swap.live_id, swap.live_loaded == Loaded::No) else { return Ok(()) };
    if !is_there(shared.milvus.as_ref(), &previous, live_id).await? {
        return Ok(());
    }
    shared.load(&previous, &swap.live_loaded, &previous).await
}
