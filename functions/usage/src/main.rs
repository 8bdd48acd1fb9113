//! Meters what snapshots cost, tells it, and writes it out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(usage::handle).await
}
