//! Conversion of records to DynamoDB items and back.

use std::{collections::HashMap, fmt::Display};

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::DateTime;
use milvault_model::{Due, JobRef, Time};
use milvault_ports::{CatalogError, Idempotency, Versioned};
use serde::{Serialize, de::DeserializeOwned};

use crate::keys::{Key, PK, SK, sortable};

pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// An item with only its key.
pub(crate) fn item(key: Key) -> Item {
    HashMap::from([(PK.to_owned(), text(key.pk)), (SK.to_owned(), text(key.sk))])
}

/// An item that holds a record.
pub(crate) fn record_item<T: Serialize>(
    key: Key,
    record: &T,
    version: Option<u64>,
    due: Option<Due>,
) -> Result<Item, CatalogError> {
    let mut item = item(key);
    let record = serde_dynamo::to_attribute_value(record).map_err(|error| bad("record", &error))?;
    item.insert("record".to_owned(), record);
    if let Some(version) = version {
        item.insert("version".to_owned(), AttributeValue::N(version.to_string()));
    }
    if let Some(due) = due {
        item.insert("dueKind".to_owned(), text(due.kind.as_str()));
        item.insert("dueAt".to_owned(), text(sortable(due.at)));
    }
    Ok(item)
}

/// A job as text, which conditions can compare.
pub(crate) fn record_of(job: &JobRef) -> Result<String, CatalogError> {
    serde_json::to_string(job).map_err(|error| bad("job", &error))
}

pub(crate) fn read_job(item: &Item) -> Result<JobRef, CatalogError> {
    serde_json::from_str(&read_text(item, "job")?).map_err(|error| bad("job", &error))
}

pub(crate) fn read_record<T: DeserializeOwned>(item: &Item) -> Result<T, CatalogError> {
    let record = item.get("record").cloned().ok_or_else(|| bad("record", &"missing"))?;
    serde_dynamo::from_attribute_value(record).map_err(|error| bad("record", &error))
}

pub(crate) fn read_versioned<T: DeserializeOwned>(item: Item) -> Result<Versioned<T>, CatalogError> {
    let version = item.get("version").and_then(|version| version.as_n().ok());
    let version = version.and_then(|version| version.parse().ok()).ok_or_else(|| bad("version", &"missing"))?;
    Ok(Versioned { value: read_record(&item)?, version })
}

pub(crate) fn read_text(item: &Item, attribute: &str) -> Result<String, CatalogError> {
    let value = item.get(attribute).and_then(|value| value.as_s().ok());
    value.cloned().ok_or_else(|| bad(attribute, &"missing"))
}

/// The end of the lease with this fence; `None` if the lease item has another holder or none.
pub(crate) fn read_held_until(item: &Item, fence: u64) -> Result<Option<Time>, CatalogError> {
    let holder = item.get("fence").and_then(|fence| fence.as_n().ok()).and_then(|fence| fence.parse().ok());
    if holder != Some(fence) || !item.contains_key("heldUntil") {
        return Ok(None);
    }
    let until = DateTime::parse_from_rfc3339(&read_text(item, "heldUntil")?);
    until.map(|until| Some(until.to_utc())).map_err(|error| bad("heldUntil", &error))
}

pub(crate) fn idempotency_item(record: &Idempotency) -> Item {
    let mut item = item(Key::idempotency(&record.scope, &record.key));
    for (name, value) in [
        ("scope", &record.scope),
        ("key", &record.key),
        ("requestHash", &record.request_hash),
        ("resource", &record.resource),
    ] {
        item.insert(name.to_owned(), text(value));
    }
    item.insert("ttl".to_owned(), AttributeValue::N(record.expires_at.timestamp().to_string()));
    item
}

pub(crate) fn read_idempotency(item: &Item) -> Result<Idempotency, CatalogError> {
    let ttl = item.get("ttl").and_then(|ttl| ttl.as_n().ok()).and_then(|ttl| ttl.parse().ok());
    let expires_at = ttl.and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    Ok(Idempotency {
        scope: read_text(item, "scope")?,
        key: read_text(item, "key")?,
        request_hash: read_text(item, "requestHash")?,
        resource: read_text(item, "resource")?,
        expires_at: expires_at.ok_or_else(|| bad("ttl", &"missing"))?,
    })
}

/// The error for an item that this service can't have written.
pub(crate) fn bad(attribute: &str, reason: &dyn Display) -> CatalogError {
    CatalogError::Unavailable(format!("attribute {attribute}: {reason}"))
}
