//! Accepts backups, works on them, and verifies finished ones.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(create_backup::handle).await
}
