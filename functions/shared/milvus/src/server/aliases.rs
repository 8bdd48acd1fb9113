//! Aliases.

use milvault_model::CollectionName;
use milvault_ports::MilvusError;
use milvus::proto::{common::Status, milvus as api};

use super::{Client, Server, answer::Answer};
use crate::errors::{NO_ALIAS, check, from_grpc_status};

impl Server {
    /// The aliases of the collection with exactly this name, from the component that keeps them, because descriptions
    /// of 2.6 may have outdated aliases (`CachedProxyServiceProvider` in `internal/proxy/service_provider.go`). `None`
    /// if the server doesn't offer the call.
    pub(super) async fn aliases(&self, name: &CollectionName) -> Result<Option<Vec<String>>, MilvusError> {
        let message = api::ListAliasesRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = match self.send(&name.database, message, Client::list_aliases).await {
            // A call that a managed service doesn't offer, or that this user may not make; the description's aliases
            // are used instead.
            Err(status) if is_not_offered(&status) => return Ok(None),
            answer => answer.map_err(|status| from_grpc_status(&status))?,
        };
        if is_unimplemented(answer.status()) {
            return Ok(None);
        }
        self.check_for(answer.status(), name).await?;
        let mut aliases = answer.aliases;
        aliases.sort();
        Ok(Some(aliases))
    }

    pub(super) async fn alias_target(&self, database: &str, alias: &str) -> Result<Option<String>, MilvusError> {
        let message =
            api::DescribeAliasRequest { db_name: database.to_owned(), alias: alias.to_owned(), ..Default::default() };
        match self.send(database, message, Client::describe_alias).await {
            Err(status) if is_not_offered(&status) => {}
            answer => {
                let answer = answer.map_err(|status| from_grpc_status(&status))?;
                match check(answer.status(), None) {
                    Ok(()) => return Ok(Some(answer.collection)),
                    Err(_) if is_unimplemented(answer.status()) => {}
                    // This includes an alias whose collection was dropped, which 2.3.5 keeps.
                    Err(_) if answer.status().is_some_and(|status| NO_ALIAS.contains(&status.code)) => {
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        match self.describe_raw(&CollectionName::new(database, alias)).await {
            // Under an alias, the server describes the collection that the alias refers to, whose name is in the
            // schema.
            Ok(answer) => Ok(answer.schema.map(|schema| schema.name).filter(|name| name != alias)),
            // This includes an alias whose collection was dropped, which 2.3.5 keeps.
            Err(MilvusError::NoCollection(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn point_alias(&self, alias: &str, at: &CollectionName) -> Result<(), MilvusError> {
        // An existing alias can only be altered, and a new one only be created. 2.3.5 keeps aliases of dropped
        // collections, which no call lists. So both calls are tried, and the first that succeeds counts.
        let message = api::AlterAliasRequest {
            db_name: at.database.clone(),
            collection_name: at.collection.clone(),
            alias: alias.to_owned(),
            ..Default::default()
        };
        let status = self.ask(&at.database, message, Client::alter_alias).await?;
        match self.check_for(Some(&status), at).await {
            Err(MilvusError::Refused(_)) => {}
            result => return result,
        }
        let message = api::CreateAliasRequest {
            db_name: at.database.clone(),
            collection_name: at.collection.clone(),
            alias: alias.to_owned(),
            ..Default::default()
        };
        self.call_for(at, message, Client::create_alias).await.map(drop)
    }

    pub(super) async fn drop_alias(&self, database: &str, alias: &str) -> Result<(), MilvusError> {
        // The alias isn't looked up first, because 2.3.5 drops an alias whose collection is gone but reports it as
        // missing.
        let message =
            api::DropAliasRequest { db_name: database.to_owned(), alias: alias.to_owned(), ..Default::default() };
        let status = self.ask(database, message, Client::drop_alias).await?;
        match check(Some(&status), None) {
            Err(_) if NO_ALIAS.contains(&status.code) => Ok(()),
            result => result,
        }
    }
}

/// Whether the server doesn't offer a call, or not to this user.
fn is_not_offered(status: &tonic::Status) -> bool {
    matches!(status.code(), tonic::Code::Unimplemented | tonic::Code::PermissionDenied)
}

/// Whether the server knows a call but doesn't implement it: 2.3.4 answers this way about aliases
/// (`internal/proxy/impl.go`).
fn is_unimplemented(status: Option<&Status>) -> bool {
    status.is_some_and(|status| status.reason.contains("unimplemented"))
}
