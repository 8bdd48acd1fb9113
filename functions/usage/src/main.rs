//! The usage function's binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(usage::handle).await
}
