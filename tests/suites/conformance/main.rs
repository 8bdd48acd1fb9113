//! The adapters in memory keep the promises of the ports, which the tests that use them rely on.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use milvault_harness::conformance::{
    Case,
    catalog::{self, CatalogFixture},
    objects::{self, ObjectsFixture},
    run,
};
use milvault_harness::{MemoryCatalog, MemoryObjects, TestClock, bucket};
use milvault_ports::{LockMode, Locking};

async fn all_are_kept<F: 'static>(cases: impl IntoIterator<Item = &'static Case<F>>, fixture: &F) {
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
    all_are_kept(catalog::cases(), &CatalogFixture::new(catalog, 1)).await;
}

#[tokio::test]
async fn object_storage_in_memory_keeps_every_promise() {
    let (source, destination, locked) = (bucket("source"), bucket("destination"), bucket("locked"));
    let objects = Arc::new(MemoryObjects::new([&source, &destination, &locked]));
    let a_day = Locking { mode: LockMode::Governance, period: TimeDelta::days(1) };
    objects.lock_new(&locked, a_day, Arc::new(TestClock::new(Utc::now())));
    let (missing, prefix) = (bucket("missing"), "run".to_owned());
    let fixture = ObjectsFixture { objects, source, destination, locked, missing, prefix };
    all_are_kept(objects::CASES, &fixture).await;
}
