//! Calls about the server as a whole and about its databases.

use std::time::{SystemTime, UNIX_EPOCH};

use milvus::proto::{
    common::Status,
    milvus::{self as api},
};
use tonic::Request;

use super::{
    Service,
    reply::{Answer, answer, done, not_permitted, permit, ready, refuse},
};

impl Service {
    pub(super) async fn get_version(&self, _: Request<api::GetVersionRequest>) -> Answer<api::GetVersionResponse> {
        let state = self.0.lock().await;
        let version = state.faults.version.clone().unwrap_or_else(|| state.line.version().to_owned());
        answer(api::GetVersionResponse { status: done(), version })
    }

    pub(super) async fn alloc_timestamp(
        &self,
        _: Request<api::AllocTimestampRequest>,
    ) -> Answer<api::AllocTimestampResponse> {
        let state = ready!(self, api::AllocTimestampResponse);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let milliseconds =
            u64::try_from(since_1970).unwrap_or_default().saturating_add_signed(state.faults.clock_ahead);
        answer(api::AllocTimestampResponse { status: done(), timestamp: milliseconds << 18 })
    }

    pub(super) async fn list_databases(
        &self,
        request: Request<api::ListDatabasesRequest>,
    ) -> Answer<api::ListDatabasesResponse> {
        let state = ready!(self, api::ListDatabasesResponse);
        let visible = state.users.databases(state.line, request.metadata());
        let db_names = state.databases.keys().filter(|name| visible.has(name)).cloned().collect();
        answer(api::ListDatabasesResponse { status: done(), db_names, ..Default::default() })
    }

    pub(super) async fn create_database(&self, request: Request<api::CreateDatabaseRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        let request = request.into_inner();
        state.database_properties.insert(request.db_name.clone(), request.properties);
        state.databases.entry(request.db_name).or_default();
        answer(Status::default())
    }

    pub(super) async fn describe_database(
        &self,
        request: Request<api::DescribeDatabaseRequest>,
    ) -> Answer<api::DescribeDatabaseResponse> {
        let state = ready!(self, api::DescribeDatabaseResponse);
        if !state.line.describes_databases() {
            return Err(tonic::Status::unimplemented("unknown method DescribeDatabase"));
        }
        let name = &request.get_ref().db_name;
        permit!(state, request, name, "Global", "*", "DescribeDatabase");
        if state.line.describes_by_grants() && !state.users.databases(state.line, request.metadata()).has(name) {
            refuse!(api::DescribeDatabaseResponse, not_permitted("database", name));
        }
        let properties = state.database_properties.get(name).cloned().unwrap_or_default();
        answer(api::DescribeDatabaseResponse {
            status: done(),
            db_name: name.clone(),
            properties,
            ..Default::default()
        })
    }
}
