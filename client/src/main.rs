//! `milvault`, the command-line client. See `milvault --help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    milvault_client::main().await
}
