//! The list function's binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(list::handle).await
}
