//! Lines of usage, their pages and their files, over a catalog in memory.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, TimeDelta};
use futures::FutureExt;
use milvault_billing::{
    correction::{CorrectionRequest, correct},
    export::{export, export_again},
    lines::{Granularity, Line, Position, Query, lines},
};
use milvault_harness::{MemoryWorld, Random, seeds};
use milvault_model::{BackupKind, Charge, Correction, Decimal, Hour, Region, Time, UsageExport, UsageRecord};
use milvault_ports::{Bucket, Catalog, Deadline, Expect, Objects, Write};

/// Two days before the end of a month.
const BEGIN: Time = DateTime::from_timestamp_nanos(1_769_731_200_000_000_000);
const HOURS: u64 = 80;

fn regions() -> [Region; 2] {
    ["eu-west-1", "us-east-1"].map(|region| region.parse().unwrap())
}

fn home() -> Bucket {
    Bucket { region: regions()[0].clone(), name: "snapshots".to_owned() }
}

fn hour(number: u64) -> Hour {
    Hour::containing(BEGIN + TimeDelta::hours(number.cast_signed()))
}

fn charge(unit_price: &str, byte_hours: i64) -> Charge {
    let unit_price: Decimal = unit_price.parse().unwrap();
    let cost = unit_price.for_gibibytes_of(byte_hours);
    Charge { currency: "EUR".to_owned().try_into().unwrap(), unit_price, cost }
}

/// Records of some days in two regions, with gaps, a change of price, hours without one, and corrections.
fn records(random: &mut Random) -> Vec<UsageRecord> {
    let mut records = Vec::new();
    for number in 0..HOURS {
        for region in regions() {
            for (instance, backup) in [("orders", 1), ("orders", 2), ("orders-old", 1), ("users", 3)] {
                if random.permille(300) {
                    continue;
                }
                let byte_hours = random.between(1, 1 << 40).cast_signed();
                let price = match number {
                    0..20 => Some("0.1"),
                    20..60 => Some("0.25"),
                    _ => None,
                };
                let metered = UsageRecord {
                    region: region.clone(),
                    hour: hour(number),
                    instance_id: instance.parse().unwrap(),
                    backup_id: format!("bk-{backup:026}").parse().unwrap(),
                    kind: BackupKind::Manual,
                    byte_hours,
                    logical_bytes: number,
                    charge: price.map(|price| charge(price, byte_hours)),
                    correction: None,
                };
                for id in ["a", "b"].into_iter().take(random.below(30).saturating_sub(27).try_into().unwrap()) {
                    records.push(UsageRecord {
                        byte_hours: -1,
                        charge: Some(charge("0.1", -1)),
                        correction: Some(Correction {
                            id: id.to_owned().try_into().unwrap(),
                            reason: "it was too much".to_owned(),
                            made_at: BEGIN,
                        }),
                        ..metered.clone()
                    });
                }
                records.push(metered);
            }
        }
    }
    records
}

async fn world(records: &[UsageRecord]) -> MemoryWorld {
    let world = MemoryWorld::new(&[home()], BEGIN);
    for record in records {
        world.catalog.commit(vec![Write::Usage(Box::new(record.clone()))]).await.unwrap();
    }
    world
}

fn query(from: u64, to: u64, granularity: Granularity) -> Query {
    Query { from: hour(from), to: hour(to), regions: regions().into(), instance: None, granularity }
}

fn never() -> Deadline {
    Deadline::at(Time::MAX_UTC)
}

/// The lines of all pages of at most `limit` lines, with positions passed as a caller passes them.
async fn all(world: &MemoryWorld, query: &Query, limit: usize, deadline: Deadline) -> Vec<Line> {
    let mut found = Vec::new();
    let mut from: Option<Position> = None;
    loop {
        let page = lines(&world.jobs, query, from.clone(), limit, deadline).await.unwrap();
        assert!(page.lines.len() <= limit);
        found.extend(page.lines);
        let Some(next) = page.next else { return found };
        assert_ne!(Some(&next), from.as_ref(), "every page gets further");
        from = Some(next.to_string().parse().unwrap());
    }
}

