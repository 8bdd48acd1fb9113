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
    ports::{ImportData, ImportRequest, ImportStatus, ImportTasks, MilvusError},
    slice::{Step, fatal},
};

/// How often a collection is built before its import counts as failed.
const MAX_ATTEMPTS: u32 = 5;

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
            Ended::Failed(_) => {
                // From the beginning, so that no row is loaded twice. The server's reason may quote rows: it is for the
                // restore's caller, who sees it if this goes on, and not for whoever reads logs.
                tracing::warn!(attempts = line.attempts, collection = %line.target, "an import failed: building the collection again");
                make(shared, &mut line, &capture).await?;
            }
        }
    }
}

/// How an import ended.
pub(super) enum Ended {
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
        let number = imports.completed.len();
        let task = match imports.next {
            ImportState::Started { task, .. } => task,
            ImportState::Starting | ImportState::Planned => {
                let task = if imports.next == ImportState::Planned {
                    save(shared, line, id, imports, ImportState::Starting).await?;
                    start(shared, &name, number, group, capture).await?
                } else {
                    match unrecorded(shared, &name, imports).await? {
                        Some(task) => task,
                        // Perhaps it never began; perhaps its rows are there, and the server has forgotten it.
                        None => return Ok(Ended::Failed("whether it began isn't known".to_owned())),
                    }
                };
                let since = shared.jobs.ports.clock.now();
                save(shared, line, id, imports, ImportState::Started { task, progress: None, since }).await?;
                task
            }
        };
        match follow(shared, line, id, imports).await? {
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

/// Waits for the import that was started to end. One that has started and gets no further for the limit counts as
/// failed: a server that was restarted forgets the work, but not the job (seen on 2.3.5, which leaves it "Started").
pub(super) async fn follow(
    shared: &Shared<'_>,
    line: &mut CollectionRestore,
    id: i64,
    imports: &mut Imports,
) -> Step<Ended> {
    let clock = &shared.jobs.ports.clock;
    let limit = shared.jobs.settings.import_stall;
    let what = format!("the import into {}", line.target);
    let mut ended = None;
    shared
        .wait_until(&what, async || {
            let ImportState::Started { task, progress, since } = imports.next else { return Ok(Wait::Over) };
            let status = match shared.milvus.import_status(task).await {
                Ok(status) => status,
                // The server no longer knows the job.
                Err(MilvusError::Refused(reason)) => ImportStatus::Failed(reason),
                Err(error) => return Err(error.into()),
            };
            let now = clock.now();
            let idle = now - since;
            let seen = match status {
                ImportStatus::Completed { rows } => {
                    ended = Some(Ended::Whole { rows });
                    return Ok(Wait::Over);
                }
                ImportStatus::Failed(reason) => {
                    ended = Some(Ended::Failed(reason));
                    return Ok(Wait::Over);
                }
                ImportStatus::Running { progress } => Some(progress),
                ImportStatus::Waiting => None,
            };
            let patience = if seen.is_some() { limit } else { TURN };
            if seen != progress {
                // Durable: slices may be shorter than the limit.
                let further = ImportState::Started { task, progress: seen, since: now };
                save(shared, line, id, imports, further).await?;
            } else if idle > patience {
                ended = Some(Ended::Failed(format!("no progress for {} s", patience.num_seconds())));
                return Ok(Wait::Over);
            }
            // Its limits are here: to the job, a server that answers is at work.
            Ok(Wait::Further(now.timestamp_millis().cast_unsigned()))
        })
        .await?;
    Ok(ended.unwrap_or_else(|| Ended::Failed("it was never started".to_owned())))
}

pub(super) async fn save(
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
pub(super) async fn unrecorded(shared: &Shared<'_>, name: &CollectionName, imports: &Imports) -> Step<Option<i64>> {
    match shared.milvus.import_tasks(name).await {
        Ok(ImportTasks::Named(tasks)) => Ok(tasks.into_iter().find(|task| !imports.completed.contains(task))),
        Ok(ImportTasks::Unnamed) => Ok(None),
        // Dropped by a worker that died before it made it again.
        Err(MilvusError::NoCollection(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
