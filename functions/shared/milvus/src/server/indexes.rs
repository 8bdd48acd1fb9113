//! Indexes.

use milvault_model::{CollectionName, IndexCapture};
use milvault_ports::{MilvusError, Pace};
use milvus::proto::{common::IndexState, milvus as api};

use super::{Client, Server, answer::Answer, pairs};

impl Server {
    pub(super) async fn index_descriptions(
        &self,
        name: &CollectionName,
    ) -> Result<Vec<api::IndexDescription>, MilvusError> {
        /// `IndexNotFound`, and its old code.
        const NO_INDEX: i32 = 700;
        const NO_INDEX_OLD: i32 = 25;
        let message = api::DescribeIndexRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = self.ask(&name.database, message, Client::describe_index).await?;
        #[expect(deprecated, reason = "servers of the 2.3 line answer with the old code too")]
        let none = answer.status().is_some_and(|s| s.code == NO_INDEX || s.error_code == NO_INDEX_OLD);
        if none {
            return Ok(Vec::new());
        }
        self.check_for(answer.status(), name).await?;
        Ok(answer.index_descriptions)
    }

    pub(super) async fn ensure_index(&self, name: &CollectionName, index: &IndexCapture) -> Result<(), MilvusError> {
        let message = api::CreateIndexRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            field_name: index.field.clone(),
            extra_params: pairs(&index.params),
            index_name: if can_be_given(&index.name) { index.name.clone() } else { String::new() },
            ..Default::default()
        };
        self.call_for(name, message, Client::create_index).await.map(drop)
    }

    pub(super) async fn indexing(&self, name: &CollectionName) -> Result<Pace, MilvusError> {
        let indexes = self.index_descriptions(name).await?;
        if let Some(failed) = indexes.iter().find(|index| index.state() == IndexState::Failed) {
            let reason = &failed.index_state_fail_reason;
            return Err(MilvusError::Refused(format!("index {} of {name} failed: {reason}", failed.index_name)));
        }
        let is_built =
            |index: &api::IndexDescription| index.state() == IndexState::Finished && index.pending_index_rows == 0;
        let rows = indexes.iter().map(|index| u64::try_from(index.indexed_rows).unwrap_or_default()).sum();
        Ok(if indexes.iter().all(is_built) { Pace::Done } else { Pace::At(rows) })
    }
}

/// Whether an index can be created with this name. The server names indexes of JSON paths itself, such as `meta/a/b`,
/// and doesn't accept such names from clients. Without a name, it makes the same one again.
///
/// `validateIndexName` in `internal/proxy/util.go` (2.5).
fn can_be_given(index_name: &str) -> bool {
    let is_word = |c: u8| c == b'_' || c.is_ascii_alphanumeric();
    index_name.bytes().all(is_word) && !index_name.bytes().next().is_none_or(|first| first.is_ascii_digit())
}
