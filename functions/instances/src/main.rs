//! Registers Milvus instances, and checks whether they can be backed up.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    milvault_runtime::run(instances::handle).await
}