/// The part of a line that doesn't depend on the granularity.
fn sums(lines: &[Line]) -> BTreeMap<String, (i64, Decimal)> {
    let mut sums = BTreeMap::new();
    for line in lines {
        let price = line.charge.as_ref().map(|charge| charge.unit_price.to_string());
        let correction = line.correction.as_ref().map(|made| made.id.as_str().to_owned());
        let key = format!("{} {} {} {price:?} {correction:?}", line.region, line.instance_id, line.backup_id);
        let sum = sums.entry(key).or_insert((0, Decimal::zero()));
        sum.0 += line.byte_hours;
        sum.1 = line.charge.as_ref().map_or(sum.1.clone(), |charge| sum.1.plus(&charge.cost));
    }
    sums
}

#[tokio::test]
async fn lines_of_every_granularity_sum_the_records_whatever_the_page_size() {
    for seed in seeds(5) {
        let records = records(&mut Random::new(seed));
        let world = world(&records).await;
        for (from, to) in [(0, HOURS), (7, 55), (30, 30)] {
            let is_in = |record: &&UsageRecord| (hour(from)..hour(to)).contains(&record.hour);
            let naive: Vec<Line> = records.iter().filter(is_in).map(Line::from_record).collect();
            for granularity in [Granularity::Hour, Granularity::Day, Granularity::Month] {
                let query = query(from, to, granularity);
                let whole = all(&world, &query, 10_000, never()).await;
                assert_eq!(sums(&whole), sums(&naive), "seed {seed}, {granularity:?}");
                for limit in [1, 2, 7] {
                    assert_eq!(
                        all(&world, &query, limit, never()).await,
                        whole,
                        "seed {seed}, {granularity:?}, {limit}"
                    );
                }
                // The same holds when the deadline is always over.
                assert_eq!(all(&world, &query, 10_000, Deadline::at(BEGIN)).await, whole);
            }
        }
    }
}

#[tokio::test]
async fn lines_are_by_period_region_and_backup_with_corrections_after_what_they_correct() {
    let records = records(&mut Random::new(7));
    let world = world(&records).await;
    for granularity in [Granularity::Hour, Granularity::Day, Granularity::Month] {
        let found = all(&world, &query(0, HOURS, granularity), 10_000, never()).await;
        let metered: Vec<&Line> = found.iter().filter(|line| line.correction.is_none()).collect();
        let place =
            |line: &Line| (line.begins, line.region.clone(), format!("{}#{}", line.instance_id, line.backup_id));
        assert!(metered.is_sorted_by_key(|line| place(line)), "{granularity:?}");
        let keys: BTreeSet<String> =
            metered.iter().map(|line| format!("{:?} {:?}", place(line), line.charge)).collect();
        assert_eq!(keys.len(), metered.len(), "one line for a price");
        for pair in found.windows(2) {
            if let [before, line] = pair
                && line.correction.is_some()
            {
                assert_eq!((&before.instance_id, &before.backup_id), (&line.instance_id, &line.backup_id));
            }
        }
        let of_one = Query { instance: Some("orders".parse().unwrap()), ..query(0, HOURS, granularity) };
        let only: Vec<Line> = found.into_iter().filter(|line| line.instance_id.as_str() == "orders").collect();
        assert_eq!(all(&world, &of_one, 3, never()).await, only);
    }
}

fn render(lines: &[Line]) -> Vec<u8> {
    lines.iter().map(|line| format!("{line:?}\n")).collect::<String>().into_bytes()
}

async fn files(world: &MemoryWorld) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for object in world.objects.list(&home(), "usage/", None).await.unwrap().items {
        let body = world.objects.get(&home(), &object.key).await.unwrap().unwrap();
        files.insert(object.key, body);
    }
    files
}

