//! The Milvus adapter against each line.

use std::{collections::BTreeSet, time::Duration};

use milvault_fake_milvus::{Access, DeleteFrom, FakeMilvus, Garbage, Line, Loading, RootPassword};
use milvault_model::{Capabilities, Capability, Loaded, SegmentLevel, StorageVersion};
use milvault_ports::{GarbageHold, MilvusError, OnRateLimit, Segment, SegmentFiles};
use milvault_tests::world::{World, name};

async fn with_rows(line: Line, loading: Loading) -> World {
    let world = World::of(line).await;
    world.fake.add_collection("items", &["new"], loading).await;
    world.fake.insert("items", "_default", 100).await;
    world.fake.insert("items", "new", 20).await;
    world
}

fn ids(segments: &[Segment], level: SegmentLevel) -> BTreeSet<i64> {
    segments.iter().filter(|segment| segment.level == level).map(|segment| segment.id).collect()
}

#[tokio::test]
async fn the_capabilities_of_each_line_match_its_server() {
    for line in Line::ALL {
        let version = World::of(line).await.milvus().await.version().await.unwrap();
        let capabilities = Capabilities::for_reported_version(&version);
        for (capability, expected) in
            [(Capability::SegmentFiles, line.has_segment_files()), (Capability::StorageV2, line.storage_version() == 2)]
        {
            assert_eq!(capabilities.has(capability), expected, "{version} {capability:?}");
        }
    }
}

#[tokio::test]
async fn a_collection_is_described_on_every_line() {
    for line in Line::ALL {
        let world = with_rows(line, Loading::Loaded).await;
        let milvus = world.milvus().await;
        assert_eq!(milvus.databases().await.unwrap(), ["default"]);
        let collections = milvus.collections("default").await.unwrap();
        let described = milvus.describe(&name("items")).await.unwrap();
        assert_eq!(collections, [("items".to_owned(), described.id)]);
        assert_eq!(milvus.collection_id(&name("items")).await.unwrap(), Some(described.id));
        assert_eq!(described.primary_key, "id");
        let partitions: Vec<&str> = described.partitions.iter().map(|partition| partition.name.as_str()).collect();
        assert_eq!(partitions, ["_default", "new"]);
        assert_eq!(described.indexes.len(), 1);
        assert_eq!(described.loaded, Loaded::Whole { replicas: 1 });
        assert_eq!(milvus.count(&name("items")).await.unwrap(), 120);
        assert!(matches!(milvus.describe(&name("none")).await, Err(MilvusError::NoCollection(_))));
    }
}

#[tokio::test]
async fn a_flush_brings_rows_and_deletes_to_object_storage_and_names_the_segments_with_rows() {
    for line in Line::ALL {
        let world = with_rows(line, Loading::Released).await;
        let milvus = world.milvus().await;
        world.fake.delete("items", DeleteFrom::Partition("new"), 3).await;
        let flushed = milvus.flush(&name("items"), OnRateLimit::Wait).await.unwrap();
        assert!(!milvus.is_flushed(&name("items"), &flushed).await.unwrap(), "{line:?}: it takes a moment");
        assert!(milvus.is_flushed(&name("items"), &flushed).await.unwrap(), "{line:?}");
        let segments = milvus.segments(&name("items")).await.unwrap();
        assert!(segments.iter().all(|segment| segment.is_flushed), "{line:?}");
        assert_eq!(ids(&segments, SegmentLevel::Data), flushed.named().collect(), "{line:?}");
        let rows: u64 = segments.iter().map(|segment| segment.rows).sum();
        assert_eq!(rows, 120);
        let deletes = ids(&segments, SegmentLevel::L0);
        assert_eq!(deletes.len(), usize::from(line.has_l0()), "{line:?}");
        let storage = if line == Line::V2_6 { StorageVersion::V2 } else { StorageVersion::V1 };
        assert!(segments.iter().all(|segment| segment.storage == storage), "{line:?}");
        // A segment that was flushed before is named again, with a later timestamp.
        let again = milvus.flush(&name("items"), OnRateLimit::Wait).await.unwrap();
        assert_eq!(again.named().count(), 2);
        assert!(again.timestamp > flushed.timestamp);
    }
}

#[tokio::test]
async fn deletes_in_all_partitions_are_a_segment_of_no_partition() {
    let world = with_rows(Line::V2_4, Loading::Released).await;
    let milvus = world.milvus().await;
    world.fake.delete("items", DeleteFrom::All, 5).await;
    milvus.flush(&name("items"), OnRateLimit::Wait).await.unwrap();
    let segments = milvus.segments(&name("items")).await.unwrap();
    let deletes = segments.iter().find(|segment| segment.level == SegmentLevel::L0).unwrap();
    assert_eq!(deletes.partition_id, -1);
}

