//! Automatic backups of an instance: when, and for how long they are kept.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(auto_backup::handle).await
}
