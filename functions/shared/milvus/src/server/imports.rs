//! Import jobs.

use std::collections::HashSet;

use milvault_model::CollectionName;
use milvault_ports::{ImportRequest, ImportStatus, ImportTasks, MilvusError};
use milvus::proto::{common::ImportState, milvus as api};

use super::{Client, DEFAULT_DATABASE, Server, unexpected};
use crate::imports::import_files;

impl Server {
    pub(super) async fn import(&self, request: ImportRequest<'_>) -> Result<i64, MilvusError> {
        let name = request.collection;
        let (files, options) = import_files(self.capabilities().await?, &request)?;
        let message = api::ImportRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            partition_name: request.partition.to_owned(),
            files,
            options,
            ..Default::default()
        };
        let answer = self.call_for(name, message, Client::import).await?;
        answer.tasks.first().copied().ok_or_else(|| unexpected("import task"))
    }

    pub(super) async fn import_tasks(&self, name: &CollectionName) -> Result<ImportTasks, MilvusError> {
        self.require_coordinator().await?;
        let message = api::ListImportTasksRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            limit: 0,
        };
        let answer = self.call_for(name, message, Client::list_import_tasks).await?;
        // Some releases of 2.4 and 2.5 omit the ids (issue 38172).
        if answer.tasks.iter().any(|task| task.id == 0) {
            return Ok(ImportTasks::Unnamed);
        }
        let ids: HashSet<i64> = answer.tasks.into_iter().map(|task| task.id).collect();
        Ok(ImportTasks::Named(ids.into_iter().collect()))
    }

    pub(super) async fn import_status(&self, task: i64) -> Result<ImportStatus, MilvusError> {
        self.require_coordinator().await?;
        let message = api::GetImportStateRequest { task };
        let answer = self.call(DEFAULT_DATABASE, message, Client::get_import_state).await?;
        Ok(match answer.state() {
            ImportState::ImportCompleted => {
                ImportStatus::Completed { rows: u64::try_from(answer.row_count).unwrap_or_default() }
            }
            ImportState::ImportFailed | ImportState::ImportFailedAndCleaned => {
                let reason = answer.infos.into_iter().find(|info| info.key == "failed_reason");
                ImportStatus::Failed(reason.map_or_else(|| "no reason given".to_owned(), |info| info.value))
            }
            ImportState::ImportPending => ImportStatus::Waiting,
            // Persisted only means that the data is written: the collection can't be dropped yet, and its rows aren't
            // visible.
            state => {
                let percent = answer.infos.iter().find(|info| info.key == "progress_percent");
                let percent: u64 = percent.and_then(|percent| percent.value.parse().ok()).unwrap_or_default();
                let rows = u64::try_from(answer.row_count).unwrap_or_default();
                ImportStatus::Running { progress: (state as u64) << 56 | percent << 48 | rows }
            }
        })
    }

    /// Requires that the proxy reaches the root coordinator.
    ///
    /// While the server is starting and the root coordinator can't be reached, a call about imports makes the proxy of
    /// 2.3.5 dereference the missing answer, and the whole server ends (`internal/proxy/impl.go`, `GetImportState`;
    /// observed).
    async fn require_coordinator(&self) -> Result<(), MilvusError> {
        self.databases().await.map(drop)
    }
}