#[tokio::test]
async fn a_rate_limited_flush_is_repeated_or_given_up_as_the_caller_chooses() {
    let world = with_rows(Line::V2_5_4, Loading::Released).await;
    let milvus = world.milvus().await;
    world.fake.set(|faults| faults.flush_every = Some(Duration::from_millis(600))).await;
    milvus.flush(&name("items"), OnRateLimit::GiveUp).await.unwrap();
    let given_up = milvus.flush(&name("items"), OnRateLimit::GiveUp).await;
    assert!(matches!(given_up, Err(MilvusError::RateLimited(_))), "{given_up:?}");
    milvus.flush(&name("items"), OnRateLimit::Wait).await.unwrap();
    assert_eq!(world.fake.flushes().await, 2);
}

#[tokio::test]
async fn a_segment_that_is_dropped_while_segments_are_listed_is_not_an_error() {
    for line in Line::ALL {
        let world = with_rows(line, Loading::Released).await;
        world.fake.seal("items").await;
        world.fake.set(|faults| faults.segment_lost_while_listing = 2).await;
        assert_eq!(world.milvus().await.segments(&name("items")).await.unwrap().len(), 2, "{line:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_a_temporary_error() {
    for line in Line::ALL {
        let world = with_rows(line, Loading::Released).await;
        world.fake.set(|faults| faults.not_ready = 1).await;
        let milvus = world.milvus().await;
        assert!(matches!(milvus.databases().await, Err(MilvusError::Unreachable(_))), "{line:?}");
        assert_eq!(milvus.databases().await.unwrap(), ["default"]);
    }
}

/// The keys, below the root path, of segment files.
fn keys(collection: i64, segments: &[Segment], files: &[SegmentFiles]) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for files in files {
        let partition = segments.iter().find(|segment| segment.id == files.segment).unwrap().partition_id;
        let place = format!("{collection}/{partition}/{}", files.segment);
        keys.extend(files.insert_logs.iter().map(|log| format!("insert_log/{place}/{}/{}", log.folder, log.log)));
        keys.extend(files.delta_logs.iter().map(|log| format!("delta_log/{place}/{log}")));
    }
    keys
}

#[tokio::test]
async fn segment_files_are_those_of_the_metadata_without_what_is_left_from_other_writes() {
    for line in Line::ALL {
        let world = with_rows(line, Loading::Released).await;
        world.fake.delete("items", DeleteFrom::All, 3).await;
        world.fake.seal("items").await;
        let orphan = world.fake.add_orphan("items").await;
        let milvus = world.milvus().await;
        let segments = milvus.segments(&name("items")).await.unwrap();
        let asked: Vec<i64> = segments.iter().map(|segment| segment.id).collect();
        let collection = milvus.describe(&name("items")).await.unwrap().id;
        let files = milvus.segment_files("default", collection, &asked).await.unwrap();
        assert_eq!(files.is_some(), line >= Line::V2_5_8, "{line:?}");
        if let Some(files) = files {
            let keys = keys(collection, &segments, &files);
            assert_eq!(keys, world.fake.logs("items").await, "{line:?}");
            assert!(!keys.contains(&orphan));
        }
    }
}

#[tokio::test]
async fn the_files_of_a_dropped_segment_are_left_out_of_the_answer() {
    let world = with_rows(Line::V2_5_8, Loading::Released).await;
    world.fake.seal("items").await;
    let milvus = world.milvus().await;
    let collection = milvus.describe(&name("items")).await.unwrap().id;
    let known: Vec<i64> = milvus.segments(&name("items")).await.unwrap().iter().map(|segment| segment.id).collect();
    let mut asked: Vec<i64> = (1..150).collect();
    asked.extend(&known);
    let files = milvus.segment_files("default", collection, &asked).await.unwrap().unwrap();
    let told: BTreeSet<i64> = files.iter().map(|files| files.segment).collect();
    assert_eq!(told, known.into_iter().collect());
    assert!(milvus.segment_files("default", collection, &[]).await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn garbage_collection_is_held_and_released_where_the_server_offers_it() {
    for line in Line::ALL {
        let world = World::of(line).await;
        let milvus = world.milvus().await;
        let hold = milvus.hold_garbage(Duration::from_secs(600)).await.unwrap();
        match line.garbage() {
            Garbage::Unknown => assert_eq!(hold, GarbageHold::NotOffered),
            Garbage::Shared => assert_eq!(hold, GarbageHold::Held { ticket: None }),
            Garbage::Ticketed => assert!(matches!(hold, GarbageHold::Held { ticket: Some(_) })),
        }
        let offered = usize::from(hold != GarbageHold::NotOffered);
        assert_eq!(world.fake.holds().await, offered, "{line:?}");
        milvus.release_garbage(&hold).await.unwrap();
        assert_eq!(world.fake.holds().await, 0, "{line:?}");
    }
}

#[tokio::test]
async fn a_hold_with_a_ticket_is_renewed_with_a_new_ticket_and_ended_on_any_connection() {
    let world = World::of(Line::V2_6).await;
    let milvus = world.milvus().await;
    let first = milvus.hold_garbage(Duration::from_secs(600)).await.unwrap();
    let second = milvus.hold_garbage(Duration::from_secs(600)).await.unwrap();
    milvus.release_garbage(&first).await.unwrap();
    assert_eq!(world.fake.holds().await, 1);
    world.milvus().await.release_garbage(&second).await.unwrap();
    assert_eq!(world.fake.holds().await, 0);
}

#[tokio::test]
async fn without_a_management_endpoint_no_hold_is_offered_and_a_silent_one_is_unreachable() {
    let mut world = World::of(Line::V2_5_4).await;
    world.instance.management_endpoint = None;
    let hold = world.milvus().await.hold_garbage(Duration::from_secs(60)).await.unwrap();
    assert_eq!(hold, GarbageHold::NotOffered);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.instance.management_endpoint = Some(format!("http://{silent}"));
    let refused = world.milvus().await.hold_garbage(Duration::from_secs(60)).await;
    assert!(matches!(refused, Err(MilvusError::Unreachable(_))), "{refused:?}");
}

const ROOT_SECRET: &str = r#"{"username":"root","password":"Milvus"}"#;

#[tokio::test]
async fn a_management_endpoint_that_wants_a_password_gets_it() {
    let lock = async |fake: &FakeMilvus| {
        fake.set(|faults| faults.management_is_locked = Some(RootPassword("Milvus".to_owned()))).await;
    };
    let world = World::with(Line::V2_6, Access::Open, Some(ROOT_SECRET)).await;
    lock(&world.fake).await;
    let hold = world.milvus().await.hold_garbage(Duration::from_secs(60)).await.unwrap();
    assert!(matches!(hold, GarbageHold::Held { .. }));
    // The same server under another name, which could be another server's.
    let mut elsewhere = World::with(Line::V2_6, Access::Open, Some(ROOT_SECRET)).await;
    lock(&elsewhere.fake).await;
    elsewhere.instance.management_endpoint = Some(elsewhere.fake.management().replace("127.0.0.1", "localhost"));
    let refused = elsewhere.milvus().await.hold_garbage(Duration::from_secs(60)).await;
    assert!(matches!(refused, Err(MilvusError::Unauthenticated(_))), "{refused:?}");
    let stranger = World::of(Line::V2_6).await;
    lock(&stranger.fake).await;
    let refused = stranger.milvus().await.hold_garbage(Duration::from_secs(60)).await;
    assert!(matches!(refused, Err(MilvusError::Unauthenticated(_))), "{refused:?}");
}

#[tokio::test]
async fn credentials_are_sent_over_grpc_and_rest() {
    for (token, secret) in [("root:Milvus", ROOT_SECRET), ("an-api-key", r#"{"token":"an-api-key"}"#)] {
        let access = || Access::Token(token.to_owned());
        let world = World::with(Line::V2_5_8, access(), Some(secret)).await;
        world.fake.add_collection("items", &[], Loading::Released).await;
        world.fake.insert("items", "_default", 1).await;
        world.fake.seal("items").await;
        let milvus = world.milvus().await;
        let segments = milvus.segments(&name("items")).await.unwrap();
        let files = milvus.segment_files("default", segments[0].collection_id, &[segments[0].id]).await.unwrap();
        assert_eq!(files.map(|files| files.len()), Some(1), "{token}");
        let stranger = World::with(Line::V2_5_8, access(), None).await;
        let refused = stranger.milvus().await.version().await;
        assert!(matches!(refused, Err(MilvusError::Unauthenticated(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_server_tells_its_own_time() {
    let world = World::of(Line::V2_4).await;
    let milvus = world.milvus().await;
    let apart = async || (milvus.clock().await.unwrap().unwrap() - chrono::Utc::now()).num_seconds();
    assert!(apart().await.abs() < 30);
    world.fake.set(|faults| faults.clock_ahead = 3_600_000).await;
    assert!((3_570..=3_630).contains(&apart().await));
}
