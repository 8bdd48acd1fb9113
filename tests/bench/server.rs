//! A Milvus whose collections are those of the synthetic source: flushed at once, never loaded.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use milvault_harness::locked;
use milvault_model::{
    CollectionCapture, CollectionName, Grant, IndexCapture, Instance, Loaded, PartitionCapture, PrimaryKey, Principal,
    SegmentLevel, StorageVersion, Visibility,
};
use milvault_ports::{
    CollectionDescription, Connector, FlushResult, GarbageHold, ImportRequest, ImportStatus, ImportTasks, Milvus,
    MilvusError, OnRateLimit, Pace, Segment, SegmentFiles,
};

use crate::source::Source;

/// The server; its source can be replaced.
#[derive(Clone)]
pub struct Server(Arc<Mutex<Source>>);

impl Server {
    pub fn new(source: Source) -> Self {
        Self(Arc::new(Mutex::new(source)))
    }

    pub fn set(&self, source: Source) {
        *locked(&self.0) = source;
    }

    fn source(&self) -> Source {
        locked(&self.0).clone()
    }

    fn number(name: &CollectionName) -> i64 {
        name.collection.trim_start_matches("items_").parse().unwrap_or_default()
    }
}

#[async_trait]
impl Connector for Server {
    async fn connect(&self, _: &Instance) -> Result<Arc<dyn Milvus>, MilvusError> {
        Ok(Arc::new(self.clone()))
    }
}

fn not_here<T>() -> Result<T, MilvusError> {
    Err(MilvusError::Refused("the benchmark restores nothing".to_owned()))
}

#[async_trait]
impl Milvus for Server {
    async fn version(&self) -> Result<String, MilvusError> {
        Ok("2.5.4".to_owned())
    }

    async fn principal(&self) -> Result<Principal, MilvusError> {
        Ok(Principal { user: None, visibility: Visibility::Everything })
    }

    async fn databases(&self) -> Result<Vec<String>, MilvusError> {
        Ok(vec!["default".to_owned()])
    }

    async fn collections(&self, _: &str) -> Result<Vec<(String, i64)>, MilvusError> {
        Ok((0..self.source().collections).map(|n| (format!("items_{n}"), Source::collection_id(n))).collect())
    }

    async fn describe(&self, name: &CollectionName) -> Result<CollectionDescription, MilvusError> {
        Ok(CollectionDescription {
            id: Source::collection_id(Self::number(name) as u64),
            name: name.clone(),
            schema: vec![1; 200],
            primary_key: "id".to_owned(),
            fields: Vec::new(),
            shards: 1,
            consistency_level: 2,
            properties: Vec::new(),
            partitions: vec![PartitionCapture { name: "_default".to_owned(), id: Source::partition_id() }],
            has_partition_key: false,
            indexes: Vec::new(),
            aliases: Vec::new(),
            loaded: Loaded::No,
        })
    }

    async fn flush(&self, _: &CollectionName, _: OnRateLimit) -> Result<FlushResult, MilvusError> {
        let flushed = self.source().segment_ids().collect();
        Ok(FlushResult { timestamp: 1 << 58, sealed: Vec::new(), flushed })
    }

    async fn is_flushed(&self, _: &CollectionName, _: &FlushResult) -> Result<bool, MilvusError> {
        Ok(true)
    }

    async fn segments(&self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError> {
        let collection_id = Source::collection_id(Self::number(name) as u64);
        let segment = |id| Segment {
            id,
            collection_id,
            partition_id: Source::partition_id(),
            rows: 1000,
            is_flushed: true,
            is_sorted: false,
            level: SegmentLevel::Data,
            storage: StorageVersion::V1,
        };
        Ok(self.source().segment_ids().map(segment).collect())
    }

    async fn segment_files(&self, _: &str, _: i64, _: &[i64]) -> Result<Option<Vec<SegmentFiles>>, MilvusError> {
        Ok(None)
    }

    async fn hold_garbage(&self, _: Duration) -> Result<GarbageHold, MilvusError> {
        Ok(GarbageHold::NotOffered)
    }

    async fn release_garbage(&self, _: &GarbageHold) -> Result<(), MilvusError> {
        Ok(())
    }

    async fn database_properties(&self, _: &str) -> Result<Vec<(String, String)>, MilvusError> {
        Ok(Vec::new())
    }

    async fn access_control(&self) -> Result<Option<String>, MilvusError> {
        Ok(None)
    }

    async fn restore_access_control(&self, _: &str) -> Result<Vec<String>, MilvusError> {
        not_here()
    }

    fn captured_grants(&self, _: &str) -> Result<Vec<Grant>, MilvusError> {
        not_here()
    }

    async fn roles(&self) -> Result<Vec<String>, MilvusError> {
        not_here()
    }

    async fn grants(&self, _: &str, _: &str) -> Result<Vec<Grant>, MilvusError> {
        not_here()
    }

    async fn grant(&self, _: &Grant) -> Result<(), MilvusError> {
        not_here()
    }

    async fn ensure_database(&self, _: &str, _: &[(String, String)]) -> Result<(), MilvusError> {
        not_here()
    }

    async fn collection_id(&self, name: &CollectionName) -> Result<Option<i64>, MilvusError> {
        Ok(Some(Source::collection_id(Self::number(name) as u64)))
    }

    async fn count(&self, _: &CollectionName) -> Result<u64, MilvusError> {
        not_here()
    }

    async fn some_keys(&self, _: &CollectionName, _: usize) -> Result<Vec<PrimaryKey>, MilvusError> {
        not_here()
    }

    async fn find_keys(&self, _: &CollectionName, _: &[PrimaryKey]) -> Result<Vec<PrimaryKey>, MilvusError> {
        not_here()
    }

    async fn create(&self, _: &CollectionName, _: &CollectionCapture) -> Result<(), MilvusError> {
        not_here()
    }

    async fn ensure_index(&self, _: &CollectionName, _: &IndexCapture) -> Result<(), MilvusError> {
        not_here()
    }

    async fn set_properties(&self, _: &CollectionName, _: &[(String, String)]) -> Result<(), MilvusError> {
        not_here()
    }

    async fn indexing(&self, _: &CollectionName) -> Result<Pace, MilvusError> {
        not_here()
    }

    async fn import(&self, _: ImportRequest<'_>) -> Result<i64, MilvusError> {
        not_here()
    }

    async fn import_tasks(&self, _: &CollectionName) -> Result<ImportTasks, MilvusError> {
        not_here()
    }

    async fn import_status(&self, _: i64) -> Result<ImportStatus, MilvusError> {
        not_here()
    }

    async fn load(&self, _: &CollectionName, _: &Loaded) -> Result<(), MilvusError> {
        not_here()
    }

    async fn loading(&self, _: &CollectionName) -> Result<Pace, MilvusError> {
        not_here()
    }

    async fn release(&self, _: &CollectionName) -> Result<(), MilvusError> {
        not_here()
    }

    async fn rename(&self, _: &CollectionName, _: &str) -> Result<(), MilvusError> {
        not_here()
    }

    async fn drop_collection(&self, _: &CollectionName) -> Result<(), MilvusError> {
        not_here()
    }

    async fn alias_target(&self, _: &str, _: &str) -> Result<Option<String>, MilvusError> {
        not_here()
    }

    async fn point_alias(&self, _: &str, _: &CollectionName) -> Result<(), MilvusError> {
        not_here()
    }

    async fn drop_alias(&self, _: &str, _: &str) -> Result<(), MilvusError> {
        not_here()
    }
}
