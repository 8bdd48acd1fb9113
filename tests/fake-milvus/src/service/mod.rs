//! The gRPC side. Any other call is answered "unimplemented", as by a server that is older than the call.

mod access;
mod aliases;
mod changes;
mod descriptions;
mod flushes;
mod imports;
mod reply;
mod server;

use std::sync::Arc;

use async_trait::async_trait;
use milvus::proto::{
    common::Status,
    milvus::{self as api, milvus_service_server::MilvusService},
};
use tokio::sync::Mutex;
use tonic::Request;

use self::reply::{Answer, answer, no_collection, not_ready, refuse};
use crate::{
    faults::strikes,
    state::{Collection, State},
};

pub(crate) use reply::pairs;

pub(crate) struct Service(pub(crate) Arc<Mutex<State>>);

impl Service {
    /// The state, unless the server isn't ready.
    async fn ready(&self) -> Result<tokio::sync::MutexGuard<'_, State>, Status> {
        let mut state = self.0.lock().await;
        match strikes(&mut state.faults.not_ready) {
            true => Err(not_ready()),
            false => {
                state.work().await;
                Ok(state)
            }
        }
    }

    /// Changes a collection.
    async fn change(
        &self,
        database: &str,
        name: &str,
        change: impl FnOnce(&mut Collection) -> Status,
    ) -> Answer<Status> {
        let mut state = match self.ready().await {
            Ok(state) => state,
            Err(status) => refuse!(Status, status),
        };
        answer(match state.collection(database, name) {
            Some(collection) => change(collection),
            None => no_collection(name),
        })
    }
}

/// Serves each of these calls by the function of that name.
macro_rules! serve {
    ($($call:ident($request:ty) -> $answer:ty,)+) => {
        #[async_trait]
        impl MilvusService for Service {
            $(async fn $call(&self, request: Request<$request>) -> Answer<$answer> {
                Service::$call(self, request).await
            })+
        }
    };
}

serve! {
    get_version(api::GetVersionRequest) -> api::GetVersionResponse,
    alloc_timestamp(api::AllocTimestampRequest) -> api::AllocTimestampResponse,
    list_databases(api::ListDatabasesRequest) -> api::ListDatabasesResponse,
    create_database(api::CreateDatabaseRequest) -> Status,
    show_collections(api::ShowCollectionsRequest) -> api::ShowCollectionsResponse,
    describe_collection(api::DescribeCollectionRequest) -> api::DescribeCollectionResponse,
    show_partitions(api::ShowPartitionsRequest) -> api::ShowPartitionsResponse,
    describe_index(api::DescribeIndexRequest) -> api::DescribeIndexResponse,
    get_load_state(api::GetLoadStateRequest) -> api::GetLoadStateResponse,
    get_replicas(api::GetReplicasRequest) -> api::GetReplicasResponse,
    flush(api::FlushRequest) -> api::FlushResponse,
    get_flush_state(api::GetFlushStateRequest) -> api::GetFlushStateResponse,
    get_persistent_segment_info(api::GetPersistentSegmentInfoRequest) -> api::GetPersistentSegmentInfoResponse,
    query(api::QueryRequest) -> api::QueryResults,
    create_collection(api::CreateCollectionRequest) -> Status,
    add_collection_field(api::AddCollectionFieldRequest) -> Status,
    alter_collection(api::AlterCollectionRequest) -> Status,
    rename_collection(api::RenameCollectionRequest) -> Status,
    import(api::ImportRequest) -> api::ImportResponse,
    list_import_tasks(api::ListImportTasksRequest) -> api::ListImportTasksResponse,
    get_import_state(api::GetImportStateRequest) -> api::GetImportStateResponse,
    describe_database(api::DescribeDatabaseRequest) -> api::DescribeDatabaseResponse,
    get_loading_progress(api::GetLoadingProgressRequest) -> api::GetLoadingProgressResponse,
    select_user(api::SelectUserRequest) -> api::SelectUserResponse,
    select_grant(api::SelectGrantRequest) -> api::SelectGrantResponse,
    select_role(api::SelectRoleRequest) -> api::SelectRoleResponse,
    operate_privilege(api::OperatePrivilegeRequest) -> Status,
    operate_privilege_v2(api::OperatePrivilegeV2Request) -> Status,
    backup_rbac(api::BackupRbacMetaRequest) -> api::BackupRbacMetaResponse,
    restore_rbac(api::RestoreRbacMetaRequest) -> Status,
    create_partition(api::CreatePartitionRequest) -> Status,
    create_index(api::CreateIndexRequest) -> Status,
    load_collection(api::LoadCollectionRequest) -> Status,
    release_collection(api::ReleaseCollectionRequest) -> Status,
    drop_collection(api::DropCollectionRequest) -> Status,
    alter_alias(api::AlterAliasRequest) -> Status,
    drop_alias(api::DropAliasRequest) -> Status,
    list_aliases(api::ListAliasesRequest) -> api::ListAliasesResponse,
    describe_alias(api::DescribeAliasRequest) -> api::DescribeAliasResponse,
    create_alias(api::CreateAliasRequest) -> Status,
}
