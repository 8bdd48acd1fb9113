//! A fake Milvus as a process, for the end-to-end tests: reports the version that it is given, says where it is, and runs
//! until its standard input ends.
#![allow(clippy::expect_used)]

use std::{io::Read, sync::Arc};

use milvault_fake_milvus::{DataBucket, FakeMilvus, Line};
use milvault_harness::{MemoryObjects, bucket};

#[tokio::main]
async fn main() {
    let version = std::env::args().nth(1).expect("the version to report");
    let bucket = bucket("data");
    let objects = Arc::new(MemoryObjects::new([&bucket]));
    let fake = FakeMilvus::start(Line::V2_4, DataBucket { objects, bucket, root: "files".to_owned() }).await;
    fake.set(|faults| faults.version = Some(version)).await;
    println!("{} {}", fake.endpoint(), fake.management());
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    end.await.expect("a thread").expect("standard input can be read");
}
