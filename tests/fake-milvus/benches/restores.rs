//! `make bench`: how long a restore of many partitions takes beside what the server alone needs for its import jobs.
//!
//! The server is the fake, at the pace of real ones: 2.5.27 takes 15 s for a job whatever its size, and does 16 of them side
//! by side; 2.3.5 takes 2 s, and does one after the other.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a benchmark that surprises has failed")]

use std::time::{Duration, Instant};

use milvault_fake_milvus::{ImportPace, Line, Loading};
use milvault_model::RestoreState;
use milvault_tests::world::{World, back_up, restore};
use tokio::runtime::Builder;

fn main() {
    let measured = async {
        tokio::join!(
            measure(Line::V2_5_27, 1_024, ImportPace { job: Duration::from_secs(15), side_by_side: 16, most: 1_024 }),
            measure(Line::V2_3, 256, ImportPace { job: Duration::from_secs(2), side_by_side: 1, most: 65_536 }),
        )
    };
    let (newer, older) = Builder::new_multi_thread().enable_all().build().unwrap().block_on(measured);
    println!("A restore of one collection, one import job for each partition:");
    println!("| Milvus | partitions | server alone | restore | ratio |");
    println!("|---|---:|---:|---:|---:|");
    for Measured { line, partitions, alone, took } in [newer, older] {
        let ratio = took.as_secs_f64() / alone.as_secs_f64();
        println!("| {line:?} | {partitions} | {} s | {} s | {ratio:.2} |", alone.as_secs(), took.as_secs());
    }
}

struct Measured {
    line: Line,
    partitions: u32,
    /// The time of the jobs alone, if the server is never idle.
    alone: Duration,
    took: Duration,
}

async fn measure(line: Line, partitions: u32, pace: ImportPace) -> Measured {
    let world = World::of(line).await;
    let names: Vec<String> = (0..partitions).map(|number| format!("p{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.fake.add_collection("items", &names, Loading::Loaded).await;
    for name in &names {
        world.fake.insert("items", name, 10).await;
    }
    world.fake.seal("items").await;
    let then = world.fake.rows("items").await;
    let mut jobs = world.jobs().await;
    jobs.settings.objects_per_page = 10_000;
    jobs.settings.copies_in_flight = 64;
    let backup = back_up(&jobs, &world).await;
    world.fake.set(|faults| faults.imports = Some(pace)).await;

    let begun = Instant::now();
    let restored = restore(&jobs, &backup, &world.instance).await;
    assert!(matches!(restored.state, RestoreState::Completed { .. }), "{:?}", restored.state);
    let took = begun.elapsed();
    assert_eq!(world.fake.rows("items").await, then);
    let rounds = partitions.div_ceil(u32::try_from(pace.side_by_side).unwrap());
    Measured { line, partitions, alone: pace.job * rounds, took }
}