#[tokio::test]
async fn every_complete_day_is_written_out_once_and_again_when_it_is_corrected() {
    let records = records(&mut Random::new(1));
    let world = world(&records).await;
    let [region, _] = regions();
    let day = BEGIN.date_naive();
    let until = hour(50).start();
    let write = async |until| export(&world.jobs, &region, until, render, never()).await.unwrap();
    assert_eq!(write(until).await, 0, "nothing is metered yet");
    let begin = UsageExport { region: region.clone(), next: day };
    world.catalog.commit(vec![Write::UsageExport(Box::new(begin.clone()), Expect::Absent)]).await.unwrap();

    assert_eq!(write(until).await, 2, "the third day isn't over");
    let written = files(&world).await;
    let key = |day| format!("usage/region=eu-west-1/date={day}/part-00000.csv");
    assert_eq!(written.keys().cloned().collect::<Vec<_>>(), [key(day), key(day + Days::new(1))]);
    assert_eq!(write(until).await, 0);

    // A run that died before it recorded its progress, and a file that an earlier version left behind.
    let again = Write::UsageExport(Box::new(begin), Expect::Version(3));
    world.catalog.commit(vec![again]).await.unwrap();
    let stale = key(day).replace("00000", "00001");
    let mode = milvault_ports::PutMode::Replace;
    world.objects.put(&home(), &stale, b"old".to_vec(), mode).await.unwrap();
    assert_eq!(write(until).await, 2);
    assert_eq!(files(&world).await, written);

    let late = UsageRecord {
        correction: Some(Correction {
            id: "late".to_owned().try_into().unwrap(),
            reason: "it was".to_owned(),
            made_at: BEGIN,
        }),
        ..records.iter().find(|record| record.region == region && record.correction.is_none()).unwrap().clone()
    };
    world.catalog.commit(vec![Write::Usage(Box::new(late))]).await.unwrap();
    export_again(&world.jobs, &region, day, render, never()).await.unwrap();
    let corrected = files(&world).await;
    assert_ne!(corrected[&key(day)], written[&key(day)]);
    assert_eq!(corrected[&key(day + Days::new(1))], written[&key(day + Days::new(1))]);
    export_again(&world.jobs, &region, day + Days::new(2), render, never()).await.unwrap();
    assert_eq!(files(&world).await, corrected, "that day isn't written yet");
}

/// A correction of the backup in this hour.
async fn put_right(world: &MemoryWorld, of: &UsageRecord, id: &str) {
    let request = CorrectionRequest {
        id: id.to_owned().try_into().unwrap(),
        region: of.region.clone(),
        hour: of.hour,
        instance_id: of.instance_id.clone(),
        backup_id: of.backup_id.clone(),
        byte_hours: 7,
        price: None,
        reason: "it was seven less".to_owned(),
    };
    correct(&world.jobs, request).await.unwrap();
}

/// Whether the last export holds this correction.
async fn hold(world: &MemoryWorld, id: &str) -> bool {
    files(world).await.values().any(|file| String::from_utf8_lossy(file).contains(&format!("\"{id}\"")))
}

