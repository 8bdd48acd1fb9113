//! The same request again gives the same answer.

use chrono::TimeDelta;
use milvault_model::Time;

use crate::{
    Error, Jobs,
    ports::{Catalog, CatalogError, Idempotency, Write},
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

    /// Remembers the key for a request that makes nothing new when it comes again, so that all there is to see to is that
    /// the key doesn't come with another one.
    ///
    /// # Errors
    /// [`Error::KeyReused`] if it did; when the catalog fails.
    pub async fn remember(&self, jobs: &Jobs, scope: String, resource: String) -> Result<(), Error> {
        let catalog = jobs.ports.catalog.as_ref();
        if self.earlier(catalog, &scope).await?.is_some() {
            return Ok(());
        }
        let record = self.record(scope.clone(), resource, jobs.ports.clock.now());
        match catalog.commit(vec![Write::Idempotency(record)]).await {
            // The same key at the same moment: with the same request that is fine.
            Err(CatalogError::Conflict(_)) => self.earlier(catalog, &scope).await.map(drop),
            committed => Ok(committed?),
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
