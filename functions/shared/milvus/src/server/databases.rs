//! Databases.

use milvault_model::Capability;
use milvault_ports::MilvusError;
use milvus::proto::milvus as api;

use super::{Client, DEFAULT_DATABASE, Server, answer::Answer, from_pairs, pairs};
use crate::errors::{check, from_grpc_status};

impl Server {
    pub(super) async fn databases(&self) -> Result<Vec<String>, MilvusError> {
        let message = api::ListDatabasesRequest::default();
        let mut names = self.call(DEFAULT_DATABASE, message, Client::list_databases).await?.db_names;
        names.sort();
        Ok(names)
    }

    pub(super) async fn database_properties(&self, database: &str) -> Result<Vec<(String, String)>, MilvusError> {
        if !self.capabilities().await?.has(Capability::DescribeDatabase) {
            return Ok(Vec::new());
        }
        let message = api::DescribeDatabaseRequest { db_name: database.to_owned(), ..Default::default() };
        let answer = match self.send(database, message, Client::describe_database).await {
            // A managed service may not offer this call.
            Err(status) if status.code() == tonic::Code::Unimplemented => return Ok(Vec::new()),
            answer => answer.map_err(|status| from_grpc_status(&status))?,
        };
        match check(answer.status(), None) {
            Ok(()) => Ok(from_pairs(answer.properties)),
            Err(MilvusError::Refused(_)) if !self.databases().await?.iter().any(|name| name == database) => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn ensure_database(
        &self,
        database: &str,
        properties: &[(String, String)],
    ) -> Result<(), MilvusError> {
        if self.databases().await?.iter().any(|name| name == database) {
            return Ok(());
        }
        let message = api::CreateDatabaseRequest {
            db_name: database.to_owned(),
            properties: pairs(properties),
            ..Default::default()
        };
        let status = self.ask(DEFAULT_DATABASE, message, Client::create_database).await?;
        match check(Some(&status), None) {
            // Somebody else created it at the same moment.
            Err(MilvusError::Refused(_)) if self.databases().await?.iter().any(|name| name == database) => Ok(()),
            result => result,
        }
    }
}
