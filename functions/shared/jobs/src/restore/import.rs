//! IMPORT: the staged logs into the new collections, by jobs of the server's own.

use std::collections::HashSet;

use milvault_model::{
    CollectionCapture, CollectionName, CollectionRestore, CollectionStage, FailureCode, ImportState, ImportTask,
    RestorePhase,
};

use super::{
    build::make,
    work::{Shared, Work},
};
use crate::{
    layout,
    ports::{ImportRequest, ImportStatus},
    slice::{Step, fatal},
};

/// How often a collection is built before its import counts as failed.
const MAX_ATTEMPTS: u32 = 3;

pub(crate) async fn import(work: &mut Work<'_>) -> Step {
    work.each_line(async |shared, line| import_line(shared, line).await).await?;
    Ok(work.enter(RestorePhase::Verify).await?)
}

async fn import_line(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    let capture = match &line.stage {
        CollectionStage::Built { .. } => shared.capture(&line).await?,
        _ => return Ok(()),
    };
    loop {
        let CollectionStage::Built { id: Some(id), mut imports } = line.stage.clone() else {
            // Made by a worker that died before it was whole.
            make(shared, &mut line, &capture).await?;
            continue;
        };
        match import_all(shared, &mut line, id, &mut imports, &capture).await? {
            Imported::Whole { rows } => {
                let name = shared.rebuilt(&line);
                let what = format!("the indexes of {}", line.target);
                shared.wait_until(&what, async || Ok(shared.milvus.indexes_are_built(&name).await?)).await?;
                line.stage = CollectionStage::Imported { id, rows };
                return Ok(shared.save(&line).await?);
            }
            Imported::Failed(reason) if line.attempts >= MAX_ATTEMPTS => {
                let message = format!("{}: the import failed {MAX_ATTEMPTS} times: {reason}", line.target);
                return Err(fatal(FailureCode::ImportFailed, message));
            }
            Imported::Failed(reason) => {
                // From the beginning, so that no row is loaded twice.
                tracing::warn!(reason, collection = %line.target, "building the collection again");
                make(shared, &mut line, &capture).await?;
            }
        }
    }
}

enum Imported {
    Whole { rows: u64 },
    Failed(String),
}

async fn import_all(
    shared: &Shared<'_>,
    line: &mut CollectionRestore,
    id: i64,
    imports: &mut [ImportTask],
    capture: &CollectionCapture,
) -> Step<Imported> {
    let name = shared.rebuilt(line);
    let mut rows = 0;
    // One after another: the server works on them one after another too, and an import that waits for its turn may
    // expire (after 15 minutes in 2.3).
    for index in 0..imports.len() {
        let task = match imports[index].state {
            ImportState::Completed { rows: done, .. } => {
                rows += done;
                continue;
            }
            ImportState::Started { task } => task,
            ImportState::Starting => match unrecorded(shared, &name, imports).await? {
                Some(task) => task,
                None => start(shared, &name, &imports[index], capture, line.source_id).await?,
            },
            ImportState::Planned => {
                save(shared, line, id, imports, index, ImportState::Starting).await?;
                start(shared, &name, &imports[index], capture, line.source_id).await?
            }
        };
        save(shared, line, id, imports, index, ImportState::Started { task }).await?;
        let mut last = ImportStatus::Running;
        let what = format!("the import into {} ({})", line.target, imports[index].partition);
        shared
            .wait_until(&what, async || {
                last = shared.milvus.import_status(task).await?;
                Ok(last != ImportStatus::Running)
            })
            .await?;
        match last {
            ImportStatus::Completed { rows: done } => {
                rows += done;
                save(shared, line, id, imports, index, ImportState::Completed { task, rows: done }).await?;
            }
            ImportStatus::Failed(reason) => return Ok(Imported::Failed(reason)),
            ImportStatus::Running => {}
        }
    }
    Ok(Imported::Whole { rows })
}

async fn save(
    shared: &Shared<'_>,
    line: &mut CollectionRestore,
    id: i64,
    imports: &mut [ImportTask],
    index: usize,
    state: ImportState,
) -> Step {
    imports[index].state = state;
    line.stage = CollectionStage::Built { id: Some(id), imports: imports.to_vec() };
    Ok(shared.save(line).await?)
}

async fn start(
    shared: &Shared<'_>,
    name: &CollectionName,
    import: &ImportTask,
    capture: &CollectionCapture,
    source_id: i64,
) -> Step<i64> {
    let staging = layout::staging(&shared.restore.id);
    let partition = import.source_partition_id;
    let request = ImportRequest {
        collection: name,
        partition: &import.partition,
        insert_prefix: &format!("{staging}insert_log/{source_id}/{partition}/"),
        delta_prefix: &format!("{staging}delta_log/{source_id}/{partition}/"),
        end_timestamp: capture.flush_timestamp,
    };
    Ok(shared.milvus.import(request).await?)
}

/// The job that a worker started and died before it wrote it down: only one is ever between the two.
async fn unrecorded(shared: &Shared<'_>, name: &CollectionName, imports: &[ImportTask]) -> Step<Option<i64>> {
    let recorded: HashSet<i64> = imports
        .iter()
        .filter_map(|import| match import.state {
            ImportState::Started { task } | ImportState::Completed { task, .. } => Some(task),
            ImportState::Planned | ImportState::Starting => None,
        })
        .collect();
    let known = shared.milvus.import_tasks(name).await?;
    Ok(known.into_iter().find(|task| !recorded.contains(task)))
}
