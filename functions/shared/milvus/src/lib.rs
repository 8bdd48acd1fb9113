//! The Milvus adapter: the jobs' [`Milvus`](milvault_ports::Milvus) port over the server's gRPC protocol.
//!
//! What gRPC doesn't offer goes over HTTP: a segment's files over the REST API, on the same port, and the garbage
//! collection over the management endpoint. It uses the official client's generated protocol only: its high-level wrappers lack import, the flush's timestamp
//! and the segments.
#![forbid(unsafe_code)]

mod access;
mod authorized;
mod connector;
mod credentials;
mod errors;
mod imports;
mod principal;
mod resolver;
mod rest;
mod server;

pub use connector::MilvusConnector;
pub use credentials::{SecretError, SecretSource};
