//! The usage function's binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: milvault_runtime::Allocator = milvault_runtime::Allocator;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(usage::handle).await
}
