//! Tests of backups of every line of Milvus, from the request to AVAILABLE, through the real adapter.

use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;
use futures::future::join_all;
use milvault_fake_milvus::{DeleteFrom, FlushNames, Line, Loading};
use milvault_harness::list_all;
use milvault_model::{Backup, BackupState, FailureCode, Loaded, RowCount, SegmentLevel, StorageVersion};
use milvault_ports::{Bucket, Objects, OnRateLimit};
use milvault_tests::world::{ROOT, World, available, back_up, back_up_as, captured, content, copy_of, name};

async fn keys(objects: &dyn Objects, bucket: &Bucket) -> Vec<String> {
    list_all(objects, bucket, "").await.into_iter().map(|object| object.key).collect()
}

/// The source keys of the logs that the snapshot bucket has copies of, found by content, whatever the copies' keys.
async fn copied(world: &World) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for key in keys(world.objects.as_ref(), &world.snapshots).await {
        let body = world.objects.get(&world.snapshots, &key).await.unwrap().unwrap();
        if let Some((source, _)) = copy_of(&body) {
            assert!(found.insert(source.to_owned()), "the log copied to {key} is stored twice");
        }
    }
    found
}

#[tokio::test]
async fn a_backup_of_every_line_has_exactly_its_insert_and_delta_logs() {
    for line in Line::ALL {
        let world = World::of(line).await;
        world.fake.add_collection("items", &["new"], Loading::Loaded).await;
        world.fake.add_collection("cold", &[], Loading::Released).await;
        world.fake.insert("items", "_default", 100).await;
        world.fake.insert("items", "new", 20).await;
        world.fake.seal("items").await;
        world.fake.delete("items", DeleteFrom::Partition("new"), 5).await;
        world.fake.delete("items", DeleteFrom::All, 2).await;
        world.fake.insert("cold", "_default", 7).await;
        let jobs = world.jobs().await;
        let backup = back_up(&jobs, &world).await;
        let snapshot = available(&backup);

        let expected: BTreeSet<String> = &world.fake.logs("items").await | &world.fake.logs("cold").await;
        assert_eq!(copied(&world).await, expected, "{line:?}");
        assert_eq!(snapshot.totals.objects, expected.len() as u64, "{line:?}");
        assert!(expected.iter().any(|key| key.contains("/-1/")) == line.has_l0());

        assert_eq!(jobs.settings.snapshots.in_region(&backup.region).unwrap(), &world.snapshots);
        let captured = captured(&world, &backup).await;
        let of = |name: &str| captured.iter().find(|collection| collection.name.collection == name).unwrap();
        assert_eq!(of("items").rows, RowCount::Exactly { rows: 113 }, "{line:?}");
        assert_eq!(of("items").loaded, Loaded::Whole { replicas: 1 });
        assert_eq!(of("cold").rows, RowCount::AtMost { rows: 7 });
        let segments = &of("items").segments;
        let deletes = segments.iter().filter(|segment| segment.level == SegmentLevel::L0);
        assert_eq!(deletes.count(), if line.has_l0() { 2 } else { 0 }, "{line:?}");
        let storage = if line == Line::V2_6 { StorageVersion::V2 } else { StorageVersion::V1 };
        assert!(segments.iter().all(|segment| segment.storage == storage));
    }
}

#[tokio::test]
async fn a_backup_from_a_server_that_limits_flushes_has_no_exact_count() {
    // In parallel, because each line waits for its server.
    let lines = Line::ALL.map(async |line| {
        let world = World::of(line).await;
        world.fake.add_collection("items", &[], Loading::Loaded).await;
        world.fake.insert("items", "_default", 100).await;
        world.fake.set(|faults| faults.flush_every = Some(Duration::from_secs(2))).await;
        let jobs = world.jobs().await;
        // The server has just flushed the collection for another client.
        world.milvus().await.flush(&name("items"), OnRateLimit::Wait).await.unwrap();
        let backup = back_up(&jobs, &world).await;
        available(&backup);
        assert_eq!(world.fake.flushes().await, 2, "{line:?}: the other client's and the backup's");
        assert_eq!(captured(&world, &backup).await[0].rows, RowCount::AtMost { rows: 100 });
        assert_eq!(copied(&world).await, world.fake.logs("items").await);
    });
    join_all(lines).await;
}

