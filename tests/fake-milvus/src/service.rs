//! The gRPC side. What isn't here answers "unimplemented", as a server does that is older than the call.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use milvus::proto::{
    common::{IndexState, KeyValuePair, LoadState, SegmentLevel, SegmentState, Status},
    milvus::{self as api, milvus_service_server::MilvusService},
    msg::MsgPosition,
    schema::{CollectionSchema, FieldData, FieldSchema, LongArray, ScalarField, field_data, scalar_field},
};
use prost::Message;
use tokio::sync::Mutex;
use tonic::{Request, Response};

use crate::{
    FlushNames, Line,
    faults::strikes,
    state::{Collection, FIRST_FIELD, Index, Segment, State},
    users::{Asked, Grant, Role},
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

/// What a proxy says of a call that it knows and doesn't have (`WrapErrServiceUnavailable`).
fn unimplemented() -> Status {
    status(2, 1, "service unavailable: unimplemented")
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
    api::ListAliasesResponse,
    api::DescribeAliasResponse,
    api::ShowPartitionsResponse,
    api::DescribeIndexResponse,
    api::GetLoadStateResponse,
    api::GetReplicasResponse,
    api::FlushResponse,
    api::GetFlushStateResponse,
    api::GetPersistentSegmentInfoResponse,
    api::QueryResults,
    api::BackupRbacMetaResponse,
    api::ImportResponse,
    api::ListImportTasksResponse,
    api::GetImportStateResponse,
    api::DescribeDatabaseResponse,
    api::GetLoadingProgressResponse,
    api::SelectUserResponse,
    api::SelectGrantResponse,
    api::SelectRoleResponse
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

/// Ends a call that the caller has no privilege for.
macro_rules! permit {
    ($state:expr, $request:expr, $database:expr, $object:literal, $name:expr, $privilege:literal) => {
        $state.users.permit(
            $state.line,
            $request.metadata(),
            &Asked { database: $database, object: $object, name: $name, privilege: $privilege },
        )?
    };
}

/// What isn't listed for the caller can't be described either, in lines that look at that
/// (`WrapErrPrivilegeNotPermitted` in `internal/rootcoord/describe_collection_task.go`, 2.5).
fn not_permitted(what: &str, name: &str) -> Status {
    status(1401, 1, &format!("not allowed to access {what}, {what} name: {name}: privilege not permitted"))
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

    async fn list_databases(&self, request: Request<api::ListDatabasesRequest>) -> Answer<api::ListDatabasesResponse> {
        let state = ready!(self, api::ListDatabasesResponse);
        let visible = state.users.databases(state.line, request.metadata());
        let db_names = state.databases.keys().filter(|name| visible.has(name)).cloned().collect();
        answer(api::ListDatabasesResponse { status: done(), db_names, ..Default::default() })
    }

    async fn create_database(&self, request: Request<api::CreateDatabaseRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        let request = request.into_inner();
        state.database_properties.insert(request.db_name.clone(), request.properties);
        state.databases.entry(request.db_name).or_default();
        answer(Status::default())
    }

    async fn show_collections(
        &self,
        request: Request<api::ShowCollectionsRequest>,
    ) -> Answer<api::ShowCollectionsResponse> {
        let state = ready!(self, api::ShowCollectionsResponse);
        let database = database(&request, &request.get_ref().db_name);
        let Some(collections) = state.databases.get(&database) else {
            refuse!(api::ShowCollectionsResponse, status(800, 1, "database not found"));
        };
        let visible = state.users.collections(state.line, request.metadata(), &database);
        let listed = || collections.iter().filter(|(name, _)| visible.has(name));
        answer(api::ShowCollectionsResponse {
            status: done(),
            collection_names: listed().map(|(name, _)| name.clone()).collect(),
            collection_ids: listed().map(|(_, collection)| collection.id).collect(),
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
        permit!(state, request, &database, "Global", "*", "DescribeCollection");
        let was_flushed = state.collection(&database, name).is_some_and(|collection| collection.flushed_at.is_some());
        if was_flushed && strikes(&mut state.faults.collect_deletes_after_flush) {
            state.compact_and_collect(&database, name, "delta_log/").await;
        }
        let (line, visible) = (state.line, state.users.collections(state.line, request.metadata(), &database));
        let Some(collection) = state.collection(&database, name) else {
            let by_old_code =
                || status(0, 4, &format!("can't find collection[database={database}][collection={name}]"));
            let missing = if line.describes_missing_by_old_code() { by_old_code() } else { no_collection(name) };
            refuse!(api::DescribeCollectionResponse, missing);
        };
        if line.describes_by_grants() && !visible.has(&collection.schema.name) {
            refuse!(api::DescribeCollectionResponse, not_permitted("collection", name));
        }
        let aliases = match line.caches_aliases() && *name == collection.schema.name {
            true => collection.cached_aliases.get_or_insert_with(|| collection.aliases.clone()),
            false => &collection.aliases,
        };
        answer(api::DescribeCollectionResponse {
            status: done(),
            aliases: aliases.iter().cloned().collect(),
            schema: Some(collection.schema.clone()),
            collection_id: collection.id,
            shards_num: collection.shards,
            consistency_level: collection.consistency_level,
            properties: collection.properties.clone(),
            virtual_channel_names: vec![format!("by-dev-rootcoord-dml_0_{}v0", collection.id)],
            // The name that was asked for, be it an alias (`describeCollectionTask` in `internal/proxy/task.go`).
            collection_name: name.clone(),
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
        permit!(state, request, &database, "Collection", name, "ShowPartitions");
        let collection = known!(state, &database, name, api::ShowPartitionsResponse);
        let (partition_names, partition_i_ds) = collection.partitions.iter().cloned().unzip();
        answer(api::ShowPartitionsResponse { status: done(), partition_names, partition_i_ds, ..Default::default() })
    }

    async fn describe_index(&self, request: Request<api::DescribeIndexRequest>) -> Answer<api::DescribeIndexResponse> {
        let mut state = ready!(self, api::DescribeIndexResponse);
        let database = database(&request, &request.get_ref().db_name);
        let name = &request.get_ref().collection_name;
        permit!(state, request, &database, "Collection", name, "IndexDetail");
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
        permit!(state, request, &database, "Collection", name, "GetLoadState");
        let failed = state.faults.load_failed;
        let loaded = match (known!(state, &database, name, api::GetLoadStateResponse).is_loaded, failed) {
            (true, _) => LoadState::Loaded,
            (false, None) => LoadState::NotLoad,
            (false, Some(code)) => {
                refuse!(api::GetLoadStateResponse, status(code, 1, "stack trace: no memory left"));
            }
        };
        answer(api::GetLoadStateResponse { status: done(), state: loaded as i32 })
    }

    async fn get_replicas(&self, request: Request<api::GetReplicasRequest>) -> Answer<api::GetReplicasResponse> {
        let state = ready!(self, api::GetReplicasResponse);
        if let Some(code) = state.faults.replicas_fail {
            refuse!(api::GetReplicasResponse, status(code, 1, "no replica of it can be reached"));
        }
        let replica = api::ReplicaInfo { collection_id: request.get_ref().collection_id, ..Default::default() };
        answer(api::GetReplicasResponse { status: done(), replicas: vec![replica] })
    }

    async fn flush(&self, request: Request<api::FlushRequest>) -> Answer<api::FlushResponse> {
        let mut state = ready!(self, api::FlushResponse);
        let database = database(&request, &request.get_ref().db_name);
        let Some(name) = request.get_ref().collection_names.first() else {
            refuse!(api::FlushResponse, status(1100, 1, "no collection name"));
        };
        permit!(state, request, &database, "Collection", name, "Flush");
        for change in std::mem::take(&mut state.faults.before_flush) {
            state.change(&database, &change);
        }
        let every = state.faults.flush_every;
        let collection = known!(state, &database, name, api::FlushResponse);
        if let (Some(every), Some(at)) = (every, collection.flushed_at)
            && at.elapsed() < every
        {
            refuse!(api::FlushResponse, rate_limited());
        }
        collection.flushed_at = Some(Instant::now());
        collection.rows_at_flush = collection.found();
        let checkpoint = state.timestamp();
        let by_policy = match state.line.seals_by_policy() && strikes(&mut state.faults.sealed_by_policy) {
            true => state.seal_by_policy(&database, name).await,
            false => Vec::new(),
        };
        let sealed = state.seal(&database, name).await;
        let timestamp = state.timestamp();
        state.flushes += 1;
        let (names, has_l0) = (state.faults.flush_names, state.line.has_l0());
        let seals_by_policy = state.line.seals_by_policy();
        let collection = known!(state, &database, name, api::FlushResponse);
        collection.in_flush = true;
        let is_named = |level: SegmentLevel| match level {
            SegmentLevel::L1 => true,
            SegmentLevel::Legacy | SegmentLevel::L2 => names == FlushNames::All,
            SegmentLevel::L0 => false,
        };
        // `flushCollection` in `internal/datacoord/services.go`, 2.5: what is flushed, and what was sealed just now.
        // Before streaming, also what was sealed by then and isn't flushed yet (`SealAllSegments` in
        // `internal/datacoord/segment_manager.go`).
        let is_unflushed = |s: &&Segment| !seals_by_policy && s.is_data() && s.stored_at.is_some();
        let is_sealed = |s: &&Segment| sealed.contains(&s.id) || is_unflushed(s);
        let sealed: Vec<i64> = collection.segments.iter().filter(is_sealed).map(|segment| segment.id).collect();
        let earlier = collection.segments.iter().filter(|s| is_named(s.level) && s.stored_at.is_none());
        let earlier = earlier.filter(|s| !sealed.contains(&s.id) && !by_policy.contains(&s.id));
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
        permit!(state, request, &database, "Collection", name, "GetFlushState");
        if state.faults.never_flushed.as_ref() == Some(name) {
            return answer(api::GetFlushStateResponse { status: done(), flushed: false });
        }
        let collection = known!(state, &database, name, api::GetFlushStateResponse);
        // Not at the first time of asking: the channels have to be read up to the flush, and everything stored by then.
        let moment = request.get_ref().flush_ts;
        let is_waiting = collection.segments.iter().any(|s| s.stored_at.is_some() && s.sealed <= moment);
        let flushed = !std::mem::take(&mut collection.in_flush) && !is_waiting;
        collection.flushed_since_listing |= flushed;
        if flushed {
            for change in std::mem::take(&mut state.faults.after_flush) {
                state.change(&database, &change);
            }
        }
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
        if strikes(&mut state.faults.delete_before_listing) {
            if let Some(keys) = state.collection(&database, name).map(|collection| collection.first_keys(-1, 1)) {
                state.delete(&database, name, -1, &keys);
            }
            state.seal(&database, name).await;
        }
        let storage_version = state.storage_version();
        let collection = known!(state, &database, name, api::GetPersistentSegmentInfoResponse);
        let stored = |segment: &&Segment| segment.stored_at.is_none();
        let infos = collection.segments.iter().filter(stored).map(|segment| api::PersistentSegmentInfo {
            segment_id: segment.id,
            collection_id: collection.id,
            partition_id: segment.partition,
            num_rows: i64::try_from(segment.rows.len()).unwrap_or_default(),
            state: segment.state as i32,
            level: segment.level as i32,
            is_sorted: segment.is_sorted,
            storage_version,
            ..Default::default()
        });
        let infos = infos.collect();
        for segment in collection.segments.iter_mut().filter(|segment| segment.stored_at.is_none()) {
            segment.state = SegmentState::Flushed;
        }
        let follows_a_flush = std::mem::take(&mut collection.flushed_since_listing);
        if follows_a_flush && strikes(&mut state.faults.collect_after_listing) {
            state.compact_and_collect(&database, name, "").await;
        }
        answer(api::GetPersistentSegmentInfoResponse { status: done(), infos })
    }

    async fn query(&self, request: Request<api::QueryRequest>) -> Answer<api::QueryResults> {
        let mut state = ready!(self, api::QueryResults);
        let database = database(&request, &request.get_ref().db_name);
        permit!(state, request, &database, "Collection", &request.get_ref().collection_name, "Query");
        let collection = known!(state, &database, &request.get_ref().collection_name, api::QueryResults);
        if !collection.is_loaded {
            refuse!(api::QueryResults, status(101, 1, "collection not loaded"));
        }
        let request = request.get_ref();
        let longs = if request.output_fields == ["count(*)"] {
            vec![i64::try_from(collection.count()).unwrap_or_default()]
        } else {
            let sought: Option<Vec<i64>> =
                request.expr.strip_prefix("id in ").and_then(|list| serde_json::from_str(list).ok());
            let limit = request.query_params.iter().find(|pair| pair.key == "limit");
            let limit = limit.and_then(|pair| pair.value.parse().ok()).unwrap_or(usize::MAX);
            let is_sought = |key: &i64| sought.as_ref().is_none_or(|sought| sought.contains(key));
            collection.keys_in(-1).into_iter().filter(is_sought).take(limit).collect()
        };
        let data = Some(scalar_field::Data::LongData(LongArray { data: longs }));
        let field = FieldData {
            field_name: request.output_fields.first().cloned().unwrap_or_default(),
            field: Some(field_data::Field::Scalars(ScalarField { data, ..Default::default() })),
            ..Default::default()
        };
        answer(api::QueryResults { status: done(), fields_data: vec![field], ..Default::default() })
    }

    async fn create_collection(&self, request: Request<api::CreateCollectionRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        let Ok(mut schema) = CollectionSchema::decode(request.schema.as_slice()) else {
            refuse!(Status, status(1100, 1, "the schema can't be read"));
        };
        // By place, whatever ids are asked for; the dynamic field's comes last (`assignFieldAndFunctionID` in
        // `internal/rootcoord/create_collection_task.go`).
        let mut next = FIRST_FIELD..;
        for field in &mut schema.fields {
            field.field_id = next.next().unwrap_or_default();
        }
        let dynamic = schema.enable_dynamic_field.then_some(next.start);
        if state.resolve(&database, &request.collection_name).is_some() {
            refuse!(Status, status(1, 1, "a collection or an alias of this name exists"));
        }
        if state.databases.get(&database).is_some_and(|known| known.contains_key(&request.collection_name)) {
            refuse!(Status, status(1, 1, "a collection of this name exists"));
        }
        let (id, partition) = (state.id(), state.id());
        let mut collection = Collection::new(id, schema, vec![("_default".to_owned(), partition)]);
        collection.dynamic = dynamic;
        collection.properties = request.properties;
        collection.consistency_level = request.consistency_level;
        collection.shards = request.shards_num;
        state.databases.entry(database).or_default().insert(request.collection_name, collection);
        answer(Status::default())
    }

    async fn add_collection_field(&self, request: Request<api::AddCollectionFieldRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        let Ok(field) = FieldSchema::decode(request.schema.as_slice()) else {
            refuse!(Status, status(1100, 1, "the field can't be read"));
        };
        self.change(&database, &request.collection_name, |collection| {
            collection.add_field(field);
            Status::default()
        })
        .await
    }

    async fn alter_collection(&self, request: Request<api::AlterCollectionRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        self.change(&database, &request.collection_name, |collection| {
            collection.properties.retain(|known| request.properties.iter().all(|pair| pair.key != known.key));
            collection.properties.extend(request.properties);
            Status::default()
        })
        .await
    }

    async fn rename_collection(&self, request: Request<api::RenameCollectionRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        if let Some((_, change)) = state.faults.before_rename.take_if(|(name, _)| *name == request.old_name) {
            state.change(&database, &change);
        }
        if state.resolve(&database, &request.new_name).is_some() {
            refuse!(Status, status(1, 1, "a collection or an alias of this name exists"));
        }
        answer(match state.rename(&database, &request.old_name, &request.new_name) {
            true => state.done()?,
            false => no_collection(&request.old_name),
        })
    }

    async fn import(&self, request: Request<api::ImportRequest>) -> Answer<api::ImportResponse> {
        let mut state = ready!(self, api::ImportResponse);
        let database = database(&request, &request.get_ref().db_name);
        match state.import(&database, request.get_ref()).await {
            Ok(task) => answer(api::ImportResponse { status: done(), tasks: vec![task] }),
            Err(reason) => refuse!(api::ImportResponse, status(2100, 1, &reason)),
        }
    }

    async fn list_import_tasks(
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

    async fn get_import_state(
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

    async fn describe_database(
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

    async fn get_loading_progress(
        &self,
        _: Request<api::GetLoadingProgressRequest>,
    ) -> Answer<api::GetLoadingProgressResponse> {
        answer(api::GetLoadingProgressResponse { status: done(), progress: 100, ..Default::default() })
    }

    async fn select_user(&self, request: Request<api::SelectUserRequest>) -> Answer<api::SelectUserResponse> {
        let state = ready!(self, api::SelectUserResponse);
        let name = request.get_ref().user.as_ref().map(|user| user.name.as_str());
        permit!(state, request, "default", "User", name.unwrap_or("*"), "SelectUser");
        answer(api::SelectUserResponse { status: done(), results: state.users.select(name) })
    }

    async fn select_grant(&self, request: Request<api::SelectGrantRequest>) -> Answer<api::SelectGrantResponse> {
        let state = ready!(self, api::SelectGrantResponse);
        let entity = request.get_ref().entity.clone().unwrap_or_default();
        let role = entity.role.unwrap_or_default().name;
        if !state.users.is_own_role(state.line, request.metadata(), &role) {
            permit!(state, request, "default", "Global", "*", "SelectOwnership");
        }
        let entities = state.users.grants(state.line, &role, &entity.db_name);
        answer(api::SelectGrantResponse { status: done(), entities })
    }

    async fn select_role(&self, request: Request<api::SelectRoleRequest>) -> Answer<api::SelectRoleResponse> {
        let state = ready!(self, api::SelectRoleResponse);
        permit!(state, request, "default", "Global", "*", "SelectOwnership");
        let result = |role: &Role| api::RoleResult { role: Some(role.entity()), ..Default::default() };
        let results = state.users.roles.iter().map(result).collect();
        answer(api::SelectRoleResponse { status: done(), results })
    }

    /// `OperatePrivilege` in `internal/rootcoord/root_coord.go`: that the object exists isn't asked for, and what is
    /// granted already isn't an error.
    async fn operate_privilege(&self, request: Request<api::OperatePrivilegeRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        permit!(state, request, "default", "Global", "*", "ManageOwnership");
        let (role, grant) = Grant::from_entity(request.into_inner().entity.unwrap_or_default());
        if grant.is_group() {
            let reason = format!("can not operate the built-in privilege group [{}]", grant.privilege);
            refuse!(Status, status(1100, 1, &reason));
        }
        answer(state.grant(&role, grant)?)
    }

    async fn operate_privilege_v2(&self, request: Request<api::OperatePrivilegeV2Request>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        if !state.line.has_privilege_groups() {
            return Err(tonic::Status::unimplemented("unknown method OperatePrivilegeV2"));
        }
        permit!(state, request, "default", "Global", "*", "ManageOwnership");
        let api::OperatePrivilegeV2Request { role, grantor, db_name, collection_name, .. } = request.into_inner();
        let entity = api::GrantEntity { role, grantor, db_name, object_name: collection_name, ..Default::default() };
        let (role, mut grant) = Grant::from_entity(entity);
        grant.object = if grant.is_group() { "Global" } else { "Collection" }.to_owned();
        answer(state.grant(&role, grant)?)
    }

    async fn backup_rbac(&self, request: Request<api::BackupRbacMetaRequest>) -> Answer<api::BackupRbacMetaResponse> {
        let state = ready!(self, api::BackupRbacMetaResponse);
        if state.line < Line::V2_4 {
            return Err(tonic::Status::unimplemented("unknown method BackupRBAC"));
        }
        permit!(state, request, "default", "Global", "*", "BackupRBAC");
        answer(api::BackupRbacMetaResponse { status: done(), rbac_meta: Some(state.users.meta()) })
    }

    async fn restore_rbac(&self, request: Request<api::RestoreRbacMetaRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        if state.line < Line::V2_4 {
            return Err(tonic::Status::unimplemented("unknown method RestoreRBAC"));
        }
        let back = request.into_inner().rbac_meta.unwrap_or_default();
        // `internal/rootcoord/meta_table.go`, `RestoreRBAC`.
        let is_known = |role: &&api::RoleEntity| state.users.roles.iter().any(|known| known.name == role.name);
        if let Some(known) = back.roles.iter().find(is_known) {
            refuse!(Status, status(1, 1, &format!("role [{}] already exists", known.name)));
        }
        state.users.roles.extend(back.roles.into_iter().map(|role| Role { name: role.name, grants: Vec::new() }));
        for (role, grant) in back.grants.into_iter().map(Grant::from_entity) {
            state.users.grant(&role, grant);
        }
        answer(Status::default())
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
        let refused = self.0.lock().await.faults.index_refused.clone();
        if refused.is_some_and(|field| field == request.field_name) {
            refuse!(Status, status(1100, 5, "invalid parameter[expected=valid index params]"));
        }
        // `validateIndexName` in `internal/proxy/util.go`.
        let mut name = request.index_name.chars();
        let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if name.next().is_some_and(|first| !is_word(first) || first.is_ascii_digit()) || !name.all(is_word) {
            let reason = format!(
                "Invalid index name: {}. Index name can only contain numbers, letters, and underscores.",
                request.index_name
            );
            refuse!(Status, status(65535, 1, &reason));
        }
        self.change(&database, &request.collection_name, |collection| {
            // The names that the server makes itself (`CreateIndex` in `internal/datacoord/index_service.go`, 2.5).
            let path = request.extra_params.iter().find(|pair| pair.key == "json_path");
            let name = match path {
                _ if !request.index_name.is_empty() => request.index_name,
                Some(path) => format!("{}{}", request.field_name, path.value),
                None => request.field_name.clone(),
            };
            let index = Index { field: request.field_name, name, params: request.extra_params };
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
            // `loadCollectionTask` in `internal/proxy/task.go`: every vector field needs an index.
            if collection.indexes.iter().all(|index| index.field != "vector") {
                return status(700, 25, "there is no vector index on field: [vector], please create index firstly");
            }
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
        let keeps_aliased = state.line.keeps_aliased();
        let Some(collections) = state.databases.get_mut(&database) else { refuse!(Status, no_collection(name)) };
        let Some(collection) = collections.get(name) else { refuse!(Status, no_collection(name)) };
        if keeps_aliased && !collection.aliases.is_empty() {
            refuse!(Status, status(65535, 1, "unable to drop the collection because it has associated aliases"));
        }
        state.drop_collection(&database, name);
        answer(Status::default())
    }

    async fn alter_alias(&self, request: Request<api::AlterAliasRequest>) -> Answer<Status> {
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

    async fn drop_alias(&self, request: Request<api::DropAliasRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        let database = database(&request, &request.get_ref().db_name);
        state.dangling.remove(&(database.clone(), request.get_ref().alias.clone()));
        for collection in state.databases.get_mut(&database).into_iter().flat_map(BTreeMap::values_mut) {
            collection.aliases.remove(&request.get_ref().alias);
        }
        answer(Status::default())
    }

    /// `ListAliases` in `internal/rootcoord/meta_table.go`: of the name itself, never of an alias.
    async fn list_aliases(&self, request: Request<api::ListAliasesRequest>) -> Answer<api::ListAliasesResponse> {
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
    async fn describe_alias(&self, request: Request<api::DescribeAliasRequest>) -> Answer<api::DescribeAliasResponse> {
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

impl State {
    /// Lets a role do this, as whoever asks may.
    #[expect(clippy::result_large_err, reason = "the type that the server's trait wants")]
    fn grant(&mut self, role: &str, grant: Grant) -> Result<Status, tonic::Status> {
        if self.faults.grant_refused.as_ref() == Some(&grant.privilege) {
            return Ok(status(1100, 1, &format!("the privilege {} can't be granted", grant.privilege)));
        }
        if !self.users.grant(role, grant) {
            return Ok(status(1100, 1, &format!("the role \"{role}\" does not exist")));
        }
        self.done()
    }

    /// The answer of what is done, unless it is lost.
    #[expect(clippy::result_large_err, reason = "the type that the server's trait wants")]
    fn done(&mut self) -> Result<Status, tonic::Status> {
        match strikes(&mut self.faults.unanswered) {
            true => Err(tonic::Status::unavailable("the connection was lost")),
            false => Ok(Status::default()),
        }
    }
}

/// Index parameters as the protocol has them.
pub(crate) fn pairs(params: &[(&str, &str)]) -> Vec<KeyValuePair> {
    params.iter().map(|(key, value)| KeyValuePair { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
}
