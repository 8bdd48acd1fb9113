//! The auto-backup function's binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(auto_backup::handle).await
}