#[tokio::test]
async fn rows_that_a_compaction_removed_before_the_segments_were_listed_lead_to_another_flush() {
    for line in Line::ALL {
        let world = World::of(line).await;
        world.fake.add_collection("items", &[], Loading::Released).await;
        world.fake.insert("items", "_default", 60).await;
        world.fake.seal("items").await;
        world.fake.insert("items", "_default", 40).await;
        world.fake.delete("items", DeleteFrom::Partition("_default"), 10).await;
        world.fake.set(|faults| faults.compact_after_flush = 2).await;
        let backup = back_up(&world.jobs().await, &world).await;
        available(&backup);
        // The missing rows might have been deleted after the first flush.
        assert_eq!(world.fake.flushes().await, 2, "{line:?}");
        assert_eq!(copied(&world).await, world.fake.logs("items").await, "{line:?}");
        has_the_rows_of_its_moment(&world, &backup).await;
    }
}

/// Checks that a backup of the collection has exactly its rows at the point in time.
async fn has_the_rows_of_its_moment(world: &World, backup: &Backup) {
    let [capture] = &captured(world, backup).await[..] else {
        panic!("the backup doesn't have exactly one collection")
    };
    let expected = world.fake.rows_at("items", capture.flush_timestamp).await;
    assert_eq!(content(world, capture).await, expected, "{}", backup.id);
}

#[tokio::test]
async fn a_server_that_compacts_after_every_flush_is_backed_up() {
    for line in Line::ALL {
        let world = World::of(line).await;
        world.fake.add_collection("items", &[], Loading::Released).await;
        world.fake.insert("items", "_default", 60).await;
        world.fake.set(|faults| faults.compact_after_flush = u32::MAX).await;
        let backup = back_up(&world.jobs().await, &world).await;
        available(&backup);
        assert_eq!(copied(&world).await, world.fake.logs("items").await, "{line:?}");
        has_the_rows_of_its_moment(&world, &backup).await;
    }
}

#[tokio::test]
async fn a_log_that_vanishes_before_it_is_copied_leads_to_another_flush() {
    for line in Line::ALL {
        let world = World::of(line).await;
        world.fake.add_collection("items", &[], Loading::Released).await;
        world.fake.insert("items", "_default", 60).await;
        world.fake.delete("items", DeleteFrom::All, 10).await;
        world.fake.set(|faults| faults.collect_after_listing = 1).await;
        let backup = back_up(&world.jobs().await, &world).await;
        available(&backup);
        assert!(world.fake.flushes().await >= 2, "{line:?}");
        assert_eq!(copied(&world).await, world.fake.logs("items").await, "{line:?}");
    }
}

#[tokio::test]
async fn deletes_that_were_collected_before_the_rows_that_they_delete_lead_to_another_flush() {
    for line in Line::ALL {
        let world = World::of(line).await;
        world.fake.add_collection("items", &[], Loading::Released).await;
        world.fake.insert("items", "_default", 60).await;
        world.fake.seal("items").await;
        world.fake.delete("items", DeleteFrom::All, 10).await;
        world.fake.set(|faults| faults.collect_deletes_after_flush = 1).await;
        let backup = back_up(&world.jobs().await, &world).await;
        assert_eq!(world.fake.rows("items").await.unwrap()["_default"].len(), 50, "{line:?}");
        has_the_rows_of_its_moment(&world, &backup).await;
    }
}

#[tokio::test]
async fn logs_that_keep_vanishing_fail_the_backup_with_the_name_of_the_collection() {
    let world = World::of(Line::V2_6).await;
    world.fake.add_collection("items", &[], Loading::Released).await;
    world.fake.insert("items", "_default", 60).await;
    world.fake.set(|faults| faults.collect_after_listing = u32::MAX).await;
    let mut jobs = world.jobs().await;
    jobs.settings.stall = TimeDelta::seconds(3);
    let backup = back_up(&jobs, &world).await;
    let BackupState::Failed { failure, .. } = &backup.state else { panic!("{:?}", backup.state) };
    assert_eq!(failure.code, FailureCode::SourceChanged);
    assert!(failure.message.contains("default.items"), "{}", failure.message);
}

