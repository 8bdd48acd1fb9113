//! IMPORT: the staged logs into the new collections, by jobs of the server's own.

use chrono::TimeDelta;
use milvault_model::{
    CollectionCapture, CollectionName, CollectionRestore, CollectionStage, FailureCode, ImportState, Imports,
    RestorePhase,
};

use super::{
    build::make,
    groups::{Group, groups},
    work::{AtOnce, Shared, Wait, Work},
};
use crate::{
    layout,
    ports::{ImportData, ImportRequest, ImportStatus, MilvusError},
    slice::{Step, fatal},
};

/// How often a collection is built before its import counts as failed.
const MAX_ATTEMPTS: u32 = 3;

/// How long an import may wait for its turn behind others, not all of them ours.
const TURN: TimeDelta = TimeDelta::hours(1);

pub(crate) async fn import(work: &mut Work<'_>) -> Step {
    work.each_line(AtOnce::Many, async |shared, line| import_line(shared, line).await).await?;
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
            Ended::Whole { .. } => {
                let name = shared.rebuilt(&line);
                let what = format!("the indexes of {}", line.target);
                shared.wait_until(&what, async || Ok(shared.milvus.indexing(&name).await?.into())).await?;
                line.stage = CollectionStage::Imported { id, rows: imports.rows };
                return Ok(shared.save(&line).await?);
            }
            Ended::Failed(reason) if line.attempts >= MAX_ATTEMPTS => {
                let message = format!("{}: the import failed {MAX_ATTEMPTS} times: {reason}", line.target);
                return Err(fatal(FailureCode::ImportFailed, message));
            }
            Ended::Failed(reason) => {
                // From the beginning, so that no row is loaded twice.
                tracing::warn!(reason, collection = %line.target, "building the collection again");
                make(shared, &mut line, &capture).await?;
            }
        }
    }
}

/// How an import ended.
enum Ended {
    Whole { rows: u64 },
    Failed(String),
}

/// The imports of a collection's groups that aren't completed yet.
///
/// One after another: a server of the 2.3 line works on them one after another too, and an import that waits for its
/// turn may expire.
async fn import_all(
    shared: &Shared<'_>,
    line: &mut CollectionRestore,
    id: i64,
    imports: &mut Imports,
    capture: &CollectionCapture,
) -> Step<Ended> {
    let name = shared.rebuilt(line);
    let groups = groups(capture)?;
    while let Some(group) = groups.get(imports.completed.len()) {
        let _turn = shared.import_turn(group.segments.len()).await;
        let task = match imports.next {
            ImportState::Started { task } => task,
            ImportState::Starting => match unrecorded(shared, &name, imports).await? {
                Some(task) => task,
                None => start(shared, &name, imports.completed.len(), group, capture).await?,
            },
            ImportState::Planned => {
                save(shared, line, id, imports, ImportState::Starting).await?;
                start(shared, &name, imports.completed.len(), group, capture).await?
            }
        };
        if imports.next != (ImportState::Started { task }) {
            save(shared, line, id, imports, ImportState::Started { task }).await?;
        }
        match outcome(shared, line, &group.partition, task).await? {
            Ended::Whole { rows } => {
                imports.completed.push(task);
                imports.rows += rows;
                save(shared, line, id, imports, ImportState::Planned).await?;
            }
            failed @ Ended::Failed(_) => return Ok(failed),
        }
    }
    Ok(Ended::Whole { rows: imports.rows })
}

/// Waits for an import to end. One that has started and gets no further for the limit counts as failed: a server that
/// was restarted forgets the work, but not the job (seen on 2.3.5, which leaves it "Started").
async fn outcome(shared: &Shared<'_>, line: &CollectionRestore, partition: &str, task: i64) -> Step<Ended> {
    let clock = &shared.jobs.ports.clock;
    let limit = shared.jobs.settings.import_stall;
    let began = clock.now();
    let mut seen = (ImportStatus::Waiting, began);
    let mut ended = None;
    let what = format!("the import into {} ({partition})", line.target);
    shared
        .wait_until(&what, async || {
            let status = match shared.milvus.import_status(task).await {
                Ok(status) => status,
                // The server no longer knows the job.
                Err(MilvusError::Refused(reason)) => ImportStatus::Failed(reason),
                Err(error) => return Err(error.into()),
            };
            let now = clock.now();
            if status != seen.0 {
                seen = (status.clone(), now);
            }
            let idle = now - seen.1;
            ended = match status {
                ImportStatus::Completed { rows } => Some(Ended::Whole { rows }),
                ImportStatus::Failed(reason) => Some(Ended::Failed(reason)),
                ImportStatus::Running { .. } if idle > limit => {
                    Some(Ended::Failed(format!("no progress for {} s", limit.num_seconds())))
                }
                ImportStatus::Waiting if idle > TURN => {
                    Some(Ended::Failed(format!("it wasn't its turn for {} s", TURN.num_seconds())))
                }
                ImportStatus::Running { .. } | ImportStatus::Waiting => None,
            };
            Ok(match ended {
                Some(_) => Wait::Over,
                // Its own limits are above: to the job, a server that answers is at work.
                None => Wait::Further(u64::try_from((now - began).num_milliseconds()).unwrap_or_default()),
            })
        })
        .await?;
    Ok(ended.unwrap_or_else(|| Ended::Failed("it didn't end".to_owned())))
}

async fn save(
    shared: &Shared<'_>,
    line: &mut CollectionRestore,
    id: i64,
    imports: &mut Imports,
    next: ImportState,
) -> Step {
    imports.next = next;
    line.stage = CollectionStage::Built { id: Some(id), imports: imports.clone() };
    Ok(shared.save(line).await?)
}

async fn start(
    shared: &Shared<'_>,
    name: &CollectionName,
    number: usize,
    group: &Group,
    capture: &CollectionCapture,
) -> Step<i64> {
    let [insert_prefix, delta_prefix] = group.prefixes(&layout::staging(&shared.restore.id), number, capture.id);
    let request = ImportRequest {
        collection: name,
        partition: &group.partition,
        data: ImportData { insert_prefix: &insert_prefix, delta_prefix: &delta_prefix, storage: group.storage },
        end_timestamp: capture.flush_timestamp,
    };
    shared.sure(shared.milvus.import(request).await)
}

/// The job that a worker started and died before it wrote it down: only one is ever between the two.
async fn unrecorded(shared: &Shared<'_>, name: &CollectionName, imports: &Imports) -> Step<Option<i64>> {
    let known = shared.milvus.import_tasks(name).await?;
    Ok(known.into_iter().find(|task| !imports.completed.contains(task)))
}
