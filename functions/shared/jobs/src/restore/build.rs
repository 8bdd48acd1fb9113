//! BUILD: the new collections beside the live ones, under names of the restore's own.

use std::collections::BTreeSet;

use milvault_model::{CollectionCapture, CollectionRestore, CollectionStage, ImportState, ImportTask, RestorePhase};

use super::work::{Shared, Work};
use crate::slice::Step;

pub(crate) async fn build(work: &mut Work<'_>) -> Step {
    work.each_line(async |shared, line| build_line(shared, line).await).await?;
    Ok(work.enter(RestorePhase::Import).await?)
}

async fn build_line(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    match line.stage {
        CollectionStage::Waiting | CollectionStage::Built { id: None, .. } => {
            let capture = shared.capture(&line).await?;
            make(shared, &mut line, &capture).await
        }
        _ => Ok(()),
    }
}

/// Makes a line's collection from the beginning. The ledger says so before: what is found under the name later is
/// ours, whether or not it is whole.
pub(crate) async fn make(shared: &Shared<'_>, line: &mut CollectionRestore, capture: &CollectionCapture) -> Step {
    let name = shared.rebuilt(line);
    let imports = imports_of(capture);
    line.attempts += 1;
    line.stage = CollectionStage::Built { id: None, imports: imports.clone() };
    shared.save(line).await?;

    let milvus = &shared.milvus;
    milvus.ensure_database(&name.database).await?;
    milvus.drop_collection(&name).await?;
    milvus.create(&name, capture).await?;
    // Before the data: then an import is completed only when its rows are indexed.
    for index in &capture.indexes {
        milvus.ensure_index(&name, index).await?;
    }
    let id = milvus.describe(&name).await?.id;
    line.stage = CollectionStage::Built { id: Some(id), imports };
    Ok(shared.save(line).await?)
}

/// One import per partition with rows, in the order of the partitions' names.
fn imports_of(capture: &CollectionCapture) -> Vec<ImportTask> {
    let with_rows: BTreeSet<i64> =
        capture.segments.iter().filter(|segment| segment.rows > 0).map(|segment| segment.partition_id).collect();
    capture
        .partitions
        .iter()
        .filter(|partition| with_rows.contains(&partition.id))
        .map(|partition| ImportTask {
            partition: partition.name.clone(),
            source_partition_id: partition.id,
            state: ImportState::Planned,
        })
        .collect()
}
