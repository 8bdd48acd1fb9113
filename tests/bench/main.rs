//! `make bench`: the speed and the use of resources of a backup, beside a model of S3 and other programs that copy within S3.
//!
//! Each measured thing is a process of its own, this executable again: `model`, `engine PORT`, `planning OBJECTS COLLECTIONS`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that surprises has failed")]

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use milvault_bench::{
    engine::{Engine, IN_FLIGHT, s3},
    model,
    peers::{self, Ran},
    planning::Names,
    source::Source,
};
use tokio::runtime::Builder;

/// The functions' allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OBJECTS: u64 = 100_000;
const PLANS: [u64; 4] = [1_000_000, 2_000_000, 5_000_000, 10_000_000];
/// The collections of each plan.
const COLLECTIONS: u64 = 160;
/// The collections of the largest Milvus that users report, with ten objects each.
const MOST_COLLECTIONS: u64 = 16_000;
const MB: f64 = 1_000_000.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["model"] => run(Builder::new_multi_thread(), model::serve(copied())),
        // One thread, as in create-backup.
        ["engine", port] => run(Builder::new_current_thread(), engine(port.parse().unwrap())),
        ["planning", objects, collections] => {
            let planning = planning(objects.parse().unwrap(), collections.parse().unwrap());
            run(Builder::new_current_thread(), planning);
        }
        _ => return report(),
    }
    ExitCode::SUCCESS
}

fn run(mut runtime: Builder, part: impl Future<Output = ()>) {
    runtime.enable_all().build().unwrap().block_on(part);
}

/// The data of the measured copies: one large collection.
fn copied() -> Source {
    Source::of(OBJECTS, 1)
}

/// A first backup, and a second one with one in a hundred segments replaced.
async fn engine(port: u16) {
    let engine = Engine::new(copied(), Arc::new(s3(port))).await;
    for name in ["first", "second"] {
        let before = counts(port);
        let took = engine.back_up(name).await;
        let after = counts(port);
        let asked: Vec<String> = after.iter().zip(before).map(|(after, before)| (after - before).to_string()).collect();
        say(&[
            took.time.as_millis() as u64,
            took.cpu.as_millis() as u64,
            took.peak_memory,
            took.snapshot.totals.objects,
            took.snapshot.totals.added_bytes,
        ]);
        println!("{}", asked.join(" "));
        ask(port, "POST /-/change");
        engine.set(copied().changed(100));
    }
}

/// A backup of this many objects in this many collections, with copies that take no time.
async fn planning(objects: u64, collections: u64) {
    let directory = env::temp_dir().join(format!("milvault-bench-{}", std::process::id()));
    let source = Source::of(objects, collections);
    let names = Names::new(source.clone(), directory.clone());
    let took = Engine::new(source, Arc::new(names)).await.back_up("large").await;
    std::fs::remove_dir_all(directory).unwrap();
    say(&[took.time.as_millis() as u64, took.cpu.as_millis() as u64, took.peak_memory, took.snapshot.totals.objects]);
}

fn say(numbers: &[u64]) {
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    println!("{}", numbers.join(" "));
}

