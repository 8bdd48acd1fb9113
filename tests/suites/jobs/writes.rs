//! Backups while a client writes rows and the server sorts and compacts segments.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use milvault_fake_milvus::{FakeMilvus, Line, Loading, Pace};
use milvault_tests::world::{World, available, back_up, back_up_as, captured, content};

/// The pace of a server that does in seconds what a real one does in minutes.
const FAST: Pace = Pace {
    store: Duration::from_millis(300),
    sort: Duration::from_millis(1500),
    level_zero: Duration::from_secs(5),
    mix: Duration::from_secs(8),
};

const BACKUPS: u32 = 10;

/// The most flushes of a backup: a flush is repeated only if a compaction removed rows before segments were listed.
const MOST_FLUSHES: u32 = 4;

/// Inserts 3,000 rows a second, deletes 200, and has everything stored twice a second, forever.
async fn write(fake: &FakeMilvus) {
    let mut turn = tokio::time::interval(Duration::from_millis(20));
    let mut written: VecDeque<i64> = VecDeque::new();
    for number in 0_u64.. {
        turn.tick().await;
        written.extend(fake.insert("items", "_default", 40).await);
        written.extend(fake.insert("items", "new", 20).await);
        if number % 5 == 4 {
            fake.delete_keys("items", &written.drain(..20).collect::<Vec<_>>()).await;
        }
        if number % 25 == 24 {
            fake.seal("items").await;
        }
    }
}

/// Takes [`BACKUPS`] backups in a row, and compares each with the rows at its point in time.
async fn back_up_repeatedly(world: &World) {
    let jobs = world.jobs().await;
    let mut slowest = Duration::ZERO;
    for number in 0..BACKUPS {
        let (began, flushes) = (Instant::now(), world.fake.flushes().await);
        let backup = back_up_as(&jobs, world, &format!("number-{number}")).await;
        slowest = slowest.max(began.elapsed());
        let snapshot = available(&backup);
        assert!(snapshot.completeness.is_complete(), "{:?}", snapshot.completeness);
        let needed = world.fake.flushes().await - flushes;
        assert!(needed <= MOST_FLUSHES, "backup {number} needed {needed} flushes");
        let [capture] = &captured(world, &backup).await[..] else { panic!("one collection") };
        let (found, expected) =
            (content(world, capture).await, world.fake.rows_at("items", capture.flush_timestamp).await);
        for (partition, expected) in &expected {
            let (lost, added) = (expected - &found[partition], &found[partition] - expected);
            assert!(lost.is_empty(), "backup {number} lacks {} of {} rows", lost.len(), expected.len());
            assert!(added.is_empty(), "backup {number} has {} rows too many", added.len());
        }
    }
    assert!(slowest < Duration::from_secs(10), "one took {slowest:?}");
}

async fn backups_under_writes_are_exact(line: Line) {
    let world = World::of(line).await;
    world.fake.add_collection("items", &["new"], Loading::Released).await;
    world.fake.insert("items", "_default", 1_000).await;
    world.fake.set(|faults| faults.pace = Some(FAST)).await;
    tokio::select! {
        () = write(&world.fake) => {}
        () = back_up_repeatedly(&world) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_backups_under_ordinary_writes_are_exact_on_every_line() {
    // The lines run one after the other, because each keeps a machine busy.
    for line in [Line::V2_3, Line::V2_4, Line::V2_5_27, Line::V2_6] {
        println!("{line:?}");
        backups_under_writes_are_exact(line).await;
    }
}

#[tokio::test]
async fn rows_of_a_segment_that_the_flush_did_not_name_are_in_the_backup() {
    for pace in [None, Some(Pace { store: Duration::from_millis(300), ..Pace::REAL }), Some(FAST)] {
        let world = World::of(Line::V2_6).await;
        world.fake.add_collection("items", &[], Loading::Released).await;
        world.fake.insert("items", "_default", 100).await;
        world.fake.set(|faults| (faults.pace, faults.sealed_by_policy) = (pace, 1)).await;
        let backup = back_up(&world.jobs().await, &world).await;
        available(&backup);
        let capture = &captured(&world, &backup).await[0];
        let expected = world.fake.rows_at("items", capture.flush_timestamp).await;
        assert_eq!(expected["_default"].len(), 100);
        assert_eq!(content(&world, capture).await, expected, "{pace:?}");
    }
}
