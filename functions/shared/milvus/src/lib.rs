//! The Milvus adapter: the jobs' [`Milvus`](milvault_ports::Milvus) port over the server's gRPC protocol.
//!
//! Operations that gRPC doesn't offer use HTTP: a segment's files come from the REST API, on the same port, and the
//! garbage collection is controlled through the management endpoint. Only the official client's generated protocol is
//! used, because its high-level wrappers lack imports, the flush's timestamp and the segments.
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
mod timeouts;

pub use connector::MilvusConnector;
pub use credentials::{SecretError, SecretSource};