/// This executable as a child process in another part; it ends with this process.
struct Part {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Part {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        let mut child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The numbers of the child's next line.
    fn line(&mut self) -> Vec<u64> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.split_whitespace().map(|number| number.parse().expect("a part of the benchmark failed")).collect()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "{request} HTTP/1.0\r\nhost: model\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
}

fn counts(port: u16) -> Vec<u64> {
    ask(port, "GET /-/counts").split_whitespace().map(|count| count.parse().unwrap()).collect()
}

/// One line of the table, with whether its bound holds.
struct Line {
    what: &'static str,
    found: String,
    bound: String,
    holds: bool,
}

fn report() -> ExitCode {
    let mut lines = Vec::new();
    let ours = copying(&mut lines);
    large_plans(&mut lines);

    println!("| | measured | bound | |\n|---|---|---|---|");
    for line in &lines {
        let mark = if line.holds { "holds" } else { "FAILS" };
        println!("| {} | {} | {} | {mark} |", line.what, line.found, line.bound);
    }
    println!();
    println!("| {OBJECTS} objects of 1 MB, {IN_FLIGHT} at once | time | CPU | peak memory | time against ours |");
    println!("|---|---|---|---|---|");
    println!("| Milvault, verified | {:.1} s | {:.1} s | {:.0} MB | 1 |", ours[0], ours[1], ours[2]);
    for (name, peer) in [("`rclone copy`", peers::rclone as fn(u16) -> Ran), ("`s5cmd cp`", peers::s5cmd)] {
        let mut model = Part::start(&["model"]);
        let port = u16::try_from(model.line()[0]).unwrap();
        let ran = peer(port);
        let copies = counts(port)[0];
        match ran {
            Ok((time, used)) => println!(
                "| {name}{} | {:.1} s | {:.1} s | {:.0} MB | {:.2} |",
                if copies >= OBJECTS { String::new() } else { format!(" ({copies} copies only)") },
                time.as_secs_f64(),
                used.cpu.as_secs_f64(),
                used.peak_memory as f64 / MB,
                time.as_secs_f64() / ours[0]
            ),
            Err(why) => println!("| {name} | {why} | | | |"),
        }
    }
    if lines.iter().all(|line| line.holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Measures both backups: seconds, CPU seconds and megabytes of the first.
fn copying(lines: &mut Vec<Line>) -> [f64; 3] {
    let mut model = Part::start(&["model"]);
    let port = model.line()[0].to_string();
    let mut engine = Part::start(&["engine", &port]);
    let ([time, cpu, peak, objects, _], [copies, source_listings, listings, refused]) =
        (numbers(engine.line()), numbers(engine.line()));
    assert_eq!((objects, copies), (OBJECTS, OBJECTS), "all is copied once");

    // What the model itself takes: a page of the source's listing before the first copy, the copies, so many at a time,
    // and after the last one a listing of the destination, of which each shard is a prefix that is listed page by page.
    let rounds = (OBJECTS as f64 / IN_FLIGHT as f64).ceil();
    let copies_alone = rounds * model::copy_time().as_secs_f64();
    let pages = (OBJECTS as usize).div_ceil(model::KEYS) as f64;
    let of_a_shard = (pages / milvault_model::SHARDS as f64).ceil();
    let floor = copies_alone + (1.0 + of_a_shard) * model::LISTING.as_secs_f64();
    // Each object is listed once; parts that are listed in parallel don't fill their last pages.
    let pass = pages / 0.85;
    let seconds = time as f64 / 1000.0;
    let share = floor / seconds;
    lines.push(Line {
        what: "first backup, 100,000 objects: the model's floor against the time",
        found: format!(
            "{floor:.1} s / {seconds:.1} s = {:.0} % (of the copies alone, {copies_alone:.1} s: {:.0} %; {refused} \
             refusals)",
            share * 100.0,
            copies_alone / seconds * 100.0
        ),
        bound: "≥ 90 %".to_owned(),
        holds: share >= 0.9,
    });
    let each = cpu as f64 * 1000.0 / OBJECTS as f64;
    lines.push(Line {
        what: "CPU per object, all in",
        found: format!("{each:.0} µs"),
        bound: "≤ 300 µs".to_owned(),
        holds: each <= 300.0,
    });
    lines.push(Line {
        what: "peak memory",
        found: format!("{:.0} MB", peak as f64 / MB),
        bound: "≤ 150 MB".to_owned(),
        holds: peak as f64 / MB <= 150.0,
    });
    lines.push(Line {
        what: "listing requests, source and destination",
        found: format!("{source_listings} and {listings}"),
        bound: "one pass each".to_owned(),
        holds: source_listings as f64 <= pass && listings as f64 <= pages + 2.0 * milvault_model::SHARDS as f64 + 8.0,
    });

    let ([time, _, _, _, added], [copies, source_listings, listings, _]) =
        (numbers(engine.line()), numbers(engine.line()));
    lines.push(Line {
        what: "second backup, 1 % changed: copies",
        found: format!("{copies} in {:.1} s, {:.0} MB added", time as f64 / 1000.0, added as f64 / MB),
        bound: format!("≤ 1.2 % ({})", OBJECTS * 12 / 1000),
        holds: copies <= OBJECTS * 12 / 1000,
    });
    lines.push(Line {
        what: "its listing requests, source and destination",
        found: format!("{source_listings} and {listings}"),
        bound: "one pass each".to_owned(),
        holds: source_listings as f64 <= pass
            && listings as f64 <= pages * 1.02 + 2.0 * milvault_model::SHARDS as f64 + 8.0,
    });
    [seconds, cpu as f64 / 1000.0, peak as f64 / MB]
}

fn plan(objects: u64, collections: u64) -> [u64; 4] {
    let found = numbers(Part::start(&["planning", &objects.to_string(), &collections.to_string()]).line());
    assert_eq!(found[3], objects, "all is in it");
    found
}

fn large_plans(lines: &mut Vec<Line>) {
    let mut found = Vec::new();
    for objects in PLANS {
        let [time, cpu, peak, _] = plan(objects, COLLECTIONS);
        found.push((Duration::from_millis(cpu), time, peak));
    }
    let millions: Vec<String> = PLANS.iter().map(|objects| (objects / 1_000_000).to_string()).collect();
    let peak = found.iter().map(|(.., peak)| *peak).max().unwrap_or_default() as f64 / MB;
    let peaks: Vec<String> = found.iter().map(|(.., peak)| format!("{:.0}", *peak as f64 / MB)).collect();
    lines.push(Line {
        what: "plan and manifest, peak memory",
        found: format!("{} MB for {} million objects", peaks.join(", "), millions.join(", ")),
        bound: "≤ 256 MB".to_owned(),
        holds: peak <= 256.0,
    });
    let [time, _, peak, _] = plan(MOST_COLLECTIONS * 10, MOST_COLLECTIONS);
    lines.push(Line {
        what: "16,000 collections of 10 objects, peak memory",
        found: format!("{:.0} MB, in {:.0} s", peak as f64 / MB, time as f64 / 1000.0),
        bound: "≤ 256 MB".to_owned(),
        holds: peak as f64 / MB <= 256.0,
    });
    // This compares CPU time, because the machine may do other things meanwhile.
    let each: Vec<f64> =
        found.iter().zip(PLANS).map(|((cpu, ..), objects)| cpu.as_secs_f64() * 1e6 / objects as f64).collect();
    let growth = each.iter().copied().fold(0.0, f64::max) / each.first().copied().unwrap_or(1.0);
    let micros: Vec<String> = each.iter().map(|each| format!("{each:.0}")).collect();
    let times: Vec<String> = found.iter().map(|(_, time, _)| format!("{:.0}", *time as f64 / 1000.0)).collect();
    lines.push(Line {
        what: "plan and manifest, the most CPU per object against that at 1 million",
        found: format!("{growth:.2} ({} s; {} µs per object, all in)", times.join(", "), micros.join(", ")),
        bound: "≤ 1.2 (linear)".to_owned(),
        holds: growth <= 1.2,
    });
}

fn numbers<const N: usize>(numbers: Vec<u64>) -> [u64; N] {
    numbers.try_into().expect("a part of the benchmark failed")
}
