//! Import jobs.

use milvus::proto::milvus::{self as api};
use tonic::Request;

use super::{
    Service,
    reply::{Answer, answer, database, done, known, pairs, ready, refuse, status},
};

impl Service {
    pub(super) async fn import(&self, request: Request<api::ImportRequest>) -> Answer<api::ImportResponse> {
        let mut state = ready!(self, api::ImportResponse);
        let database = database(&request, &request.get_ref().db_name);
        match state.import(&database, request.get_ref()).await {
            Ok(task) => answer(api::ImportResponse { status: done(), tasks: vec![task] }),
            Err(reason) => refuse!(api::ImportResponse, status(2100, 1, &reason)),
        }
    }

    pub(super) async fn list_import_tasks(
        &self,
        request: Request<api::ListImportTasksRequest>,
    ) -> Answer<api::ListImportTasksResponse> {
        let mut state = ready!(self, api::ListImportTasksResponse);
        let database = database(&request, &request.get_ref().db_name);
        let id = known!(state, &database, &request.get_ref().collection_name, api::ListImportTasksResponse).id;
        let named = |task: i64| if state.line.names_imports() { task } else { 0 };
        let tasks = state.imports.iter().filter(|(_, import)| import.collection == id);
        let tasks = tasks.map(|(task, _)| api::GetImportStateResponse { id: named(*task), ..Default::default() });
        answer(api::ListImportTasksResponse { status: done(), tasks: tasks.collect() })
    }

    pub(super) async fn get_import_state(
        &self,
        request: Request<api::GetImportStateRequest>,
    ) -> Answer<api::GetImportStateResponse> {
        let mut state = ready!(self, api::GetImportStateResponse);
        let Some(import) = state.imports.get_mut(&request.get_ref().task) else {
            refuse!(api::GetImportStateResponse, status(2100, 1, "import job does not exist"));
        };
        let state = import.ask() as i32;
        let rows = import.outcome.clone().unwrap_or_default();
        let reason = import.outcome.clone().err().unwrap_or_default();
        let infos = pairs(&[("failed_reason", &reason), ("progress_percent", "50")]);
        let row_count = i64::try_from(rows).unwrap_or_default();
        answer(api::GetImportStateResponse { status: done(), state, row_count, infos, ..Default::default() })
    }
}
