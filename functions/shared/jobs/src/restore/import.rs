//! IMPORT: the staged logs into the new collections, by jobs of the server's own.

use std::collections::{BTreeSet, HashSet};

use milvault_model::{
    CollectionCapture, CollectionName, CollectionRestore, CollectionStage, FailureCode, ImportState, ImportTask,
    RestorePhase, SegmentCapture, SegmentLevel, StorageVersion,
};

use super::{
    build::make,
    work::{Shared, Work},
};
use crate::{
    layout,
    ports::{ImportData, ImportRequest, ImportStatus, MilvusError},
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
        match outcome(shared, line, &imports[index].partition, task).await? {
            Imported::Whole { rows: done } => {
                rows += done;
                save(shared, line, id, imports, index, ImportState::Completed { task, rows: done }).await?;
            }
            failed @ Imported::Failed(_) => return Ok(failed),
        }
    }
    Ok(Imported::Whole { rows })
}

/// Waits for an import to end. One that has started and gets no further for the limit counts as failed: a server that
/// was restarted forgets the work, but not the job (seen on 2.3.5, which leaves it "Started").
async fn outcome(shared: &Shared<'_>, line: &CollectionRestore, partition: &str, task: i64) -> Step<Imported> {
    let clock = &shared.jobs.ports.clock;
    let limit = shared.jobs.settings.import_stall;
    let mut seen = (ImportStatus::Waiting, clock.now());
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
            ended = match status {
                ImportStatus::Completed { rows } => Some(Imported::Whole { rows }),
                ImportStatus::Failed(reason) => Some(Imported::Failed(reason)),
                status if status != seen.0 => {
                    seen = (status, now);
                    None
                }
                ImportStatus::Running { .. } if now - seen.1 > limit => {
                    Some(Imported::Failed(format!("no progress for {} s", limit.num_seconds())))
                }
                _ => None,
            };
            Ok(ended.is_some())
        })
        .await?;
    Ok(ended.unwrap_or_else(|| Imported::Failed("it didn't end".to_owned())))
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
    let storage = importable(capture, partition)?;
    let request = ImportRequest {
        collection: name,
        partition: &import.partition,
        data: ImportData::Segments {
            insert_prefix: &format!("{staging}insert_log/{source_id}/{partition}/"),
            delta_prefix: &format!("{staging}delta_log/{source_id}/{partition}/"),
            storage,
        },
        end_timestamp: capture.flush_timestamp,
    };
    Ok(shared.milvus.import(request).await?)
}

/// The storage version of a partition's segments, all of which are imported at once.
///
/// Deletes in L0 segments of the partition are among its delta logs, all of which the server applies
/// (`internal/util/importutilv2/binlog/reader.go`); those for all partitions aren't.
fn importable(capture: &CollectionCapture, partition: i64) -> Step<StorageVersion> {
    let refused = |reason: String| fatal(FailureCode::ImportFailed, format!("{}: {reason}", capture.name));
    let is_of_all = |segment: &&SegmentCapture| segment.level == SegmentLevel::L0 && segment.partition_id < 0;
    if let Some(segment) = capture.segments.iter().find(is_of_all) {
        let id = segment.id;
        return Err(refused(format!("segment {id} has deletes for all partitions, which can't be imported yet")));
    }
    let data = capture.segments.iter().filter(|segment| segment.level == SegmentLevel::Data);
    let versions: BTreeSet<StorageVersion> =
        data.filter(|segment| segment.partition_id == partition).map(|segment| segment.storage).collect();
    match versions.len() {
        0 | 1 => Ok(versions.first().copied().unwrap_or_default()),
        _ => {
            Err(refused("a partition has segments of several storage versions, which can't be imported yet".to_owned()))
        }
    }
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use milvault_model::{Loaded, RowCount};

    use super::*;
    use crate::slice::Halt;

    fn segment(partition_id: i64, level: SegmentLevel, storage: StorageVersion) -> SegmentCapture {
        SegmentCapture { id: 7, partition_id, rows: 1, level, storage }
    }

    fn of(segments: Vec<SegmentCapture>) -> Result<StorageVersion, String> {
        let capture = CollectionCapture {
            name: CollectionName::new("default", "items"),
            id: 1,
            schema: String::new(),
            primary_key: "id".to_owned(),
            shards: 1,
            consistency_level: 0,
            properties: Vec::new(),
            partitions: Vec::new(),
            has_partition_key: false,
            indexes: Vec::new(),
            aliases: Vec::new(),
            loaded: Loaded::No,
            flush_timestamp: 0,
            point_in_time: DateTime::UNIX_EPOCH,
            rows: RowCount::AtMost { rows: 1 },
            size_bytes: 0,
            segments,
        };
        importable(&capture, 2).map_err(|halt| match halt {
            Halt::Fatal(failure) => failure.message,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn a_partition_is_imported_in_its_segments_storage_version() {
        let (v1, v2) = (StorageVersion::V1, StorageVersion::V2);
        assert_eq!(of(Vec::new()), Ok(v1));
        let elsewhere = segment(3, SegmentLevel::Data, v1);
        let deletes = segment(2, SegmentLevel::L0, v1);
        assert_eq!(of(vec![segment(2, SegmentLevel::Data, v2), elsewhere, deletes]), Ok(v2));
    }

    #[test]
    fn what_an_import_would_leave_out_or_misread_is_refused() {
        let data = |storage| segment(2, SegmentLevel::Data, storage);
        assert!(of(vec![data(StorageVersion::V1), data(StorageVersion::V2)]).unwrap_err().contains("several storage"));
        assert!(
            of(vec![segment(-1, SegmentLevel::L0, StorageVersion::V1)]).unwrap_err().contains("for all partitions")
        );
    }
}
