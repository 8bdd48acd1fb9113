//! The time limits of calls, over gRPC and over HTTP.

use std::time::Duration;

/// The time limit of a call. A longer call has failed, because long operations of Milvus are started and then polled.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(20);
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
