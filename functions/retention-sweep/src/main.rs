//! Deletes what has expired and drives on what stands still.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(retention_sweep::handle).await
}
