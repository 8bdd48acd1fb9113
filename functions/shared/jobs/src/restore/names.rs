//! Looks up which collection has a name, despite stale aliases.

use milvault_model::CollectionName;
use milvault_ports::{Milvus, MilvusError};

use super::shared::Shared;
use crate::engine::halt::Step;

/// Returns the ID of the collection with this name.
///
/// Milvus 2.3.5 keeps the aliases of a dropped collection. A collection with the name of such an alias is listed, but
/// isn't found: the alias is dropped.
pub(super) async fn id_of(shared: &Shared<'_>, name: &CollectionName) -> Step<Option<i64>> {
    match shared.milvus.collection_id(name).await {
        Err(MilvusError::NotReady(_)) => {}
        found => return Ok(found?),
    }
    shared.watch(shared.milvus.drop_alias(&name.database, &name.collection).await)?;
    let found = shared.milvus.collection_id(name).await?;
    if found.is_some() {
        shared.warn(format!(
            "{name} could not be found: an alias of that name, left by a dropped collection, was dropped"
        ));
    }
    Ok(found)
}

/// Returns whether the collection with this name has this ID.
pub(super) async fn has_id(milvus: &dyn Milvus, name: &CollectionName, id: i64) -> Result<bool, MilvusError> {
    Ok(milvus.collection_id(name).await? == Some(id))
}
