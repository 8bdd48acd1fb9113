//! The meter and corrections, over a catalog in memory.

use chrono::{DateTime, TimeDelta};
use milvault_billing::{
    correction::{CorrectionRequest, correct},
    meter::{MeterReport, meter},
};
use milvault_harness::{MemoryWorld, account, available, minutes_left, region as home};
use milvault_jobs::Error;
use milvault_model::{Backup, BackupId, Hour, Region, Time, UsageRecord};
use milvault_ports::{Bucket, Catalog, Deadline, Expect, PageRequest, Write};

/// Half past ten, on the first of February.
const NOW: Time = DateTime::from_timestamp_nanos(1_769_941_800_000_000_000);
const SIZE: u64 = 1 << 31;

fn region(name: &str) -> Region {
    name.parse().unwrap()
}

fn world() -> MemoryWorld {
    let bucket = |name: &str| Bucket { region: region(name), name: format!("snapshots-{name}") };
    MemoryWorld::new(&[bucket("eu-west-1"), bucket("us-east-1")], NOW)
}

/// A backup that was stored this many hours ago and owns all of its bytes.
async fn stored(world: &MemoryWorld, region: &Region, hours: i64) -> Backup {
    let made = NOW - TimeDelta::hours(hours);
    let id = BackupId::new(world.jobs.ports.ids.ulid(made));
    let backup = Backup { region: region.clone(), ..available(&"orders".parse().unwrap(), id, made, SIZE) };
    let writes = vec![
        Write::Backup(Box::new(backup.clone()), Expect::Absent),
        Write::Account(Box::new(account(&backup, SIZE)), Expect::Absent),
    ];
    world.catalog.commit(writes).await.unwrap();
    backup
}

async fn run(world: &MemoryWorld, region: &Region) -> MeterReport {
    meter(&world.jobs, region, minutes_left(&world.jobs, 14)).await.unwrap()
}

/// Every record of these hours before now.
async fn records(world: &MemoryWorld, region: &Region, hours: i64) -> Vec<UsageRecord> {
    let mut found = Vec::new();
    for ago in (0..=hours).rev() {
        let hour = Hour::containing(NOW - TimeDelta::hours(ago));
        let page = PageRequest { after: None, limit: 10_000 };
        found.extend(world.catalog.usage(region, hour, None, page).await.unwrap().items);
    }
    found
}

fn prices(of: &[(&str, &str, &str)]) -> milvault_model::Prices {
    let price = |(region, from, price): &(&str, &str, &str)| serde_json::json!({ "region": region, "from": from, "currency": "EUR", "storageGibHour": price });
    serde_json::from_value(of.iter().map(price).collect()).unwrap()
}

#[tokio::test]
async fn after_an_outage_every_finished_hour_is_metered_once_however_many_runs_come() {
    let world = world();
    stored(&world, &home(), 300).await;
    let home = home();
    let (one, other) = futures::join!(run(&world, &home), run(&world, &home));
    assert!(one.is_whole && other.is_whole);
    assert_eq!(one.unmetered_since, one.until);
    assert_eq!(one.records + other.records, 300, "the hour that isn't over isn't metered");
    assert_eq!(run(&world, &home).await.records, 0);
    let found = records(&world, &home, 301).await;
    assert_eq!(found.len(), 300);
    assert!(found.iter().all(|record| record.byte_hours == SIZE.cast_signed()));
    let export = world.catalog.usage_export(&home).await.unwrap().unwrap();
    assert_eq!(export.value.next, (NOW - TimeDelta::hours(300)).date_naive());

    // An hour is metered five minutes after its end.
    world.clock.set(Hour::containing(NOW).next().start() + TimeDelta::minutes(4));
    assert_eq!(run(&world, &home).await.records, 0);
    world.clock.advance(TimeDelta::minutes(1));
    assert_eq!(run(&world, &home).await.records, 1);
}

#[tokio::test]
async fn a_run_that_runs_out_of_time_is_continued_by_the_next() {
    let world = world();
    stored(&world, &home(), 3).await;
    let report = meter(&world.jobs, &home(), Deadline::at(NOW)).await.unwrap();
    assert!(!report.is_whole && report.records == 0);
    assert_eq!(report.unmetered_since, Hour::containing(NOW - TimeDelta::hours(3)).start());
    assert_eq!(run(&world, &home()).await.records, 3);
}

#[tokio::test]
async fn an_account_that_fails_does_not_stop_the_others_from_being_metered() {
    let world = world();
    let backups = [stored(&world, &home(), 2).await, stored(&world, &home(), 2).await];
    // An impossible state: the record exists, but its account doesn't count it.
    let first = world.catalog.account(&home(), &backups[0].instance_id, &backups[0].id).await.unwrap().unwrap();
    let metered = first.value.clone().meter(Hour::containing(NOW)).unwrap();
    let record = UsageRecord::new(&first.value, metered, &world.jobs.settings.prices);
    world.catalog.commit(vec![Write::Usage(Box::new(record))]).await.unwrap();

    let report = run(&world, &home()).await;
    assert_eq!((report.accounts, report.records, report.failed, report.is_whole), (2, 2, 1, false));
    assert_eq!(report.unmetered_since, Hour::containing(NOW - TimeDelta::hours(2)).start());
}

