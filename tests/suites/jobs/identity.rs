//! Tests of collections that are dropped, recreated, renamed or hidden while a backup runs.

use std::{collections::BTreeMap, time::Instant};

use chrono::TimeDelta;
use milvault_fake_milvus::{Change, FakeMilvus, Line, Loading};
use milvault_model::{Backup, BackupState, CollectionCapture, Completeness};
use milvault_tests::world::{World, available, back_up, back_up_only, captured, content};

const ROWS: [(&str, u64); 3] = [("a", 10), ("b", 20), ("c", 30)];

async fn with_collections(line: Line) -> World {
    let world = World::of(line).await;
    for (name, rows) in ROWS {
        world.fake.add_collection(name, &[], Loading::Released).await;
        world.fake.insert(name, "_default", rows).await;
    }
    world
}

/// The ids of the server's collections, by name.
async fn ids(fake: &FakeMilvus) -> BTreeMap<String, i64> {
    let mut ids = BTreeMap::new();
    for name in fake.collections().await.into_keys() {
        let id = fake.id_of(&name).await;
        ids.insert(name, id);
    }
    ids
}

/// Checks that the backup is complete and has each of the server's collections, with its name, its id and exactly its rows.
async fn assert_same_as_server(world: &World, backup: &Backup, what: &Change) -> Vec<CollectionCapture> {
    let snapshot = available(backup);
    assert_eq!(snapshot.completeness, Completeness::Complete, "{what:?}");
    let captures = captured(world, backup).await;
    let names = captures.iter().map(|capture| (capture.name.collection.clone(), capture.id)).collect();
    assert_eq!(ids(&world.fake).await, names, "{what:?}");
    for capture in &captures {
        let expected = world.fake.rows_at(&capture.name.collection, capture.flush_timestamp).await;
        assert_eq!(content(world, capture).await, expected, "{what:?}: {}", capture.name);
        assert!(!expected.is_empty() && capture.size_bytes > 0, "{what:?}: {}", capture.name);
    }
    captures
}

fn named(one: &str, other: &str) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

#[tokio::test]
async fn collections_that_are_dropped_recreated_or_renamed_between_survey_and_flush_are_captured_under_their_ids() {
    let rename = |(from, to)| Change::Rename(from, to);
    let swap = |(one, other)| Change::Swap(one, other);
    for line in [Line::V2_3, Line::V2_5_27] {
        for change in [
            Change::Drop("b".to_owned()),
            Change::Recreate("b".to_owned(), 7),
            rename(named("b", "z")),
            swap(named("b", "c")),
        ] {
            let world = with_collections(line).await;
            world.fake.set(|faults| faults.before_flush = vec![change.clone()]).await;
            let backup = back_up(&world.jobs().await, &world).await;
            assert_same_as_server(&world, &backup, &change).await;
        }
    }
}

#[tokio::test]
async fn a_database_that_is_dropped_during_a_backup_leaves_it_complete() {
    for line in [Line::V2_3, Line::V2_5_27] {
        let world = with_collections(line).await;
        world.fake.add_database("other", "d").await;
        let change = Change::DropDatabase("other".to_owned());
        world.fake.set(|faults| faults.before_flush = vec![change.clone()]).await;
        let backup = back_up(&world.jobs().await, &world).await;
        assert_same_as_server(&world, &backup, &change).await;
    }
}

#[tokio::test]
async fn a_collection_that_is_dropped_after_its_flush_is_backed_up_from_its_files() {
    let world = with_collections(Line::V2_5_27).await;
    let (id, expected) = (world.fake.id_of("b").await, world.fake.rows_at("b", u64::MAX).await);
    world.fake.set(|faults| faults.before_files = vec![Change::Drop("b".to_owned())]).await;
    let backup = back_up(&world.jobs().await, &world).await;
    available(&backup);
    let captures = captured(&world, &backup).await;
    assert_eq!(captures.len(), ROWS.len());
    let dropped = captures.iter().find(|capture| capture.id == id).unwrap();
    assert_eq!(content(&world, dropped).await, expected);
}

#[tokio::test]
async fn a_collection_that_is_dropped_as_its_flush_ends_does_not_affect_the_others() {
    for line in [Line::V2_3, Line::V2_5_27] {
        let world = with_collections(line).await;
        let change = Change::Drop("b".to_owned());
        world.fake.set(|faults| faults.after_flush = vec![change.clone()]).await;
        let backup = back_up(&world.jobs().await, &world).await;
        available(&backup);
        let captures = captured(&world, &backup).await;
        for name in ["a", "c"] {
            let capture = captures.iter().find(|capture| capture.name.collection == name).unwrap();
            let expected = world.fake.rows_at(name, capture.flush_timestamp).await;
            assert_eq!(content(&world, capture).await, expected, "{line:?} {name}");
        }
    }
}

/// A world with a collection that the server lists, but doesn't find under its name.
async fn with_a_hidden_collection() -> World {
    let world = with_collections(Line::V2_3).await;
    world.fake.add_collection("old", &[], Loading::Released).await;
    world.fake.point_alias("hidden", "old").await;
    world.fake.change(&Change::Drop("old".to_owned())).await;
    world.fake.add_collection("hidden", &[], Loading::Released).await;
    world
}

#[tokio::test]
async fn a_collection_that_cannot_be_described_is_left_out_and_named() {
    let world = with_a_hidden_collection().await;
    let backup = back_up(&world.jobs().await, &world).await;
    let Completeness::Incomplete { reasons } = &available(&backup).completeness else { panic!("{:?}", backup.state) };
    assert!(reasons.iter().any(|reason| reason.contains("default.hidden")), "{reasons:?}");
    let names: Vec<String> = captured(&world, &backup).await.into_iter().map(|c| c.name.collection).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_backup_that_selects_a_collection_that_cannot_be_described_fails_at_once() {
    let world = with_a_hidden_collection().await;
    let began = Instant::now();
    let backup = back_up_only(&world.jobs().await, &world, &["default.hidden", "default.a"]).await;
    let BackupState::Failed { failure, .. } = &backup.state else { panic!("{:?}", backup.state) };
    assert!(failure.message.contains("default.hidden"), "{}", failure.message);
    assert!(began.elapsed().as_secs() < 45, "{:?}", began.elapsed());
}

#[tokio::test]
async fn only_the_collection_whose_flush_does_not_end_is_left_out() {
    let world = with_collections(Line::V2_5_27).await;
    world.fake.set(|faults| faults.never_flushed = Some("b".to_owned())).await;
    let mut jobs = world.jobs().await;
    jobs.settings.stall = TimeDelta::seconds(3);
    let backup = back_up(&jobs, &world).await;
    let Completeness::Incomplete { reasons } = &available(&backup).completeness else { panic!("{:?}", backup.state) };
    assert!(reasons.iter().any(|reason| reason.contains("default.b")), "{reasons:?}");
    let names: Vec<String> = captured(&world, &backup).await.into_iter().map(|c| c.name.collection).collect();
    assert_eq!(names, ["a", "c"]);
}
