//! Descriptions of collections, partitions and indexes, and queries of rows.

use milvus::proto::{
    common::{IndexState, LoadState},
    milvus::{self as api},
    schema::{FieldData, LongArray, ScalarField, field_data, scalar_field},
};
use tonic::Request;

use super::{
    Service,
    reply::{Answer, answer, database, done, known, no_collection, not_permitted, permit, ready, refuse, status},
};
use crate::{faults::strikes, state::Index};

impl Service {
    pub(super) async fn show_collections(
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

    pub(super) async fn describe_collection(
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
            // The requested name, even if it is an alias (`describeCollectionTask` in `internal/proxy/task.go`).
            collection_name: name.clone(),
            num_partitions: i64::try_from(collection.partitions.len()).unwrap_or_default(),
            ..Default::default()
        })
    }

    pub(super) async fn show_partitions(
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

    pub(super) async fn describe_index(
        &self,
        request: Request<api::DescribeIndexRequest>,
    ) -> Answer<api::DescribeIndexResponse> {
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

    pub(super) async fn get_load_state(
        &self,
        request: Request<api::GetLoadStateRequest>,
    ) -> Answer<api::GetLoadStateResponse> {
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

    pub(super) async fn get_loading_progress(
        &self,
        _: Request<api::GetLoadingProgressRequest>,
    ) -> Answer<api::GetLoadingProgressResponse> {
        answer(api::GetLoadingProgressResponse { status: done(), progress: 100, ..Default::default() })
    }

    pub(super) async fn get_replicas(
        &self,
        request: Request<api::GetReplicasRequest>,
    ) -> Answer<api::GetReplicasResponse> {
        let state = ready!(self, api::GetReplicasResponse);
        if let Some(code) = state.faults.replicas_fail {
            refuse!(api::GetReplicasResponse, status(code, 1, "no replica of it can be reached"));
        }
        let replica = api::ReplicaInfo { collection_id: request.get_ref().collection_id, ..Default::default() };
        answer(api::GetReplicasResponse { status: done(), replicas: vec![replica] })
    }

    pub(super) async fn query(&self, request: Request<api::QueryRequest>) -> Answer<api::QueryResults> {
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
}
