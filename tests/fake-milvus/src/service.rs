//! The gRPC side. What isn't here answers "unimplemented", as a server does that is older than the call.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use milvus::proto::{
    common::{IndexState, KeyValuePair, LoadState, SegmentLevel, SegmentState, Status},
    milvus::{self as api, milvus_service_server::MilvusService},
    msg::MsgPosition,
    schema::{CollectionSchema, FieldData, LongArray, ScalarField, field_data, scalar_field},
};
use prost::Message;
use tokio::sync::Mutex;
use tonic::{Request, Response};

use crate::{
    FlushNames, Line,
    faults::strikes,
    state::{Collection, Index, State},
};

pub(crate) struct Service(pub(crate) Arc<Mutex<State>>);

type Answer<T> = Result<Response<T>, tonic::Status>;

#[expect(clippy::unnecessary_wraps, clippy::result_large_err, reason = "the type that the server's trait wants")]
fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// A status with both codes, as servers of all these lines answer.
#[expect(deprecated, reason = "servers answer with the old code too")]
fn status(code: i32, old: i32, reason: &str) -> Status {
    Status { error_code: old, code, reason: reason.to_owned(), ..Default::default() }
}

fn done() -> Option<Status> {
    Some(Status::default())
}

fn not_ready() -> Status {
    status(1, 56, "service not ready: Initializing")
}

fn no_collection(name: &str) -> Status {
    status(100, 4, &format!("collection not found[collection={name}]"))
}

/// The reason is that of `internal/proxy/rate_limit_interceptor.go`.
fn rate_limited() -> Status {
    status(
        8,
        49,
        "request is rejected by grpc RateLimiter middleware, please retry later: rate limit exceeded[rate=0.1]",
    )
}

/// Ends a call with an answer that has nothing but this status.
macro_rules! refuse {
    ($message:ty, $status:expr) => {
        return answer(<$message>::from_status($status))
    };
}

/// An answer that is a refusal.
trait Refusal {
    fn from_status(status: Status) -> Self;
}

macro_rules! refusals {
    ($($message:ty),*) => {
        $(impl Refusal for $message {
            fn from_status(status: Status) -> Self {
                Self { status: Some(status), ..Default::default() }
            }
        })*
    };
}

refusals!(
    api::AllocTimestampResponse,
    api::ListDatabasesResponse,
    api::ShowCollectionsResponse,
    api::DescribeCollectionResponse,
    api::ShowPartitionsResponse,
    api::DescribeIndexResponse,
    api::GetLoadStateResponse,
    api::GetReplicasResponse,
    api::FlushResponse,
    api::GetFlushStateResponse,
    api::GetPersistentSegmentInfoResponse,
    api::QueryResults,
    api::BackupRbacMetaResponse
);

impl Refusal for Status {
    fn from_status(status: Status) -> Self {
        status
    }
}

/// The database of a call: of its message, or of its metadata.
fn database<T>(request: &Request<T>, named: &str) -> String {
    let of_metadata = || request.metadata().get("dbname").and_then(|name| name.to_str().ok());
    let name = if named.is_empty() { of_metadata().unwrap_or_default() } else { named };
    if name.is_empty() { "default".to_owned() } else { name.to_owned() }
}

