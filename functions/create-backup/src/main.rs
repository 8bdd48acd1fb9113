//! The create-backup function's binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: milvault_runtime::Allocator = milvault_runtime::Allocator;

// Copies are many small requests: passing them between threads costs more than a second thread gains.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    milvault_runtime::run(create_backup::handle).await
}
