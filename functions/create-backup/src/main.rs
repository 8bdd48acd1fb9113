//! Accepts backups, works on them, and verifies finished ones.
#![forbid(unsafe_code)]

use std::process::ExitCode;

// Copies are many small requests: handing them from thread to thread costs more than a second thread gains.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    milvault_runtime::run(create_backup::handle).await
}
