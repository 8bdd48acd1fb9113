//! The Milvus port: each call is made in the file of its subject.

use std::time::Duration;

use async_trait::async_trait;
use milvault_model::{CollectionCapture, CollectionName, Grant, IndexCapture, Loaded, PrimaryKey, Principal, Time};
use milvault_ports::{
    CollectionDescription, FlushResult, GarbageHold, ImportRequest, ImportStatus, ImportTasks, MilvusError,
    OnRateLimit, Pace, Segment, SegmentFiles,
};

use super::Server;
use crate::access;

// The trait isn't imported, so that a method called here can only be an inherent method, never the trait's own.
#[async_trait]
impl milvault_ports::Milvus for Server {
    async fn version(&self) -> Result<String, MilvusError> {
        self.version().await
    }

    async fn clock(&self) -> Result<Option<Time>, MilvusError> {
        self.clock().await
    }

    async fn principal(&self) -> Result<Principal, MilvusError> {
        self.principal().await
    }

    async fn databases(&self) -> Result<Vec<String>, MilvusError> {
        self.databases().await
    }

    async fn database_properties(&self, database: &str) -> Result<Vec<(String, String)>, MilvusError> {
        self.database_properties(database).await
    }

    async fn ensure_database(&self, database: &str, properties: &[(String, String)]) -> Result<(), MilvusError> {
        self.ensure_database(database, properties).await
    }

    async fn access_control(&self) -> Result<Option<String>, MilvusError> {
        self.access_control().await
    }

    async fn restore_access_control(&self, captured: &str) -> Result<Vec<String>, MilvusError> {
        self.restore_access_control(captured).await
    }

    fn captured_grants(&self, captured: &str) -> Result<Vec<Grant>, MilvusError> {
        Ok(access::decode(captured)?.grants.into_iter().map(access::grant).collect())
    }

    async fn roles(&self) -> Result<Vec<String>, MilvusError> {
        self.roles().await
    }

    async fn grants(&self, role: &str, database: &str) -> Result<Vec<Grant>, MilvusError> {
        Ok(self.granted(role, database).await?.into_iter().map(access::grant).collect())
    }

    async fn grant(&self, grant: &Grant) -> Result<(), MilvusError> {
        self.grant(grant).await
    }

    async fn collections(&self, database: &str) -> Result<Vec<(String, i64)>, MilvusError> {
        self.collections(database).await
    }

    async fn collection_id(&self, name: &CollectionName) -> Result<Option<i64>, MilvusError> {
        self.collection_id(name).await
    }

    async fn describe(&self, name: &CollectionName) -> Result<CollectionDescription, MilvusError> {
        self.describe(name).await
    }

    async fn flush(&self, name: &CollectionName, on_limit: OnRateLimit) -> Result<FlushResult, MilvusError> {
        self.flush(name, on_limit).await
    }

    async fn is_flushed(&self, name: &CollectionName, flush: &FlushResult) -> Result<bool, MilvusError> {
        self.is_flushed(name, flush).await
    }

    async fn segments(&self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError> {
        self.segments(name).await
    }

    async fn segment_files(
        &self,
        database: &str,
        collection_id: i64,
        segments: &[i64],
    ) -> Result<Option<Vec<SegmentFiles>>, MilvusError> {
        self.segment_files(database, collection_id, segments).await
    }

    async fn hold_garbage(&self, duration: Duration) -> Result<GarbageHold, MilvusError> {
        self.rest.hold_garbage(duration).await
    }

    async fn release_garbage(&self, hold: &GarbageHold) -> Result<(), MilvusError> {
        self.rest.release_garbage(hold).await
    }

    async fn count(&self, name: &CollectionName) -> Result<u64, MilvusError> {
        self.count(name).await
    }

    async fn some_keys(&self, name: &CollectionName, limit: usize) -> Result<Vec<PrimaryKey>, MilvusError> {
        self.some_keys(name, limit).await
    }

    async fn find_keys(&self, name: &CollectionName, sought: &[PrimaryKey]) -> Result<Vec<PrimaryKey>, MilvusError> {
        self.find_keys(name, sought).await
    }

    async fn create(&self, name: &CollectionName, capture: &CollectionCapture) -> Result<(), MilvusError> {
        self.create(name, capture).await
    }

    async fn ensure_index(&self, name: &CollectionName, index: &IndexCapture) -> Result<(), MilvusError> {
        self.ensure_index(name, index).await
    }

    async fn set_properties(&self, name: &CollectionName, properties: &[(String, String)]) -> Result<(), MilvusError> {
        self.set_properties(name, properties).await
    }

    async fn indexing(&self, name: &CollectionName) -> Result<Pace, MilvusError> {
        self.indexing(name).await
    }

    async fn import(&self, request: ImportRequest<'_>) -> Result<i64, MilvusError> {
        self.import(request).await
    }

    async fn import_tasks(&self, name: &CollectionName) -> Result<ImportTasks, MilvusError> {
        self.import_tasks(name).await
    }

    async fn import_status(&self, task: i64) -> Result<ImportStatus, MilvusError> {
        self.import_status(task).await
    }

    async fn load(&self, name: &CollectionName, how: &Loaded) -> Result<(), MilvusError> {
        self.load(name, how).await
    }

    async fn loading(&self, name: &CollectionName) -> Result<Pace, MilvusError> {
        self.loading(name).await
    }

    async fn release(&self, name: &CollectionName) -> Result<(), MilvusError> {
        self.release(name).await
    }

    async fn rename(&self, from: &CollectionName, to: &str) -> Result<(), MilvusError> {
        self.rename(from, to).await
    }

    async fn drop_collection(&self, name: &CollectionName) -> Result<(), MilvusError> {
        self.drop_collection(name).await
    }

    async fn alias_target(&self, database: &str, alias: &str) -> Result<Option<String>, MilvusError> {
        self.alias_target(database, alias).await
    }

    async fn point_alias(&self, alias: &str, at: &CollectionName) -> Result<(), MilvusError> {
        self.point_alias(alias, at).await
    }

    async fn drop_alias(&self, database: &str, alias: &str) -> Result<(), MilvusError> {
        self.drop_alias(database, alias).await
    }
}
