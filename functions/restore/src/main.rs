//! Accepts restores, works on them, and rolls completed ones back.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(restore::handle).await
}
