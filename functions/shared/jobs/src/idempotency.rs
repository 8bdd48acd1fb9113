//! The same request again gives the same answer.

use chrono::TimeDelta;
use milvault_model::Time;
use milvault_ports::{Catalog, Idempotency, Write};

use crate::{Error, Jobs, conflict::retry_on_conflict};

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

    /// Remembers the key of a request that has no record of its own to be committed with; answers since when the key is
    /// known, to the second.
    ///
    /// # Errors
    /// [`Error::KeyReused`] if it came with another request before; when the catalog fails.
    pub async fn remember(&self, jobs: &Jobs, scope: String, resource: String) -> Result<Time, Error> {
        let catalog = jobs.ports.catalog.as_ref();
        retry_on_conflict(async || {
            if let Some(record) = self.known(catalog, &scope).await? {
                return Ok(record.expires_at - REMEMBERED);
            }
            let now = jobs.now();
            // The same key at the same moment: it is known then.
            catalog.commit(vec![Write::Idempotency(self.record(scope.clone(), resource.clone(), now))]).await?;
            Ok(now)
        })
        .await
    }

    /// What the same request made before, if it did.
    ///
    /// # Errors
    /// [`Error::KeyReused`] if the key came with another request.
    pub(crate) async fn earlier(&self, catalog: &dyn Catalog, scope: &str) -> Result<Option<String>, Error> {
        Ok(self.known(catalog, scope).await?.map(|record| record.resource))
    }

    async fn known(&self, catalog: &dyn Catalog, scope: &str) -> Result<Option<Idempotency>, Error> {
        match catalog.idempotency(scope, &self.key).await? {
            Some(record) if record.request_hash != self.request_hash => Err(Error::KeyReused),
            known => Ok(known),
        }
    }
}
