//! The retention-sweep function's binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(retention_sweep::handle).await
}
