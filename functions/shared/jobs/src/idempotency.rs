//! The same request again gives the same answer.

use chrono::TimeDelta;
use milvault_model::Time;

use crate::{
    Error,
    ports::{Catalog, Idempotency},
};

/// How long a key is remembered.
const REMEMBERED: TimeDelta = TimeDelta::hours(24);

/// A caller's key for a request, and what the request was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Unique per operation and instance.
    pub key: String,
    /// Of the request's content, so that the key with another request is noticed.
    pub request_hash: String,
}

impl IdempotencyKey {
    /// The record to commit together with what the request makes.
    pub(crate) fn record(&self, scope: String, resource: String, now: Time) -> Idempotency {
        Idempotency {
            scope,
            key: self.key.clone(),
            request_hash: self.request_hash.clone(),
            resource,
            expires_at: now + REMEMBERED,
        }
    }

    /// What the same request made before, if it did.
    ///
    /// # Errors
    /// [`Error::KeyReused`] if the key came with another request.
    pub(crate) async fn earlier(&self, catalog: &dyn Catalog, scope: &str) -> Result<Option<String>, Error> {
        match catalog.idempotency(scope, &self.key).await? {
            None => Ok(None),
            Some(record) if record.request_hash == self.request_hash => Ok(Some(record.resource)),
            Some(_) => Err(Error::KeyReused),
        }
    }
}
