//! The adapters in memory keep what the ports promise: only then is a test that runs on them worth anything.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use milvault_memory::{MemoryCatalog, MemoryObjects, TestClock};
use milvault_ports::{Bucket, LockMode, Locking};
use milvault_tests::conformance::{
    Case,
    catalog::{self, CatalogFixture},
    objects::{self, ObjectsFixture},
    run,
};

async fn all_are_kept<F>(cases: &[Case<F>], fixture: &F) {
    let mut broken = Vec::new();
    for case in cases {
        let report = run(case, fixture, &[]).await;
        if !report.is_fine() {
            broken.push(report);
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[tokio::test]
async fn the_catalog_in_memory_keeps_every_promise() {
    let catalog = Arc::new(MemoryCatalog::new());
    all_are_kept(catalog::CASES, &CatalogFixture::new(catalog, 1)).await;
}

#[tokio::test]
async fn object_storage_in_memory_keeps_every_promise() {
    let bucket = |name: &str| Bucket { region: "eu-west-1".parse().unwrap(), name: name.to_owned() };
    let (source, destination, locked) = (bucket("source"), bucket("destination"), bucket("locked"));
    let objects = Arc::new(MemoryObjects::new([&source, &destination, &locked]));
    let a_day = Locking { mode: LockMode::Governance, period: TimeDelta::days(1) };
    objects.lock_new(&locked, a_day, Arc::new(TestClock::new(Utc::now())));
    let (missing, prefix) = (bucket("missing"), "run".to_owned());
    let fixture = ObjectsFixture { objects, source, destination, locked, missing, prefix };
    all_are_kept(objects::CASES, &fixture).await;
}
