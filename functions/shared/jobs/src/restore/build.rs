//! BUILD: creates the new collections beside the live ones, under the restore's own names.

use std::collections::HashSet;

use milvault_model::{
    CollectionCapture, CollectionPattern, CollectionRestore, CollectionStage, FailureCode, FieldCapture, Imports,
    IndexCapture, RestorePhase, TIME_TO_LIVE,
};
use milvault_ports::MilvusError;

use super::{clean::discard, ledger::Concurrency, shared::Shared, work::Work};
use crate::engine::halt::{Step, fatal};

/// Runs the phase BUILD.
pub(crate) async fn build(work: &mut Work<'_>) -> Step {
    create_empty_databases(work).await?;
    work.for_each_active_line(Concurrency::Many, async |shared, line| build_line(shared, line).await).await?;
    Ok(work.enter(RestorePhase::Import).await?)
}

/// Creates the backup's databases that have no collections.
async fn create_empty_databases(work: &mut Work<'_>) -> Step {
    let mut with_collections = HashSet::new();
    work.read_lines(|line| with_collections.extend([line.source.database])).await?;
    let shared = work.shared().await?;
    let selection = &work.restore.selection;
    let is_empty =
        |name: &String| !with_collections.contains(name) && CollectionPattern::selects_in_database(selection, name);
    for database in shared.databases().await?.iter().filter(|database| is_empty(&database.name)) {
        match shared.milvus.ensure_database(&database.name, &database.properties).await {
            // The collections are restored even so.
            Err(error) if error.is_refusal() => {
                shared.warn(format!("database {}, which has no collections, is not restored: {error}", database.name));
            }
            created => shared.watch(created)?,
        }
    }
    work.take_warnings(&shared);
    Ok(())
}

async fn build_line(shared: &Shared<'_>, mut line: CollectionRestore) -> Step {
    match line.stage {
        CollectionStage::Waiting | CollectionStage::Built { id: None, .. } => {
            let capture = shared.capture(&line).await?;
            build_collection(shared, &mut line, &capture).await
        }
        _ => Ok(()),
    }
}

/// Builds a line's collection from the beginning. The ledger records this first: a collection that is later found under
/// the name is the restore's, complete or not.
pub(crate) async fn build_collection(
    shared: &Shared<'_>,
    line: &mut CollectionRestore,
    capture: &CollectionCapture,
) -> Step {
    let name = shared.rebuilt(line);
    line.attempts += 1;
    line.lost_indexes.clear();
    shared.enter(line, CollectionStage::Built { id: None, imports: Imports::default() }).await?;

    let milvus = &shared.milvus;
    let database = shared.databases().await?.iter().find(|database| database.name == name.database);
    let properties = database.map(|database| database.properties.as_slice()).unwrap_or_default();
    shared.watch(milvus.ensure_database(&name.database, properties).await)?;
    shared.watch(discard(milvus.as_ref(), &name, &line.target).await)?;
    // Rows that are past their time to live are restored and counted with the others: VERIFY sets it after the count.
    let without_ttl = CollectionCapture {
        properties: capture.properties.iter().filter(|(key, _)| key != TIME_TO_LIVE).cloned().collect(),
        ..capture.clone()
    };
    shared.watch(milvus.create(&name, &without_ttl).await)?;
    // Indexes are created before the data: then an import is completed only when its rows are indexed.
    for index in &capture.indexes {
        match milvus.ensure_index(&name, index).await {
            // The user can create an index later, so that the restore continues without it.
            Err(MilvusError::Refused(reason)) => {
                let IndexCapture { name, field, .. } = index;
                shared.warn(format!("{}: index {name} on {field} is not recreated: {reason}", line.target));
                line.lost_indexes.push(name.clone());
            }
            created => shared.watch(created)?,
        }
    }
    let described = milvus.describe(&name).await?;
    require_field_ids(line, &capture.fields, &described.fields)?;
    Ok(shared.enter(line, CollectionStage::Built { id: Some(described.id), imports: Imports::default() }).await?)
}

/// Checks that every field has the same ID as in the backup: an import puts columns into fields by their IDs.
fn require_field_ids(line: &CollectionRestore, captured: &[FieldCapture], built: &[FieldCapture]) -> Step {
    let differs = |field: &&FieldCapture| !built.iter().any(|other| (&other.name, other.id) == (&field.name, field.id));
    let differing: Vec<String> = captured
        .iter()
        .filter(differs)
        .map(|field| {
            let built = built.iter().find(|other| other.name == field.name);
            let id = built.map_or_else(|| "none".to_owned(), |built| built.id.to_string());
            format!("{} has ID {} in the backup and {id} in the new collection", field.name, field.id)
        })
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{}: the server gives its fields other IDs, so that an import would mix up their columns: {}",
        line.target,
        differing.join(", ")
    );
    Err(fatal(FailureCode::VerificationFailed, message))
}
