//! Aliases.

use std::collections::BTreeMap;

use milvus::proto::{
    common::Status,
    milvus::{self as api},
};
use tonic::Request;

use super::{
    Service,
    reply::{Answer, answer, database, done, no_collection, permit, ready, refuse, status, unimplemented},
};

impl Service {
    pub(super) async fn alter_alias(&self, request: Request<api::AlterAliasRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        {
            let mut state = self.0.lock().await;
            let dangled = state.dangling.remove(&(database.clone(), request.alias.clone()));
            let collections = state.databases.get_mut(&database).into_iter().flat_map(BTreeMap::values_mut);
            let had =
                collections.map(|collection| collection.aliases.remove(&request.alias)).filter(|was| *was).count();
            if !dangled && had == 0 {
                refuse!(Status, status(1600, 1, "alias not found"));
            }
        }
        self.change(&database, &request.collection_name, |collection| {
            collection.aliases.insert(request.alias);
            Status::default()
        })
        .await
    }

    pub(super) async fn drop_alias(&self, request: Request<api::DropAliasRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        let database = database(&request, &request.get_ref().db_name);
        state.dangling.remove(&(database.clone(), request.get_ref().alias.clone()));
        for collection in state.databases.get_mut(&database).into_iter().flat_map(BTreeMap::values_mut) {
            collection.aliases.remove(&request.get_ref().alias);
        }
        answer(Status::default())
    }

    /// `ListAliases` in `internal/rootcoord/meta_table.go`: of the name itself, never of an alias.
    pub(super) async fn list_aliases(
        &self,
        request: Request<api::ListAliasesRequest>,
    ) -> Answer<api::ListAliasesResponse> {
        let state = ready!(self, api::ListAliasesResponse);
        let database = database(&request, &request.get_ref().db_name);
        permit!(state, request, &database, "Global", "*", "ListAliases");
        if state.faults.no_alias_calls {
            refuse!(api::ListAliasesResponse, unimplemented());
        }
        let collection_name = request.into_inner().collection_name;
        let found = state.databases.get(&database).and_then(|collections| collections.get(&collection_name));
        let Some(collection) = found else { refuse!(api::ListAliasesResponse, no_collection(&collection_name)) };
        let aliases = collection.aliases.iter().cloned().collect();
        answer(api::ListAliasesResponse { status: done(), db_name: database, collection_name, aliases })
    }

    /// `DescribeAlias` in `internal/rootcoord/meta_table.go`. Of a dangling alias 2.3.5 was seen to answer the same as of none.
    pub(super) async fn describe_alias(
        &self,
        request: Request<api::DescribeAliasRequest>,
    ) -> Answer<api::DescribeAliasResponse> {
        let state = ready!(self, api::DescribeAliasResponse);
        let database = database(&request, &request.get_ref().db_name);
        permit!(state, request, &database, "Global", "*", "DescribeAlias");
        if state.faults.no_alias_calls {
            refuse!(api::DescribeAliasResponse, unimplemented());
        }
        let alias = request.into_inner().alias;
        let mut collections = state.databases.get(&database).into_iter().flatten();
        let Some((collection, _)) = collections.find(|(_, collection)| collection.aliases.contains(&alias)) else {
            refuse!(api::DescribeAliasResponse, status(1600, 1, "alias not found"));
        };
        let collection = collection.clone();
        answer(api::DescribeAliasResponse { status: done(), db_name: database, alias, collection })
    }

    pub(super) async fn create_alias(&self, request: Request<api::CreateAliasRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        if self.0.lock().await.resolve(&database, &request.alias).is_some() {
            refuse!(Status, status(1602, 1, "the alias exists"));
        }
        self.change(&database, &request.collection_name, |collection| {
            collection.aliases.insert(request.alias);
            Status::default()
        })
        .await
    }
}
