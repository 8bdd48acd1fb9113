//! Changes of collections.

use milvus::proto::{
    common::Status,
    milvus::{self as api},
    schema::{CollectionSchema, FieldSchema},
};
use prost::Message;
use tonic::Request;

use super::{
    Service,
    reply::{Answer, answer, database, no_collection, ready, refuse, status},
};
use crate::state::{Collection, FIRST_FIELD, Index};

impl Service {
    pub(super) async fn create_collection(&self, request: Request<api::CreateCollectionRequest>) -> Answer<Status> {
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

    pub(super) async fn add_collection_field(
        &self,
        request: Request<api::AddCollectionFieldRequest>,
    ) -> Answer<Status> {
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

    pub(super) async fn alter_collection(&self, request: Request<api::AlterCollectionRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        self.change(&database, &request.collection_name, |collection| {
            collection.properties.retain(|known| request.properties.iter().all(|pair| pair.key != known.key));
            collection.properties.extend(request.properties);
            Status::default()
        })
        .await
    }

    pub(super) async fn rename_collection(&self, request: Request<api::RenameCollectionRequest>) -> Answer<Status> {
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

    pub(super) async fn drop_collection(&self, request: Request<api::DropCollectionRequest>) -> Answer<Status> {
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

    pub(super) async fn create_partition(&self, request: Request<api::CreatePartitionRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        let request = request.into_inner();
        let id = self.0.lock().await.id();
        self.change(&database, &request.collection_name, |collection| {
            collection.partitions.push((request.partition_name, id));
            Status::default()
        })
        .await
    }

    pub(super) async fn create_index(&self, request: Request<api::CreateIndexRequest>) -> Answer<Status> {
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

    pub(super) async fn load_collection(&self, request: Request<api::LoadCollectionRequest>) -> Answer<Status> {
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

    pub(super) async fn release_collection(&self, request: Request<api::ReleaseCollectionRequest>) -> Answer<Status> {
        let database = database(&request, &request.get_ref().db_name);
        self.change(&database, &request.get_ref().collection_name, |collection| {
            collection.is_loaded = false;
            Status::default()
        })
        .await
    }
}
