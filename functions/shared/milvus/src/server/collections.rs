//! Collections: descriptions, and creating, changing, renaming and dropping them.

use base64::{Engine, prelude::BASE64_STANDARD};
use milvault_model::{CollectionCapture, CollectionName, IndexCapture};
use milvault_ports::{CollectionDescription, MilvusError};
use milvus::proto::{milvus as api, schema::CollectionSchema};
use prost::Message;

use super::{
    Client, Server, from_pairs, pairs,
    schema::{primary_key, stored_fields, take_added_fields},
    unexpected,
};

/// The partition that every collection has.
const DEFAULT_PARTITION: &str = "_default";

impl Server {
    pub(super) async fn collection_id(&self, name: &CollectionName) -> Result<Option<i64>, MilvusError> {
        match self.describe_raw(name).await {
            // Under an alias, the server describes the collection that the alias refers to, whose name is in the
            // schema.
            Ok(answer) => {
                let schema = answer.schema.ok_or_else(|| unexpected("schema"))?;
                Ok((schema.name == name.collection).then_some(answer.collection_id))
            }
            Err(MilvusError::NoCollection(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn describe(&self, name: &CollectionName) -> Result<CollectionDescription, MilvusError> {
        let answer = self.describe_raw(name).await?;
        let schema = answer.schema.ok_or_else(|| unexpected("schema"))?;
        let primary_key = primary_key(Some(&schema))?;
        let name = CollectionName::new(&name.database, schema.name.clone());
        let partitions = self.partitions(&name, api::ShowType::All).await?;
        let indexes = self
            .index_descriptions(&name)
            .await?
            .into_iter()
            .map(|index| IndexCapture {
                name: index.index_name,
                field: index.field_name,
                params: from_pairs(index.params),
            })
            .collect();
        let mut described = answer.aliases;
        described.sort();
        let aliases = self.aliases(&name).await?.unwrap_or(described);
        let loaded = self.loaded(&name, answer.collection_id, &partitions).await?;
        // Each of these calls goes by name. All of them are about one collection if the name still refers to the same
        // one.
        self.require_same(&name, answer.collection_id).await?;
        Ok(CollectionDescription {
            id: answer.collection_id,
            loaded,
            name,
            fields: stored_fields(&schema, self.capabilities().await?),
            primary_key,
            has_partition_key: schema.fields.iter().any(|field| field.is_partition_key),
            schema: schema.encode_to_vec(),
            shards: answer.shards_num,
            consistency_level: answer.consistency_level,
            properties: from_pairs(answer.properties),
            partitions,
            indexes,
            aliases,
        })
    }

    /// Requires that the name still refers to the collection with this id.
    async fn require_same(&self, name: &CollectionName, id: i64) -> Result<(), MilvusError> {
        match self.describe_raw(name).await?.collection_id {
            now if now == id => Ok(()),
            _ => Err(MilvusError::NoCollection(name.clone())),
        }
    }

    pub(super) async fn create(&self, name: &CollectionName, capture: &CollectionCapture) -> Result<(), MilvusError> {
        let damaged =
            |reason: String| MilvusError::Refused(format!("the backup's schema of {}: {reason}", capture.name));
        let schema = BASE64_STANDARD.decode(&capture.schema).map_err(|error| damaged(error.to_string()))?;
        let mut schema = CollectionSchema::decode(schema.as_slice()).map_err(|error| damaged(error.to_string()))?;
        schema.name.clone_from(&name.collection);
        let added = take_added_fields(&mut schema);
        let by_key = i64::try_from(capture.partitions.len()).unwrap_or_default();
        let message = api::CreateCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            schema: schema.encode_to_vec(),
            shards_num: capture.shards,
            consistency_level: capture.consistency_level,
            properties: pairs(&capture.properties),
            num_partitions: if capture.has_partition_key { by_key } else { 0 },
            ..Default::default()
        };
        self.call(&name.database, message, Client::create_collection).await?;
        for field in added {
            let message = api::AddCollectionFieldRequest {
                db_name: name.database.clone(),
                collection_name: name.collection.clone(),
                schema: field.encode_to_vec(),
                ..Default::default()
            };
            self.call_for(name, message, Client::add_collection_field).await?;
        }
        if capture.has_partition_key {
            return Ok(());
        }
        for partition in capture.partitions.iter().filter(|partition| partition.name != DEFAULT_PARTITION) {
            let message = api::CreatePartitionRequest {
                db_name: name.database.clone(),
                collection_name: name.collection.clone(),
                partition_name: partition.name.clone(),
                ..Default::default()
            };
            self.call_for(name, message, Client::create_partition).await?;
        }
        Ok(())
    }

    pub(super) async fn set_properties(
        &self,
        name: &CollectionName,
        properties: &[(String, String)],
    ) -> Result<(), MilvusError> {
        let message = api::AlterCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            properties: pairs(properties),
            ..Default::default()
        };
        self.call_for(name, message, Client::alter_collection).await.map(drop)
    }

    pub(super) async fn rename(&self, from: &CollectionName, to: &str) -> Result<(), MilvusError> {
        let message = api::RenameCollectionRequest {
            db_name: from.database.clone(),
            old_name: from.collection.clone(),
            new_name: to.to_owned(),
            ..Default::default()
        };
        self.call_for(from, message, Client::rename_collection).await.map(drop)
    }

    pub(super) async fn drop_collection(&self, name: &CollectionName) -> Result<(), MilvusError> {
        if self.collection_id(name).await?.is_none() {
            return Ok(());
        }
        let message = api::DropCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        match self.call_for(name, message, Client::drop_collection).await {
            Err(MilvusError::NoCollection(_)) => Ok(()),
            result => result.map(drop),
        }
    }
}