#[tokio::test]
async fn segments_of_a_clustering_compaction_are_captured_whether_a_flush_names_them_or_not() {
    for (line, names) in [
        (Line::V2_4, FlushNames::L1Only),
        (Line::V2_4, FlushNames::All),
        (Line::V2_5_8, FlushNames::All),
        (Line::V2_6, FlushNames::All),
    ] {
        let world = World::of(line).await;
        world.fake.set(|faults| faults.flush_names = names).await;
        world.fake.add_collection("items", &[], Loading::Released).await;
        world.fake.insert("items", "_default", 60).await;
        world.fake.seal("items").await;
        world.fake.cluster("items").await;
        world.fake.insert("items", "_default", 5).await;
        let jobs = world.jobs().await;
        let backup = back_up(&jobs, &world).await;
        available(&backup);
        assert_eq!(copied(&world).await, world.fake.logs("items").await, "{line:?}");
        assert_eq!(captured(&world, &backup).await[0].rows, RowCount::AtMost { rows: 65 });
    }
}

#[tokio::test]
async fn a_storage_version_that_cannot_be_imported_fails_the_backup_with_that_version() {
    let world = World::of(Line::V2_6).await;
    world.fake.add_collection("items", &[], Loading::Released).await;
    world.fake.insert("items", "_default", 60).await;
    world.fake.set(|faults| faults.storage_version = Some(3)).await;
    let backup = back_up(&world.jobs().await, &world).await;
    let BackupState::Failed { failure, .. } = &backup.state else { panic!("{:?}", backup.state) };
    assert_eq!(failure.code, FailureCode::EngineVersionUnsupported);
    assert!(failure.message.contains("storage version 3"), "{}", failure.message);
}

#[tokio::test]
async fn a_collection_whose_load_failed_or_whose_replicas_cannot_be_reached_is_in_the_backup() {
    for line in [Line::V2_3, Line::V2_5_27] {
        let world = World::of(line).await;
        world.fake.add_collection("cold", &[], Loading::Released).await;
        world.fake.add_collection("items", &[], Loading::Loaded).await;
        world.fake.insert("items", "_default", 100).await;
        // One collection's load failed for lack of memory, or because a node didn't answer; the other's shards have no
        // leader.
        for code in [3, 65535] {
            world.fake.set(|faults| (faults.load_failed, faults.replicas_fail) = (Some(code), Some(503))).await;
            let jobs = world.jobs().await;
            let backup = back_up_as(&jobs, &world, &format!("code-{code}")).await;
            assert!(available(&backup).completeness.is_complete(), "{line:?}");
            let captured = captured(&world, &backup).await;
            let loaded: Vec<&Loaded> = captured.iter().map(|collection| &collection.loaded).collect();
            assert_eq!(loaded, [&Loaded::No, &Loaded::Whole { replicas: 1 }], "{line:?}");
        }
    }
}

#[tokio::test]
async fn a_backup_waits_for_a_server_that_is_starting() {
    let lines = Line::ALL.map(async |line| {
        let world = World::of(line).await;
        world.fake.add_collection("items", &[], Loading::Loaded).await;
        world.fake.insert("items", "_default", 10).await;
        world.fake.set(|faults| faults.not_ready = 3).await;
        let backup = back_up(&world.jobs().await, &world).await;
        available(&backup);
        assert_eq!(copied(&world).await, world.fake.logs("items").await, "{line:?}");
    });
    join_all(lines).await;
}

#[tokio::test]
async fn a_second_backup_reuses_the_objects_of_the_first() {
    for line in Line::ALL {
        let world = World::of(line).await;
        world.fake.add_collection("items", &[], Loading::Released).await;
        world.fake.insert("items", "_default", 10).await;
        let jobs = world.jobs().await;
        let first = back_up(&jobs, &world).await;
        world.fake.delete("items", DeleteFrom::All, 1).await;
        let found = back_up_as(&jobs, &world, "later").await;
        let (before, after) = (available(&first).totals, available(&found).totals);
        // Only the log of the deletes is new.
        assert_eq!(after.objects, before.objects + 1, "{line:?}");
        assert_eq!(after.size_bytes - before.size_bytes, after.added_bytes, "{line:?}");
        let source = keys(world.objects.as_ref(), &world.data).await;
        assert!(source.iter().all(|key| key.starts_with(ROOT)));
    }
}
