//! BUILD: the new collections beside the live ones, under names of the restore's own.

use std::collections::HashSet;

use milvault_model::{
    CollectionCapture, CollectionPattern, CollectionRestore, CollectionStage, FailureCode, FieldCapture, Imports,
    IndexCapture, RestorePhase, TIME_TO_LIVE,
};
use milvault_ports::MilvusError;

use super::{clean::discard, ledger::AtOnce, shared::Shared, work::Work};
use crate::engine::halt::{Step, fatal};

pub(crate) async fn build(work: &mut Work<'_>) -> Step {
    make_empty_databases(work).await?;
    work.each_wanted(AtOnce::Many, async |shared, line| build_line(shared, line).await).await?;
    Ok(work.enter(RestorePhase::Import).await?)
}

/// A database without collections is a part of the backup too.
async fn make_empty_databases(work: &mut Work<'_>) -> Step {
    let mut with_collections = HashSet::new();
    work.read_lines(|line| with_collections.extend([line.source.database])).await?;
    let shared = work.shared().await?;
    let selection = &work.restore.selection;
    let is_empty =
        |name: &String| !with_collections.contains(name) && CollectionPattern::selects_in_database(selection, name);
    for database in shared.databases().await?.iter().filter(|database| is_empty(&database.name)) {
        match shared.milvus.ensure_database(&database.name, &database.properties).await {
            // Nobody has to go without the collections for it.
            Err(error) if error.is_refusal() => {
                shared
                    .warn(format!("database {}, which has no collections, isn't brought back: {error}", database.name));
            }
            made => shared.sure(made)?,
        }
    }
    work.take_warnings(&shared);
    Ok(())
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
    line.attempts += 1;
    line.lost_indexes.clear();
    shared.enter(line, CollectionStage::Built { id: None, imports: Imports::default() }).await?;

    let milvus = &shared.milvus;
    let database = shared.databases().await?.iter().find(|database| database.name == name.database);
    let properties = database.map(|database| database.properties.as_slice()).unwrap_or_default();
    shared.sure(milvus.ensure_database(&name.database, properties).await)?;
    shared.sure(discard(milvus.as_ref(), &name, &line.target).await)?;
    // Rows that are past their time to live come back with the others, and are counted: it is set once that is done.
    let lasting = CollectionCapture {
        properties: capture.properties.iter().filter(|(key, _)| key != TIME_TO_LIVE).cloned().collect(),
        ..capture.clone()
    };
    shared.sure(milvus.create(&name, &lasting).await)?;
    // Before the data: then an import is completed only when its rows are indexed.
    for index in &capture.indexes {
        match milvus.ensure_index(&name, index).await {
            // An index can be made later; without the rows there is nothing to make it of.
            Err(MilvusError::Refused(reason)) => {
                let IndexCapture { name, field, .. } = index;
                shared.warn(format!("{}: index {name} on {field} isn't made again: {reason}", line.target));
                line.lost_indexes.push(name.clone());
            }
            made => shared.sure(made)?,
        }
    }
    let described = milvus.describe(&name).await?;
    require_field_ids(line, &capture.fields, &described.fields)?;
    Ok(shared.enter(line, CollectionStage::Built { id: Some(described.id), imports: Imports::default() }).await?)
}

/// Whether every field has the id that it has in the backup: an import puts columns into fields by their ids.
fn require_field_ids(line: &CollectionRestore, captured: &[FieldCapture], made: &[FieldCapture]) -> Step {
    let differs = |field: &&FieldCapture| !made.iter().any(|other| (&other.name, other.id) == (&field.name, field.id));
    let differing: Vec<String> = captured
        .iter()
        .filter(differs)
        .map(|field| {
            let made = made.iter().find(|other| other.name == field.name);
            let now = made.map_or_else(|| "none".to_owned(), |made| made.id.to_string());
            format!("{} has id {} in the backup, and {now} here", field.name, field.id)
        })
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{}: the server gives other ids to its fields, and an import would mix up their columns: {}",
        line.target,
        differing.join(", ")
    );
    Err(fatal(FailureCode::VerificationFailed, message))
}
