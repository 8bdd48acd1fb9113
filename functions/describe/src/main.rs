//! Describes one backup or one restore with its collections.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(describe::handle).await
}
