//! Deletes backups, and cancels what is still running.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(delete::handle).await
}
