//! Which collection has a name, as far as the server can be believed.

use milvault_model::CollectionName;
use milvault_ports::{Milvus, MilvusError};

use super::shared::Shared;
use crate::engine::halt::Step;

/// The id of the collection that has this name.
///
/// 2.3.5 keeps the aliases of a dropped collection. A collection with the name of such an alias is listed, and not found.
pub(super) async fn id_of(shared: &Shared<'_>, name: &CollectionName) -> Step<Option<i64>> {
    match shared.milvus.collection_id(name).await {
        Err(MilvusError::NotReady(_)) => {}
        found => return Ok(found?),
    }
    shared.sure(shared.milvus.drop_alias(&name.database, &name.collection).await)?;
    let found = shared.milvus.collection_id(name).await?;
    if found.is_some() {
        shared
            .warn(format!("{name} couldn't be found: an alias of that name, left of a dropped collection, is dropped"));
    }
    Ok(found)
}

/// Whether the collection with this id has this name.
pub(super) async fn is_there(milvus: &dyn Milvus, name: &CollectionName, id: i64) -> Result<bool, MilvusError> {
    Ok(milvus.collection_id(name).await? == Some(id))
}
