//! Rows.

use milvault_model::{CollectionName, PrimaryKey};
use milvault_ports::MilvusError;
use milvus::proto::{
    common::{ConsistencyLevel, KeyValuePair},
    milvus as api,
    schema::{field_data, scalar_field},
};

use super::{Client, Server, schema::primary_key, unexpected};

impl Server {
    pub(super) async fn count(&self, name: &CollectionName) -> Result<u64, MilvusError> {
        let count = self.query(name, "count(*)", String::new(), None).await?.and_then(|found| match found {
            scalar_field::Data::LongData(longs) => longs.data.first().copied(),
            _ => None,
        });
        count.and_then(|count| u64::try_from(count).ok()).ok_or_else(|| unexpected("count"))
    }

    pub(super) async fn some_keys(&self, name: &CollectionName, limit: usize) -> Result<Vec<PrimaryKey>, MilvusError> {
        let field = primary_key(self.describe_raw(name).await?.schema.as_ref())?;
        Ok(keys(self.query(name, &field, String::new(), Some(limit)).await?))
    }

    pub(super) async fn find_keys(
        &self,
        name: &CollectionName,
        sought: &[PrimaryKey],
    ) -> Result<Vec<PrimaryKey>, MilvusError> {
        let field = primary_key(self.describe_raw(name).await?.schema.as_ref())?;
        // Milvus reads strings in an expression as Go does, which accepts JSON's escapes.
        let list = serde_json::to_string(sought).map_err(|error| MilvusError::Refused(error.to_string()))?;
        Ok(keys(self.query(name, &field, format!("{field} in {list}"), None).await?))
    }

    /// The values of one field in the rows that a strongly consistent query finds.
    async fn query(
        &self,
        name: &CollectionName,
        field: &str,
        expression: String,
        limit: Option<usize>,
    ) -> Result<Option<scalar_field::Data>, MilvusError> {
        let limit = limit.map(|limit| KeyValuePair { key: "limit".to_owned(), value: limit.to_string() });
        let message = api::QueryRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            expr: expression,
            output_fields: vec![field.to_owned()],
            consistency_level: ConsistencyLevel::Strong as i32,
            query_params: limit.into_iter().collect(),
            ..Default::default()
        };
        let answer = self.call_for(name, message, Client::query).await?;
        let found = answer.fields_data.into_iter().find(|found| field == "count(*)" || found.field_name == field);
        Ok(found.and_then(|found| match found.field? {
            field_data::Field::Scalars(scalars) => scalars.data,
            _ => None,
        }))
    }
}

fn keys(found: Option<scalar_field::Data>) -> Vec<PrimaryKey> {
    match found {
        Some(scalar_field::Data::LongData(longs)) => longs.data.into_iter().map(PrimaryKey::Int).collect(),
        Some(scalar_field::Data::StringData(texts)) => texts.data.into_iter().map(PrimaryKey::Text).collect(),
        _ => Vec::new(),
    }
}
