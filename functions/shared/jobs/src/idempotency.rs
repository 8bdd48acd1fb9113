//! Idempotency keys: a repeated request has no further effect.

use chrono::TimeDelta;
use milvault_model::Time;
use milvault_ports::{Catalog, Idempotency, Write};

use crate::{Error, Jobs, conflict::retry_on_conflict};

/// How long a key is kept.
const TIME_TO_LIVE: TimeDelta = TimeDelta::hours(24);

/// A caller's key for a request, with a hash of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key, unique per operation and instance.
    pub key: String,
    /// A hash of the request's content, which reveals another request under the same key.
    pub request_hash: String,
}

impl IdempotencyKey {
    /// Makes the record to commit together with the resource that the request creates.
    pub(crate) fn record(&self, scope: String, resource: String, now: Time) -> Idempotency {
        Idempotency {
            scope,
            key: self.key.clone(),
            request_hash: self.request_hash.clone(),
            resource,
            expires_at: now + TIME_TO_LIVE,
        }
    }

    /// Stores the key of a request that creates no record of its own. Returns when the key was first stored, to the
    /// second.
    ///
    /// # Errors
    /// [`Error::KeyReused`] if the key was used for another request; or the catalog fails.
    pub async fn remember(&self, jobs: &Jobs, scope: String, resource: String) -> Result<Time, Error> {
        let catalog = jobs.ports.catalog.as_ref();
        retry_on_conflict(async || {
            if let Some(record) = self.find(catalog, &scope).await? {
                return Ok(record.expires_at - TIME_TO_LIVE);
            }
            let now = jobs.now();
            // If the same key was stored at the same moment, the commit conflicts, and the next attempt finds the key.
            catalog.commit(vec![Write::Idempotency(self.record(scope.clone(), resource.clone(), now))]).await?;
            Ok(now)
        })
        .await
    }

    /// Returns the resource that the same request has already created, if it did.
    ///
    /// # Errors
    /// [`Error::KeyReused`] if the key was used for another request.
    pub(crate) async fn earlier(&self, catalog: &dyn Catalog, scope: &str) -> Result<Option<String>, Error> {
        Ok(self.find(catalog, scope).await?.map(|record| record.resource))
    }

    async fn find(&self, catalog: &dyn Catalog, scope: &str) -> Result<Option<Idempotency>, Error> {
        match catalog.idempotency(scope, &self.key).await? {
            Some(record) if record.request_hash != self.request_hash => Err(Error::KeyReused),
            found => Ok(found),
        }
    }
}
