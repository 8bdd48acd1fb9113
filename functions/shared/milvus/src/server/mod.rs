//! The Milvus port's calls over gRPC: the connection, and how each call is made.

mod access_control;
mod aliases;
mod answer;
mod collections;
mod databases;
mod imports;
mod indexes;
mod loading;
mod port;
mod principal;
mod rows;
mod schema;
mod segments;

use std::sync::Arc;

use milvault_model::{Capabilities, CollectionName, Time, time_of};
use milvault_ports::MilvusError;
use milvus::proto::{
    common::{KeyValuePair, Status},
    milvus::{self as api, milvus_service_client::MilvusServiceClient},
};
use tokio::sync::OnceCell;
use tonic::{Request, Response};

use self::answer::Answer;
use crate::{
    authorized::Authorized,
    credentials::Login,
    errors::{DATABASE_NOT_FOUND, check, from_grpc_status},
    rest::Rest,
};

/// The maximum size of an answer. A description of 16,000 collections or of thousands of segments exceeds gRPC's
/// default of 4 MB.
const LARGEST_ANSWER: usize = 256 << 20;

/// The database of requests that are about none.
const DEFAULT_DATABASE: &str = "default";

type Client = MilvusServiceClient<Authorized>;

pub(crate) struct Server {
    client: Client,
    /// A client without credentials.
    anonymous: Client,
    /// The credentials of the calls, if there are any.
    login: Option<Arc<Login>>,
    rest: Rest,
    version: OnceCell<String>,
}

impl Server {
    pub(crate) fn new(channel: Authorized, login: Option<Arc<Login>>, rest: Rest) -> Self {
        let anonymous = Client::new(channel.anonymous());
        let client = Client::new(channel).max_decoding_message_size(LARGEST_ANSWER);
        Self { client, anonymous, login, rest, version: OnceCell::new() }
    }

    /// Makes a call in a database, and returns gRPC's own errors.
    async fn send<M, A>(
        &self,
        database: &str,
        message: M,
        method: impl AsyncFnOnce(&mut Client, Request<M>) -> Result<Response<A>, tonic::Status>,
    ) -> Result<A, tonic::Status> {
        let mut request = Request::new(message);
        // Database names are ASCII. The server rejects another name because of the field in the message.
        if let Ok(database) = database.parse() {
            request.metadata_mut().insert("dbname", database);
        }
        Ok(method(&mut self.client.clone(), request).await?.into_inner())
    }

    /// Makes a call in a database, and returns the answer whatever its status is.
    async fn ask<M, A>(
        &self,
        database: &str,
        message: M,
        method: impl AsyncFnOnce(&mut Client, Request<M>) -> Result<Response<A>, tonic::Status>,
    ) -> Result<A, MilvusError> {
        self.send(database, message, method).await.map_err(|status| from_grpc_status(&status))
    }

    /// Makes a call in a database, and returns the answer if its status is success.
    async fn call<M, A: Answer>(
        &self,
        database: &str,
        message: M,
        method: impl AsyncFnOnce(&mut Client, Request<M>) -> Result<Response<A>, tonic::Status>,
    ) -> Result<A, MilvusError> {
        let answer = self.ask(database, message, method).await?;
        check(answer.status(), None)?;
        Ok(answer)
    }

    /// Makes a call about a collection, and returns the answer if its status is success. A missing collection is
    /// confirmed as in [`Self::check_for`].
    async fn call_for<M, A: Answer>(
        &self,
        name: &CollectionName,
        message: M,
        method: impl AsyncFnOnce(&mut Client, Request<M>) -> Result<Response<A>, tonic::Status>,
    ) -> Result<A, MilvusError> {
        let answer = self.ask(&name.database, message, method).await?;
        self.check_for(answer.status(), name).await?;
        Ok(answer)
    }

    /// Checks that an answer about a collection reports success. A missing collection is confirmed with the component
    /// that keeps the list of all collections.
    async fn check_for(&self, status: Option<&Status>, name: &CollectionName) -> Result<(), MilvusError> {
        match check(status, Some(name)) {
            Err(MilvusError::NoCollection(_)) => Err(match self.describe_raw(name).await {
                Ok(_) => MilvusError::NotReady(format!("{name} isn't known to every part of the server yet")),
                Err(error) => error,
            }),
            result => result,
        }
    }

    async fn describe_raw(&self, name: &CollectionName) -> Result<api::DescribeCollectionResponse, MilvusError> {
        let message = api::DescribeCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = self.ask(&name.database, message, Client::describe_collection).await?;
        match check(answer.status(), Some(name)) {
            Ok(()) => Ok(answer),
            Err(MilvusError::NoCollection(_)) => Err(self.missing_error(name).await),
            Err(error) => Err(error),
        }
    }

    /// The error for a collection that was reported missing. A server that is starting reports existing collections as
    /// missing, so the collection has to be missing from the list of all collections too.
    async fn missing_error(&self, name: &CollectionName) -> MilvusError {
        match self.collections(&name.database).await {
            Ok(listed) if listed.iter().any(|(listed, _)| *listed == name.collection) => {
                MilvusError::NotReady(format!("{name} is listed, but can't be described"))
            }
            Ok(_) => MilvusError::NoCollection(name.clone()),
            Err(error) => error,
        }
    }

    async fn collections(&self, database: &str) -> Result<Vec<(String, i64)>, MilvusError> {
        let message = api::ShowCollectionsRequest { db_name: database.to_owned(), ..Default::default() };
        let answer = self.ask(database, message, Client::show_collections).await?;
        if answer.status().is_some_and(|status| status.code == DATABASE_NOT_FOUND) {
            return Ok(Vec::new());
        }
        check(answer.status(), None)?;
        let mut found: Vec<_> = answer.collection_names.into_iter().zip(answer.collection_ids).collect();
        found.sort();
        Ok(found)
    }

    async fn version(&self) -> Result<String, MilvusError> {
        Ok(self.call(DEFAULT_DATABASE, api::GetVersionRequest {}, Client::get_version).await?.version)
    }

    /// The server's version, requested once per connection.
    async fn known_version(&self) -> Result<&str, MilvusError> {
        Ok(self.version.get_or_try_init(|| self.version()).await?)
    }

    /// The server's capabilities.
    async fn capabilities(&self) -> Result<Capabilities, MilvusError> {
        Ok(Capabilities::for_reported_version(self.known_version().await?))
    }

    /// The time that the root coordinator stamps rows with: milliseconds above 18 bits of a counter
    /// (`pkg/util/tsoutil/tso.go`).
    async fn clock(&self) -> Result<Option<Time>, MilvusError> {
        let message = api::AllocTimestampRequest::default();
        let answer = match self.send(DEFAULT_DATABASE, message, Client::alloc_timestamp).await {
            // A managed service may not offer this call.
            Err(status) if status.code() == tonic::Code::Unimplemented => return Ok(None),
            answer => answer.map_err(|status| from_grpc_status(&status))?,
        };
        check(answer.status(), None)?;
        Ok(time_of(answer.timestamp))
    }
}

fn pairs(params: &[(String, String)]) -> Vec<KeyValuePair> {
    params.iter().map(|(key, value)| KeyValuePair { key: key.clone(), value: value.clone() }).collect()
}

fn from_pairs(pairs: Vec<KeyValuePair>) -> Vec<(String, String)> {
    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
}

fn unexpected(what: &str) -> MilvusError {
    MilvusError::Refused(format!("the server's answer has no {what}"))
}
