//! A fake Milvus for tests, for the lines that can't be run here.
//!
//! It speaks real gRPC on a loopback port, from the official client's server stubs, with the REST API on the same port
//! and the management endpoint on another, and keeps its logs in the object storage that the test gives it. Each
//! [`Line`] behaves as the source of that line says; the file is named beside each rule. It does as much as backups and
//! restores ask for; a row is a primary key and a timestamp.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a fake that can't go on fails its test")]

mod faults;
mod http;
mod import;
mod line;
mod pace;
mod service;
mod state;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use axum::Router;
use milvus::proto::{
    common::SegmentLevel,
    milvus::milvus_service_server::MilvusServiceServer,
    schema::{DataType, FieldSchema},
};
use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};
use tonic::service::Routes;

pub use faults::{Change, Faults, FlushNames, ImportPace, Pace, RootPassword};
pub use line::{Garbage, Line};
pub use state::DataBucket;
use state::{Index, State};
use users::Users;
pub use users::{Grant, Role, User};

/// The database of the collections that tests make.
const DATABASE: &str = "default";

/// A running server, which ends when this is dropped.
pub struct FakeMilvus {
    state: Arc<Mutex<State>>,
    endpoint: String,
    management: String,
    tokens: http::Tokens,
    servers: [JoinHandle<()>; 2],
}

/// Who may use a server.
#[derive(Debug, Clone)]
pub enum Access {
    /// Everyone.
    Open,
    /// Clients with this token, `user:password` or an API key.
    Token(String),
    /// Authorization is on: these users, each with its grants.
    Users(Vec<User>),
}

/// Whether a collection is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// Wholly.
    Loaded,
    /// Not at all: its rows can't be counted.
    Released,
}

