//! The ways back: a restore that doesn't complete, and one that is rolled back.

use milvault_model::{
    CollectionRestore, CollectionStage, Ending, Failure, ImportState, Loaded, Previous, RestoreState, Time,
};

use super::{
    clean::remove_staged,
    swap::{require_previous, swap_back},
    work::{POLL, Shared, Work, ended},
};
use crate::{
    ports::{ImportStatus, MilvusError},
    slice::{self, Halt, Step},
};

/// Leaves every live collection as it was, and nothing of the restore.
pub(crate) async fn undo(work: &mut Work<'_>, ending: Ending) -> Step {
    let ending = match work.each_line(async |shared, line| undo_line(shared, line).await).await {
        Ok(()) => ending,
        // Someone put another collection in a swapped one's place: say which is where, and touch neither.
        Err(Halt::Fatal(stuck)) => Ending::Failed(match ending {
            Ending::Failed(failure) => Failure::new(failure.code, format!("{}; {}", failure.message, stuck.message)),
            Ending::Cancelled => stuck,
        }),
        Err(halt) => return Err(halt),
    };
    let own = work.own_bucket()?;
    work.held.settle(work.deadline).await?;
    remove_staged(work.jobs, &own, &work.restore).await?;
    let now = work.jobs.ports.clock.now();
    Ok(work.end(ended(ending, work.run.started_at, now, None)).await?)
}

async fn undo_line(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    match &line.stage {
        CollectionStage::Waiting | CollectionStage::Undone => return Ok(()),
        CollectionStage::Swapping(swap) | CollectionStage::Swapped(swap) => {
            swap_back(shared, &line, swap).await?;
        }
        CollectionStage::Built { imports, .. } => {
            // Milvus 2.3.5 leaves jobs behind a failed one of a dropped collection pending for ever: let them end, but
            // don't wait for one that the server has forgotten.
            let patience = shared.jobs.ports.clock.now() + shared.jobs.settings.import_stall;
            for import in imports {
                if let ImportState::Started { task } = import.state {
                    slice::wait_until(shared.jobs, shared.deadline, POLL, async || {
                        match shared.milvus.import_status(task).await {
                            Ok(ImportStatus::Completed { .. } | ImportStatus::Failed(_))
                            | Err(MilvusError::Refused(_)) => Ok(true),
                            Ok(ImportStatus::Waiting | ImportStatus::Running { .. }) => {
                                Ok(shared.jobs.ports.clock.now() > patience)
                            }
                            Err(error) => Err(error.into()),
                        }
                    })
                    .await?;
                }
            }
        }
        CollectionStage::Imported { .. } | CollectionStage::Verified { .. } => {}
    }
    shared.milvus.drop_collection(&shared.rebuilt(&line)).await?;
    line.stage = CollectionStage::Undone;
    Ok(shared.save(&line).await?)
}

/// Puts the previous collections of a completed restore back, loaded as they were.
pub(crate) async fn roll_back(work: &mut Work<'_>, completed_at: Time, until: Time) -> Step {
    let started_at = work.run.started_at;
    // All of them ready before the first is moved.
    let rolled_back = match work.each_line(async |shared, line| load_previous(shared, line).await).await {
        Ok(()) => work.each_line(async |shared, line| undo_line(shared, line).await).await,
        halted => halted,
    };
    let state = match rolled_back {
        Ok(()) => RestoreState::RolledBack { started_at, completed_at, rolled_back_at: work.jobs.ports.clock.now() },
        // What is in the way has to be moved by the user; what is kept is kept on.
        Err(Halt::Fatal(stuck)) => {
            work.restore.warnings.push(format!("the rollback was not possible for {}", stuck.message));
            RestoreState::Completed { started_at, completed_at, previous: Previous::Kept { until } }
        }
        Err(halt) => return Err(halt),
    };
    Ok(work.end(state).await?)
}

async fn load_previous(shared: &Shared<'_>, line: CollectionRestore) -> Step {
    let CollectionStage::Swapped(swap) = &line.stage else { return Ok(()) };
    let previous = shared.previous(&line);
    require_previous(shared, &line, swap).await?;
    if swap.live_loaded == Loaded::No || shared.milvus.collection_id(&previous).await? != swap.live_id {
        return Ok(());
    }
    shared.milvus.load(&previous, &swap.live_loaded).await?;
    slice::wait_until(shared.jobs, shared.deadline, POLL, async || Ok(shared.milvus.is_loaded(&previous).await?)).await
}