impl Service {
    /// The state, unless the server isn't ready.
    async fn ready(&self) -> Result<tokio::sync::MutexGuard<'_, State>, Status> {
        let mut state = self.0.lock().await;
        match strikes(&mut state.faults.not_ready) {
            true => Err(not_ready()),
            false => Ok(state),
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

/// Gives the state, or ends the call with a refusal.
macro_rules! ready {
    ($service:expr, $message:ty) => {
        match $service.ready().await {
            Ok(state) => state,
            Err(status) => refuse!($message, status),
        }
    };
}

/// Gives a collection, or ends the call with a refusal.
macro_rules! known {
    ($state:expr, $database:expr, $name:expr, $message:ty) => {
        match $state.collection($database, $name) {
            Some(collection) => collection,
            None => refuse!($message, no_collection($name)),
        }
    };
}

fn longs(ids: Vec<i64>, name: &str) -> HashMap<String, LongArray> {
    HashMap::from([(name.to_owned(), LongArray { data: ids })])
}

#[async_trait]
impl MilvusService for Service {
    async fn get_version(&self, _: Request<api::GetVersionRequest>) -> Answer<api::GetVersionResponse> {
        let state = self.0.lock().await;
        let version = state.faults.version.clone().unwrap_or_else(|| state.line.version().to_owned());
        answer(api::GetVersionResponse { status: done(), version })
    }

    async fn alloc_timestamp(&self, _: Request<api::AllocTimestampRequest>) -> Answer<api::AllocTimestampResponse> {
        let state = ready!(self, api::AllocTimestampResponse);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let milliseconds =
            u64::try_from(since_1970).unwrap_or_default().saturating_add_signed(state.faults.clock_ahead);
        answer(api::AllocTimestampResponse { status: done(), timestamp: milliseconds << 18 })
    }

    async fn list_databases(&self, _: Request<api::ListDatabasesRequest>) -> Answer<api::ListDatabasesResponse> {
        let state = ready!(self, api::ListDatabasesResponse);
        let db_names = state.databases.keys().cloned().collect();
        answer(api::ListDatabasesResponse { status: done(), db_names, ..Default::default() })
    }

    async fn create_database(&self, request: Request<api::CreateDatabaseRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        state.databases.entry(request.into_inner().db_name).or_default();
        answer(Status::default())
    }

    async fn show_collections(
        &self,
        request: Request<api::ShowCollectionsRequest>,
    ) -> Answer<api::ShowCollectionsResponse> {
        let state = ready!(self, api::ShowCollectionsResponse);
        let Some(collections) = state.databases.get(&database(&request, &request.get_ref().db_name)) else {
            refuse!(api::ShowCollectionsResponse, status(800, 1, "database not found"));
        };
        answer(api::ShowCollectionsResponse {
            status: done(),
            collection_names: collections.keys().cloned().collect(),
            collection_ids: collections.values().map(|collection| collection.id).collect(),
            ..Default::default()
        })
    }

    async fn describe_collection(
        &self,
        request: Request<api::DescribeCollectionRequest>,
    ) -> Answer<api::DescribeCollectionResponse> {
        let mut state = ready!(self, api::DescribeCollectionResponse);
        let database = database(&request, &request.get_ref().db_name);
        let name = &request.get_ref().collection_name;
        let collection = known!(state, &database, name, api::DescribeCollectionResponse);
        answer(api::DescribeCollectionResponse {
            status: done(),
            schema: Some(collection.schema.clone()),
            collection_id: collection.id,
            shards_num: 1,
            virtual_channel_names: vec![format!("by-dev-rootcoord-dml_0_{}v0", collection.id)],
            aliases: collection.aliases.iter().cloned().collect(),
            collection_name: collection.schema.name.clone(),
            num_partitions: i64::try_from(collection.partitions.len()).unwrap_or_default(),
            ..Default::default()
        })
    }

    async fn show_partitions(
        &self,
        request: Request<api::ShowPartitionsRequest>,
    ) -> Answer<api::ShowPartitionsResponse> {
        let mut state = ready!(self, api::ShowPartitionsResponse);
        let database = database(&request, &request.get_ref().db_name);
        let name = &request.get_ref().collection_name;
        let collection = known!(state, &database, name, api::ShowPartitionsResponse);
        let (partition_names, partition_i_ds) = collection.partitions.iter().cloned().unzip();
        answer(api::ShowPartitionsResponse { status: done(), partition_names, partition_i_ds, ..Default::default() })
    }

    async fn describe_index(&self, request: Request<api::DescribeIndexRequest>) -> Answer<api::DescribeIndexResponse> {
        let mut state = ready!(self, api::DescribeIndexResponse);
        let database = database(&request, &request.get_ref().db_name);
        let name = &request.get_ref().collection_name;
        let collection = known!(state, &database, name, api::DescribeIndexResponse);
        if collection.indexes.is_empty() {
            refuse!(api::DescribeIndexResponse, status(700, 25, "index not found"));
        }
        let description = |index: &Index| api::IndexDescription {
            index_name: index.name.clone(),
            field_name: index.field.clone(),
            params: index.params.clone(),
            state: IndexState::Finished as i32,
            ..Default::default()
        };
        let index_descriptions = collection.indexes.iter().map(description).collect();
        answer(api::DescribeIndexResponse { status: done(), index_descriptions })
    }

    async fn get_load_state(&self, request: Request<api::GetLoadStateRequest>) -> Answer<api::GetLoadStateResponse> {
        let mut state = ready!(self, api::GetLoadStateResponse);
        let database = database(&request, &request.get_ref().db_name);
        let name = &request.get_ref().collection_name;
        let loaded = match known!(state, &database, name, api::GetLoadStateResponse).is_loaded {
            true => LoadState::Loaded,
            false => LoadState::NotLoad,
        };
        answer(api::GetLoadStateResponse { status: done(), state: loaded as i32 })
    }

    async fn get_replicas(&self, request: Request<api::GetReplicasRequest>) -> Answer<api::GetReplicasResponse> {
        let replica = api::ReplicaInfo { collection_id: request.get_ref().collection_id, ..Default::default() };
        answer(api::GetReplicasResponse { status: done(), replicas: vec![replica] })
    }

    async fn flush(&self, request: Request<api::FlushRequest>) -> Answer<api::FlushResponse> {
        let mut state = ready!(self, api::FlushResponse);
        let database = database(&request, &request.get_ref().db_name);
        let Some(name) = request.get_ref().collection_names.first() else {
            refuse!(api::FlushResponse, status(1100, 1, "no collection name"));
        };
        let every = state.faults.flush_every;
        let collection = known!(state, &database, name, api::FlushResponse);
        if let (Some(every), Some(at)) = (every, collection.flushed_at)
            && at.elapsed() < every
        {
            refuse!(api::FlushResponse, rate_limited());
        }
        collection.flushed_at = Some(Instant::now());
        let checkpoint = state.timestamp();
        let sealed = state.seal(&database, name).await;
        let timestamp = state.timestamp();
        state.flushes += 1;
        let (names, has_l0) = (state.faults.flush_names, state.line.has_l0());
        let collection = known!(state, &database, name, api::FlushResponse);
        collection.in_flush = true;
        collection.flushed_since_listing = true;
        let is_named = |level: SegmentLevel| match level {
            SegmentLevel::L1 => true,
            SegmentLevel::Legacy | SegmentLevel::L2 => names == FlushNames::All,
            SegmentLevel::L0 => false,
        };
        let earlier = collection.segments.iter().filter(|s| is_named(s.level) && !sealed.contains(&s.id));
        let earlier = earlier.map(|segment| segment.id).collect();
        let channel = format!("by-dev-rootcoord-dml_0_{}v0", collection.id);
        let position = MsgPosition { channel_name: channel.clone(), timestamp: checkpoint, ..Default::default() };
        answer(api::FlushResponse {
            status: done(),
            db_name: database,
            coll_seg_i_ds: longs(sealed, name),
            flush_coll_seg_i_ds: longs(earlier, name),
            coll_flush_ts: HashMap::from([(name.clone(), timestamp)]),
            channel_cps: if has_l0 { HashMap::from([(channel, position)]) } else { HashMap::new() },
            ..Default::default()
        })
    }

    async fn get_flush_state(&self, request: Request<api::GetFlushStateRequest>) -> Answer<api::GetFlushStateResponse> {
        let mut state = ready!(self, api::GetFlushStateResponse);
        let database = database(&request, &request.get_ref().db_name);
        let name = &request.get_ref().collection_name;
        let collection = known!(state, &database, name, api::GetFlushStateResponse);
        // Not at the first time of asking: the channels have to be read up to the flush.
        let flushed = !std::mem::take(&mut collection.in_flush);
        if flushed && strikes(&mut state.faults.compact_after_flush) {
            state.compact(&database, name, SegmentLevel::L1).await;
        }
        answer(api::GetFlushStateResponse { status: done(), flushed })
    }

    async fn get_persistent_segment_info(
        &self,
        request: Request<api::GetPersistentSegmentInfoRequest>,
    ) -> Answer<api::GetPersistentSegmentInfoResponse> {
        let mut state = ready!(self, api::GetPersistentSegmentInfoResponse);
        if strikes(&mut state.faults.segment_lost_while_listing) {
            refuse!(api::GetPersistentSegmentInfoResponse, status(600, 1, "segment not found[segment=1]"));
        }
        let database = database(&request, &request.get_ref().db_name);
        let name = &request.get_ref().collection_name;
        let storage_version = state.faults.storage_version.unwrap_or_else(|| state.line.storage_version());
        let collection = known!(state, &database, name, api::GetPersistentSegmentInfoResponse);
        let infos = collection.segments.iter().map(|segment| api::PersistentSegmentInfo {
            segment_id: segment.id,
            collection_id: collection.id,
            partition_id: segment.partition,
            num_rows: i64::try_from(segment.rows).unwrap_or_default(),
            state: segment.state as i32,
            level: segment.level as i32,
            storage_version,
            ..Default::default()
        });
        let infos = infos.collect();
        for segment in &mut collection.segments {
            segment.state = SegmentState::Flushed;
        }
        let follows_a_flush = std::mem::take(&mut collection.flushed_since_listing);
        if follows_a_flush && strikes(&mut state.faults.collect_after_listing) {
            state.compact_and_collect(&database, name).await;
        }
        answer(api::GetPersistentSegmentInfoResponse { status: done(), infos })
    }

    async fn query(&self, request: Request<api::QueryRequest>) -> Answer<api::QueryResults> {
        let mut state = ready!(self, api::QueryResults);
        let database = database(&request, &request.get_ref().db_name);
        let collection = known!(state, &database, &request.get_ref().collection_name, api::QueryResults);
        if !collection.is_loaded {
            refuse!(api::QueryResults, status(101, 1, "collection not loaded"));
        }
        if request.get_ref().output_fields != ["count(*)"] {
            // Rows are only counted here: of none it knows the key.
            return answer(api::QueryResults { status: done(), ..Default::default() });
        }
        let count = LongArray { data: vec![i64::try_from(collection.count()).unwrap_or_default()] };
        let scalars = ScalarField { data: Some(scalar_field::Data::LongData(count)), ..Default::default() };
        let field = FieldData { field: Some(field_data::Field::Scalars(scalars)), ..Default::default() };
        answer(api::QueryResults { status: done(), fields_data: vec![field], ..Default::default() })
    }

    async fn create_collection(&self, request: Request<api::CreateCollectionRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        let Ok(schema) = CollectionSchema::decode(request.schema.as_slice()) else {
            refuse!(Status, status(1100, 1, "the schema can't be read"));
        };
        let (id, partition) = (state.id(), state.id());
        let collection = Collection::new(id, schema, vec![("_default".to_owned(), partition)]);
        state.databases.entry(database).or_default().insert(request.collection_name, collection);
        answer(Status::default())
    }

    async fn backup_rbac(&self, _: Request<api::BackupRbacMetaRequest>) -> Answer<api::BackupRbacMetaResponse> {
        let state = ready!(self, api::BackupRbacMetaResponse);
        if state.line < Line::V2_4 {
            return Err(tonic::Status::unimplemented("unknown method BackupRBAC"));
        }
        answer(api::BackupRbacMetaResponse { status: done(), rbac_meta: Some(api::RbacMeta::default()) })
    }

    async fn create_partition(&self, request: Request<api::CreatePartitionRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        let id = self.0.lock().await.id();
        self.change(&database, &request.collection_name, |collection| {
            collection.partitions.push((request.partition_name, id));
            Status::default()
        })
        .await
    }

    async fn create_index(&self, request: Request<api::CreateIndexRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        self.change(&database, &request.collection_name, |collection| {
            let index = Index { field: request.field_name, name: request.index_name, params: request.extra_params };
            if collection.indexes.iter().all(|known| known.name != index.name) {
                collection.indexes.push(index);
            }
            Status::default()
        })
        .await
    }

    async fn load_collection(&self, request: Request<api::LoadCollectionRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        self.change(&database, &request.get_ref().collection_name, |collection| {
            collection.is_loaded = true;
            Status::default()
        })
        .await
    }

    async fn release_collection(&self, request: Request<api::ReleaseCollectionRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        self.change(&database, &request.get_ref().collection_name, |collection| {
            collection.is_loaded = false;
            Status::default()
        })
        .await
    }

    async fn drop_collection(&self, request: Request<api::DropCollectionRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        let database = database(&request, &request.get_ref().db_name);
        let name = &request.get_ref().collection_name;
        answer(match state.databases.get_mut(&database).and_then(|collections| collections.remove(name)) {
            Some(_) => Status::default(),
            None => no_collection(name),
        })
    }

    async fn create_alias(&self, request: Request<api::CreateAliasRequest>) -> Answer<Status> {
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

/// Index parameters as the protocol has them.
pub(crate) fn pairs(params: &[(&str, &str)]) -> Vec<KeyValuePair> {
    params.iter().map(|(key, value)| KeyValuePair { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
}