/// The partitions in which deletes look for their rows.
#[derive(Debug, Clone, Copy)]
pub enum DeleteFrom<'a> {
    /// In one partition.
    Partition(&'a str),
    /// In all partitions: their segment's partition is -1.
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
        let tokens = http::Tokens::default();
        let router = match access {
            Access::Open => router,
            Access::Token(first) => {
                *tokens.lock().unwrap_or_else(PoisonError::into_inner) = vec![first];
                http::locked(router, tokens.clone())
            }
            Access::Users(users) => {
                *tokens.lock().unwrap_or_else(PoisonError::into_inner) = users.iter().map(User::token).collect();
                state.lock().await.users = Users::new(users);
                http::locked(router, tokens.clone())
            }
        };
        let (endpoint, milvus) = serve(router).await;
        let (management, other) = serve(http::management(state.clone())).await;
        Self { state, endpoint, management, tokens, servers: [milvus, other] }
    }

    /// The endpoint of gRPC and REST.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The management endpoint.
    pub fn management(&self) -> &str {
        &self.management
    }

    /// Lets only clients with this token use the server from now on.
    pub fn let_in(&self, token: &str) {
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = vec![token.to_owned()];
    }

    /// Sets switches.
    pub async fn set(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.state.lock().await.faults);
    }

    /// Makes a collection with a primary key `id` and a vector, an index, and these partitions beside `_default`.
    pub async fn add_collection(&self, name: &str, partitions: &[&str], loading: Loading) {
        let partitions: Vec<&str> = ["_default"].iter().chain(partitions).copied().collect();
        self.state.lock().await.make(DATABASE, name, &partitions, loading);
    }

    /// Makes a database with a collection in it.
    pub async fn add_database(&self, database: &str, collection: &str) {
        self.state.lock().await.make(database, collection, &["_default"], Loading::Released);
    }

    /// Makes a change, as another client does.
    pub async fn change(&self, change: &Change) {
        self.state.lock().await.change(DATABASE, change);
    }

    /// Allows fields that the collection's schema doesn't name.
    pub async fn make_dynamic(&self, name: &str) {
        let mut state = self.state.lock().await;
        let collection = state.collection(DATABASE, name).expect("the collection exists");
        collection.schema.enable_dynamic_field = true;
        collection.dynamic = collection.fields().into_iter().max().map(|last| last + 1);
    }

    /// Adds a field that may be null.
    pub async fn add_field(&self, name: &str, field: &str) {
        let mut state = self.state.lock().await;
        let collection = state.collection(DATABASE, name).expect("the collection exists");
        let field = FieldSchema {
            name: field.to_owned(),
            data_type: DataType::Json as i32,
            nullable: true,
            ..Default::default()
        };
        collection.add_field(field);
    }

    /// Drops a field, as 3.0 can.
    pub async fn drop_field(&self, name: &str, field: &str) {
        let mut state = self.state.lock().await;
        let collection = state.collection(DATABASE, name).expect("the collection exists");
        collection.schema.fields.retain(|known| known.name != field);
    }

    /// Inserts rows, which a flush writes to object storage.
    pub async fn insert(&self, name: &str, partition: &str, rows: u64) -> Vec<i64> {
        self.state.lock().await.insert(DATABASE, name, partition, rows)
    }

    /// Deletes the first rows; a flush writes the deletes to object storage.
    pub async fn delete(&self, name: &str, from: DeleteFrom<'_>, rows: usize) {
        let mut state = self.state.lock().await;
        let collection = state.collection(DATABASE, name).expect("the collection exists");
        let partition = match from {
            DeleteFrom::Partition(name) => collection.partition(name),
            DeleteFrom::All => -1,
        };
        let keys = collection.first_keys(partition, rows);
        state.delete(DATABASE, name, partition, &keys);
    }

    /// Deletes rows by their primary keys, in whichever partition they are.
    pub async fn delete_keys(&self, name: &str, keys: &[i64]) {
        self.state.lock().await.delete(DATABASE, name, -1, keys);
    }

    /// Writes everything to object storage, as a server does from time to time.
    pub async fn seal(&self, name: &str) {
        self.state.lock().await.seal(DATABASE, name).await;
    }

    /// Merges the collection's segments into new ones of level L2, as a clustering compaction does. The old ones' files
    /// stay.
    pub async fn cluster(&self, name: &str) {
        self.state.lock().await.compact(DATABASE, name, SegmentLevel::L2).await;
    }

    /// Leaves a log in a flushed segment's folder that isn't in the metadata; returns its key below the root path.
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

    /// Makes an index on a path of a JSON field, with the name that the server gives it.
    pub async fn index_path(&self, name: &str, field: &str, path: &str) {
        let params = service::pairs(&[("index_type", "INVERTED"), ("json_path", path)]);
        let index = Index { field: field.to_owned(), name: format!("{field}{path}"), params };
        self.state.lock().await.collection(DATABASE, name).expect("a collection").indexes.push(index);
    }

    /// The indexes of a collection, by name.
    pub async fn indexes(&self, name: &str) -> Vec<String> {
        let mut state = self.state.lock().await;
        let collection = state.collection(DATABASE, name).expect("a collection");
        collection.indexes.iter().map(|index| index.name.clone()).collect()
    }

    /// The numbers of import jobs that were accepted, and refused because there were too many.
    pub async fn imports(&self) -> (usize, u32) {
        let state = self.state.lock().await;
        (state.imports.len(), state.imports_refused)
    }

    /// The primary keys of the rows that a query finds, by partition; `None` without such a collection.
    pub async fn rows(&self, name: &str) -> Option<BTreeMap<String, BTreeSet<i64>>> {
        let mut state = self.state.lock().await;
        Some(state.collection(DATABASE, name)?.found())
    }

    /// The primary keys of the rows that a query at this moment, a hybrid timestamp, found, from a journal of all that
    /// was ever written; partitions without rows aren't in it.
    pub async fn rows_at(&self, name: &str, moment: u64) -> BTreeMap<String, BTreeSet<i64>> {
        let mut state = self.state.lock().await;
        state.collection(DATABASE, name).expect("the collection exists").rows_at(moment)
    }

    /// A collection's id.
    pub async fn id_of(&self, name: &str) -> i64 {
        self.state.lock().await.collection(DATABASE, name).expect("the collection exists").id
    }

    /// The rows that a query found at the last flush, by partition.
    pub async fn rows_at_flush(&self, name: &str) -> BTreeMap<String, BTreeSet<i64>> {
        let mut state = self.state.lock().await;
        state.collection(DATABASE, name).expect("the collection exists").rows_at_flush.clone()
    }

    /// The collections of tests' database, and whether each is loaded.
    pub async fn collections(&self) -> BTreeMap<String, Loading> {
        let state = self.state.lock().await;
        let loading = |is_loaded| if is_loaded { Loading::Loaded } else { Loading::Released };
        let collections = state.databases.get(DATABASE).into_iter().flatten();
        collections.map(|(name, collection)| (name.clone(), loading(collection.is_loaded))).collect()
    }

    /// Points an alias at a collection; the alias may belong to another one now.
    pub async fn point_alias(&self, alias: &str, name: &str) {
        self.state.lock().await.point_alias(DATABASE, alias, name);
    }

    /// Which collection an alias stands for.
    pub async fn alias(&self, alias: &str) -> Option<String> {
        self.state.lock().await.resolve(DATABASE, alias)
    }

    /// Sets the database's properties.
    pub async fn set_database_property(&self, key: &str, value: &str) {
        let properties = service::pairs(&[(key, value)]);
        self.state.lock().await.database_properties.insert(DATABASE.to_owned(), properties);
    }

    /// Adds or removes a role.
    pub async fn set_roles(&self, roles: &[&str]) {
        let role = |name: &&str| Role { name: (*name).to_owned(), grants: Vec::new() };
        self.state.lock().await.users.roles = roles.iter().map(role).collect();
    }

    /// The roles there are.
    pub async fn roles(&self) -> Vec<String> {
        self.state.lock().await.users.roles.iter().map(|role| role.name.clone()).collect()
    }

    /// A role's grants.
    pub async fn grants(&self, role: &str) -> Vec<Grant> {
        let state = self.state.lock().await;
        state.users.roles.iter().filter(|known| known.name == role).flat_map(|role| role.grants.clone()).collect()
    }

    /// Gives a role a grant.
    pub async fn grant(&self, role: &str, grant: Grant) {
        assert!(self.state.lock().await.users.grant(role, grant), "the role exists");
    }

    /// Revokes all grants of a role.
    pub async fn revoke_all(&self, role: &str) {
        for role in self.state.lock().await.users.roles.iter_mut().filter(|known| known.name == role) {
            role.grants.clear();
        }
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
