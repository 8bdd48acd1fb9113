//! A Milvus to test against, for the lines that can't be run here.
//!
//! It speaks real gRPC on a loopback port, from the official client's server stubs, with the REST API on the same port
//! and the management endpoint on another, and keeps its logs in the object storage that the test gives it. Each
//! [`Line`] behaves as the source of that line says; the file is named beside each rule. It does as much as a backup
//! asks for, and of a restore what is simple.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a fake that can't go on fails its test")]

mod faults;
mod http;
mod line;
mod service;
mod state;

use std::{collections::BTreeSet, sync::Arc};

use axum::Router;
use milvus::proto::{
    common::SegmentLevel,
    milvus::milvus_service_server::MilvusServiceServer,
    schema::{CollectionSchema, DataType, FieldSchema},
};
use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};
use tonic::service::Routes;

pub use faults::{Faults, FlushNames, RootPassword};
pub use line::{Garbage, Line};
pub use state::DataBucket;
use state::{Collection, Index, State};

/// The database of the collections that tests make.
const DATABASE: &str = "default";

/// A running server, which ends when this is dropped.
pub struct FakeMilvus {
    state: Arc<Mutex<State>>,
    endpoint: String,
    management: String,
    servers: [JoinHandle<()>; 2],
}

/// Who may use a server.
#[derive(Debug, Clone)]
pub enum Access {
    /// Everyone.
    Open,
    /// Those who have this token, `user:password` or an API key.
    Token(String),
}

/// Whether a collection is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// Wholly.
    Loaded,
    /// Not at all: its rows can't be counted.
    Released,
}

/// Where deletes look for their rows.
#[derive(Debug, Clone, Copy)]
pub enum DeleteFrom<'a> {
    /// In one partition.
    Partition(&'a str),
    /// In all: their segment's partition is -1.
    All,
}

impl FakeMilvus {
    /// Starts a server of this line, open to everyone.
    pub async fn start(line: Line, data: DataBucket) -> Self {
        Self::start_for(line, data, Access::Open).await
    }

    /// Starts a server of this line.
    pub async fn start_for(line: Line, data: DataBucket, access: Access) -> Self {
        let state = Arc::new(Mutex::new(State::new(line, data)));
        let grpc = Routes::new(MilvusServiceServer::new(service::Service(state.clone()))).into_axum_router();
        let router = http::rest(state.clone(), grpc);
        let router = match access {
            Access::Open => router,
            Access::Token(token) => http::locked(router, token),
        };
        let (endpoint, milvus) = serve(router).await;
        let (management, other) = serve(http::management(state.clone())).await;
        Self { state, endpoint, management, servers: [milvus, other] }
    }

    /// Of gRPC and REST.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The management endpoint.
    pub fn management(&self) -> &str {
        &self.management
    }

    /// Sets switches.
    pub async fn set(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.state.lock().await.faults);
    }

    /// Makes a collection with a primary key `id` and a vector, an index, and these partitions beside `_default`.
    pub async fn add_collection(&self, name: &str, partitions: &[&str], loading: Loading) {
        let mut state = self.state.lock().await;
        let field = |field_id, name: &str, data_type: DataType| FieldSchema {
            field_id,
            name: name.to_owned(),
            data_type: data_type as i32,
            is_primary_key: name == "id",
            ..Default::default()
        };
        let fields = vec![field(100, "id", DataType::Int64), field(101, "vector", DataType::FloatVector)];
        let schema = CollectionSchema { name: name.to_owned(), fields, ..Default::default() };
        let id = state.id();
        let names = ["_default"].iter().chain(partitions);
        let partitions = names.map(|name| ((*name).to_owned(), state.id())).collect();
        let mut collection = Collection::new(id, schema, partitions);
        collection.is_loaded = loading == Loading::Loaded;
        let params = service::pairs(&[("index_type", "HNSW"), ("metric_type", "L2")]);
        collection.indexes.push(Index { field: "vector".to_owned(), name: "vector".to_owned(), params });
        state.databases.entry(DATABASE.to_owned()).or_default().insert(name.to_owned(), collection);
    }

    /// Inserts rows, which a flush brings to object storage.
    pub async fn insert(&self, name: &str, partition: &str, rows: u64) {
        self.change(name, |collection| collection.grow(collection.partition(partition), rows)).await;
    }

    /// Deletes rows, likewise.
    pub async fn delete(&self, name: &str, from: DeleteFrom<'_>, rows: u64) {
        self.change(name, |collection| {
            let partition = match from {
                DeleteFrom::Partition(name) => collection.partition(name),
                DeleteFrom::All => -1,
            };
            collection.delete(partition, rows);
        })
        .await;
    }

    /// Brings everything to object storage, as a server does from time to time.
    pub async fn seal(&self, name: &str) {
        self.state.lock().await.seal(DATABASE, name).await;
    }

    /// Merges the collection's segments into new ones of level L2, as a clustering compaction does. The old ones' files
    /// stay.
    pub async fn cluster(&self, name: &str) {
        self.state.lock().await.compact(DATABASE, name, SegmentLevel::L2).await;
    }

    /// Leaves a log in the folder of a flushed segment that isn't in its metadata; gives its key below the root path.
    pub async fn add_orphan(&self, name: &str) -> String {
        self.state.lock().await.orphan(DATABASE, name).await
    }

    /// The keys, below the root path, of the logs that hold the collection, as the metadata has them.
    pub async fn logs(&self, name: &str) -> BTreeSet<String> {
        let mut state = self.state.lock().await;
        state.collection(DATABASE, name).map(|collection| collection.keys()).unwrap_or_default()
    }

    /// How many holds of the garbage collection there are.
    pub async fn holds(&self) -> usize {
        self.state.lock().await.holds.len()
    }

    /// How many flushes were done.
    pub async fn flushes(&self) -> u32 {
        self.state.lock().await.flushes
    }

    async fn change(&self, name: &str, change: impl FnOnce(&mut Collection)) {
        change(self.state.lock().await.collection(DATABASE, name).expect("the collection exists"));
    }
}

impl Drop for FakeMilvus {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
    }
}

async fn serve(router: Router) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let address = listener.local_addr().expect("it has an address");
    let server = tokio::spawn(async { axum::serve(listener, router).await.expect("the server serves") });
    (format!("http://{address}"), server)
}