#[tokio::test]
async fn a_correction_made_during_an_export_is_in_the_file() {
    let records = records(&mut Random::new(2));
    let world = world(&records).await;
    let [region, _] = regions();
    let next = BEGIN.date_naive();
    let begin = UsageExport { region: region.clone(), next };
    world.catalog.commit(vec![Write::UsageExport(Box::new(begin), Expect::Absent)]).await.unwrap();
    let of = records.iter().find(|record| record.region == region && record.correction.is_none()).unwrap();
    // The lines have been read but not written yet: ports in memory never wait.
    let meanwhile = |id: &'static str, asked: &std::cell::Cell<u32>, lines: &[Line]| {
        asked.set(asked.get() + 1);
        if asked.get() == 1 {
            put_right(&world, of, id).now_or_never().unwrap();
        }
        render(lines)
    };
    let asked = std::cell::Cell::new(0);
    let written =
        export(&world.jobs, &region, hour(50).start(), |lines| meanwhile("first", &asked, lines), never()).await;
    assert_eq!((written.unwrap(), asked.get()), (2, 3));
    assert!(hold(&world, "first").await);

    put_right(&world, of, "second").await;
    let asked = std::cell::Cell::new(0);
    export_again(&world.jobs, &region, next, |lines| meanwhile("third", &asked, lines), never()).await.unwrap();
    assert_eq!(asked.get(), 2);
    assert!(hold(&world, "second").await && hold(&world, "third").await);

    let late = export_again(&world.jobs, &region, next, render, Deadline::at(BEGIN)).await;
    assert!(late.is_err(), "who asked for the correction has to ask again");
}

#[tokio::test]
async fn a_day_of_many_backups_is_whole_in_lines_and_files() {
    const BACKUPS: u64 = 6_000;
    let [region, _] = regions();
    // Records in two hours; the second hour has every third backup.
    let record = |number: u64, at: u64| UsageRecord {
        region: region.clone(),
        hour: hour(at),
        instance_id: format!("instance-{}", number % 7).parse().unwrap(),
        backup_id: format!("bk-{number:026}").parse().unwrap(),
        kind: BackupKind::Auto,
        byte_hours: number.cast_signed() + 1,
        logical_bytes: number,
        charge: Some(charge("0.1", number.cast_signed() + 1)),
        correction: None,
    };
    let of_day =
        (0..BACKUPS).map(|number| record(number, 3)).chain((0..BACKUPS).step_by(3).map(|number| record(number, 9)));
    let records: Vec<UsageRecord> = of_day.collect();
    let world = world(&records).await;
    let naive: Vec<Line> = records.iter().map(Line::from_record).collect();
    let of_region = |granularity| Query { regions: vec![region.clone()], ..query(0, 24, granularity) };
    for granularity in [Granularity::Hour, Granularity::Day] {
        let found = all(&world, &of_region(granularity), 1_000, never()).await;
        assert_eq!(sums(&found), sums(&naive), "{granularity:?}");
    }

    let begin = UsageExport { region: region.clone(), next: BEGIN.date_naive() };
    world.catalog.commit(vec![Write::UsageExport(Box::new(begin), Expect::Absent)]).await.unwrap();
    assert_eq!(export(&world.jobs, &region, hour(24).start(), render, never()).await.unwrap(), 1);
    let files = files(&world).await;
    let lines: Vec<usize> = files.values().map(|file| String::from_utf8_lossy(file).lines().count()).collect();
    assert_eq!(lines, [5_000, 1_000]);
    assert!(files.keys().map(|key| &key[key.len() - 9..]).eq(["00000.csv", "00001.csv"]));
}

#[test]
fn an_invalid_position_is_refused() {
    for text in [
        "",
        "x",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z eu-west-1 1",
        "now eu-west-1 1 a",
        "2026-01-01T00:00:00Z EU 1 ",
        "2026-01-01T00:00:00Z eu-west-1 1 a",
        "2026-01-01T00:00:00Z eu-west-1 1 orders#",
        "2026-01-01T00:00:00Z eu-west-1 -1 orders#bk-01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ] {
        assert!(text.parse::<Position>().is_err(), "{text}");
    }
    let long = format!("2026-01-01T00:00:00Z eu-west-1 1 {}#bk-01ARZ3NDEKTSV4RRFFQ69G5FAV", "a".repeat(2_000));
    assert!(long.parse::<Position>().is_err(), "a key of the catalog has a length");
    assert!("2026-01-01T00:00:00Z eu-west-1 1 orders#bk-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<Position>().is_ok());
}
