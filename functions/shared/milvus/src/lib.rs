//! The Milvus adapter: the jobs' [`Milvus`](milvault_jobs::ports::Milvus) port over the server's gRPC protocol.
//!
//! It uses the official client's generated protocol only: its high-level wrappers lack import, the flush's timestamp
//! and the segments.
#![forbid(unsafe_code)]

mod connector;
mod errors;
mod server;

pub use connector::{MilvusConnector, SecretSource};