#[tokio::test]
async fn a_price_change_leaves_metered_hours_unchanged_and_without_a_price_there_is_no_cost() {
    let mut world = world();
    stored(&world, &home(), 24).await;
    world.jobs.settings.prices = prices(&[("eu-west-1", "2026-02-01", "0.5")]);
    run(&world, &home()).await;
    let before = records(&world, &home(), 24).await;
    let (january, february) = before.split_at(14);
    assert!(january.iter().all(|record| record.charge.is_none()), "{january:?}");
    let cost = |record: &UsageRecord| record.charge.as_ref().map(|charge| charge.cost.to_string());
    assert!(february.iter().all(|record| cost(record).as_deref() == Some("1")), "{february:?}");

    world.jobs.settings.prices = prices(&[("eu-west-1", "2026-01-01", "0.25")]);
    world.clock.advance(TimeDelta::hours(1));
    assert_eq!(run(&world, &home()).await.records, 1);
    let after = records(&world, &home(), 24).await;
    assert_eq!(after[..before.len()], before);
    assert_eq!(cost(&after[before.len()]).as_deref(), Some("0.5"));
}

#[tokio::test]
async fn each_region_is_metered_separately() {
    let world = world();
    let elsewhere = region("us-east-1");
    let (here, there) = (stored(&world, &home(), 2).await, stored(&world, &elsewhere, 1).await);
    assert_eq!(run(&world, &elsewhere).await.records, 1);
    assert!(records(&world, &home(), 5).await.is_empty());
    assert_eq!(run(&world, &home()).await.records, 2);
    assert!(records(&world, &home(), 5).await.iter().all(|record| record.backup_id == here.id));
    assert!(records(&world, &elsewhere, 5).await.iter().all(|record| record.backup_id == there.id));
}

fn correction(of: &Backup, id: &str, byte_hours: i64) -> CorrectionRequest {
    CorrectionRequest {
        id: id.to_owned().try_into().unwrap(),
        region: of.region.clone(),
        hour: Hour::containing(NOW - TimeDelta::hours(1)),
        instance_id: of.instance_id.clone(),
        backup_id: of.id.clone(),
        byte_hours,
        price: None,
        reason: "counted twice".to_owned(),
    }
}

#[tokio::test]
async fn a_correction_is_a_separate_record_that_is_made_once() {
    let mut world = world();
    world.jobs.settings.prices = prices(&[("eu-west-1", "2026-01-01", "0.5")]);
    let backup = stored(&world, &home(), 2).await;
    let early = correct(&world.jobs, correction(&backup, "one", -1)).await;
    assert!(matches!(early, Err(Error::Invalid(_))), "nothing is metered yet: {early:?}");
    run(&world, &home()).await;
    let before = records(&world, &home(), 2).await;

    let size = SIZE.cast_signed();
    let made = correct(&world.jobs, correction(&backup, "one", -size / 2)).await.unwrap();
    assert_eq!(made.charge.as_ref().unwrap().cost.to_string(), "-0.5");
    assert_eq!(correct(&world.jobs, correction(&backup, "one", -size / 2)).await.unwrap(), made);
    let other = correct(&world.jobs, correction(&backup, "one", -1)).await;
    assert!(matches!(other, Err(Error::KeyReused)), "{other:?}");
    let too_much = correct(&world.jobs, correction(&backup, "two", -size)).await;
    assert!(matches!(too_much, Err(Error::Invalid(_))), "{too_much:?}");
    let nothing = correct(&world.jobs, correction(&backup, "two", 0)).await;
    assert!(matches!(nothing, Err(Error::Invalid(_))), "{nothing:?}");

    // Correcting a wrong price: one record takes the old charge back, another one charges the right price.
    let price = Some(("EUR".to_owned().try_into().unwrap(), "0.1".parse().unwrap()));
    correct(&world.jobs, correction(&backup, "back", -size / 2)).await.unwrap();
    let again = CorrectionRequest { price, ..correction(&backup, "anew", size) };
    assert_eq!(correct(&world.jobs, again).await.unwrap().charge.unwrap().cost.to_string(), "0.2");

    let after = records(&world, &home(), 2).await;
    assert_eq!(after.len(), before.len() + 3);
    assert!(before.iter().all(|record| after.contains(record)), "what was metered is as it was");
    let sum: i64 = after.iter().filter(|record| record.hour == made.hour).map(|record| record.byte_hours).sum();
    assert_eq!(sum, size);
}
