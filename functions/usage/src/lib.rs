//! The usage function: meters snapshots, lists their usage, and exports it.
#![forbid(unsafe_code)]

mod focus;
mod query;

use std::collections::BTreeMap;

use milvault_billing::{
    correction::{CorrectionRequest, correct},
    export::{export, export_again},
    freshness::{Freshness, freshness},
    lines::{Line, lines},
    meter::{MeterReport, meter},
};
use milvault_gateway::{Answer, Call, Caller, Event, Findings, Route};
use milvault_jobs::{Error, FieldError, Jobs};
use milvault_model::{BackupId, CorrectionId, Currency, Decimal, Hour, InstanceId, Region, Time};
use milvault_runtime::{
    Invocation,
    metrics::{self, About, Unit},
};
use milvault_wire::{CorrectionView, UsageFile, UsageLineView, UsageView};
use query::{Format, UsageQuery};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy)]
enum Action {
    List,
    Meter,
    Correct,
}

const ROUTES: [Route<Action>; 3] = [
    Route { http: Some("GET /usage"), name: "list", action: Action::List },
    Route { http: None, name: "meter", action: Action::Meter },
    Route { http: None, name: "correct", action: Action::Correct },
];

/// The answer of a metering run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metered {
    regions: Vec<MeterReport>,
    /// The number of exported days.
    exported_days: u32,
}

/// Answers one event.
///
/// # Errors
/// The reason why the event has no answer; [`Invocation::reply`] decides what the caller gets.
pub async fn handle(jobs: &Jobs, event: Event, invocation: &Invocation) -> Result<Answer, Error> {
    if matches!(event, Event::Rule) {
        return meter_all(jobs, invocation).await;
    }
    let call = Call::read(event, &ROUTES)?;
    match call.action {
        Action::List => list(jobs, call, invocation).await,
        Action::Meter => {
            call.require_no_input()?;
            meter_all(jobs, invocation).await
        }
        Action::Correct => correct_one(jobs, call.body()?, invocation).await,
    }
}

/// Meters every region, and exports the days that are complete.
async fn meter_all(jobs: &Jobs, invocation: &Invocation) -> Result<Answer, Error> {
    let mut metered = Metered { regions: Vec::new(), exported_days: 0 };
    for bucket in jobs.settings.snapshots.iter() {
        let report = meter(jobs, &bucket.region, invocation.deadline).await?;
        if report.is_whole {
            let render = |lines: &[Line]| focus::file(lines, &jobs.settings.billing_account);
            metered.exported_days += export(jobs, &bucket.region, report.until, render, invocation.deadline).await?;
        }
        metered.regions.push(report);
    }
    if let Some(since) = metered.regions.iter().map(|report| report.unmetered_since).min() {
        let now = jobs.now();
        metrics::emit(now, &About::deployment(), &[("UsageLag", Unit::Seconds, (now - since).as_seconds_f64())]);
    }
    tell_of_age(jobs, invocation).await?;
    // Everything else is done. The error makes the failure visible in the function's metrics.
    if let Some(report) = metered.regions.iter().find(|report| report.failed > 0) {
        let what = format!("{} accounts of {} couldn't be metered", report.failed, report.region);
        return Err(Error::Inconsistent(what));
    }
    Ok(Answer::ok(metered))
}

/// Publishes the age of every instance's newest backup, and the number of instances whose newest backup is too old for
/// automatic backups. If the time is over before the end, the number isn't published, because it would be too low.
async fn tell_of_age(jobs: &Jobs, invocation: &Invocation) -> Result<(), Error> {
    let now = jobs.now();
    let mut overdue = 0;
    let mut after = None;
    loop {
        if invocation.deadline.is_over(jobs.now()) {
            return Ok(());
        }
        let page = freshness(jobs, after, now).await?;
        for Freshness { instance_id, newest, is_overdue } in &page.items {
            if let Some(newest) = newest {
                let age = (now - *newest).as_seconds_f64();
                metrics::emit(now, &About::instance(instance_id), &[("NewestBackupAge", Unit::Seconds, age)]);
            }
            if *is_overdue {
                tracing::warn!(instance = %instance_id, ?newest, "automatic backups are on, but no backup is newer than two days");
                overdue += 1;
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    metrics::emit(now, &About::deployment(), &[("BackupsOverdue", Unit::Count, f64::from(overdue))]);
    Ok(())
}

async fn list(jobs: &Jobs, call: Call<Action>, invocation: &Invocation) -> Result<Answer, Error> {
    let (now, caller) = (jobs.now(), call.caller);
    let asked = UsageQuery::read(call, &jobs.settings, now)?;
    let deadline = invocation.deadline_for(caller, now);
    let page = lines(jobs, &asked.query, asked.from.clone(), asked.paging.limit, deadline).await?;
    let next_cursor = page.next.map(|next| asked.cursor(next));
    if asked.format == Format::Focus {
        let csv = focus::text(&page.lines, &jobs.settings.billing_account);
        return Ok(match (caller, next_cursor) {
            (Caller::Http, Some(cursor)) => Answer::text("text/csv; charset=utf-8", csv).with_next_cursor(cursor),
            (Caller::Http, None) => Answer::text("text/csv; charset=utf-8", csv),
            // Direct callers get no headers.
            (_, next_cursor) => Answer::ok(UsageFile { csv, next_cursor }),
        });
    }
    let mut complete_until = BTreeMap::new();
    for region in &asked.query.regions {
        let export = jobs.ports.catalog.usage_export(region).await?;
        let until = export.map(|export| Hour::first_of(export.value.next).start().into());
        complete_until.insert(region.to_string(), until);
    }
    Ok(Answer::ok(UsageView { items: page.lines.iter().map(line_view).collect(), next_cursor, complete_until }))
}

/// The API's object for a usage line.
fn line_view(line: &Line) -> UsageLineView {
    let charge = line.charge.as_ref();
    UsageLineView {
        period_start: line.begins.into(),
        period_end: line.ends.into(),
        region: line.region.to_string(),
        instance_id: line.instance_id.to_string(),
        backup_id: line.backup_id.to_string(),
        kind: line.kind.into(),
        byte_hours: line.byte_hours,
        logical_bytes: line.logical_bytes,
        unit_price: charge.map(|charge| charge.unit_price.clone()),
        cost: charge.map(|charge| charge.cost.clone()),
        currency: charge.map(|charge| charge.currency.as_str().to_owned()),
        correction: line.correction.as_ref().map(|made| CorrectionView {
            id: made.id.as_str().to_owned(),
            reason: made.reason.clone(),
            made_at: made.made_at.into(),
        }),
    }
}

/// A request for a correction. Only a direct call with `"action": "correct"` can make it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Correct {
    correction_id: CorrectionId,
    region: Region,
    hour: Time,
    instance_id: InstanceId,
    backup_id: BackupId,
    byte_hours: i64,
    price: Option<CorrectPrice>,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CorrectPrice {
    currency: Currency,
    gib_hour: Decimal,
}

async fn correct_one(jobs: &Jobs, asked: Correct, invocation: &Invocation) -> Result<Answer, Error> {
    let mut findings = Findings::default();
    let hour = findings.keep(query::whole_hour("/hour", asked.hour));
    let is_reason = (1..=500).contains(&asked.reason.chars().count()) && !asked.reason.chars().any(char::is_control);
    findings.note(
        (!is_reason).then(|| FieldError::new("/reason", "has 1 to 500 characters, none of them a control character")),
    );
    findings.note(
        asked
            .price
            .as_ref()
            .is_some_and(|price| price.gib_hour.is_negative())
            .then(|| FieldError::new("/price/gibHour", "isn't below zero")),
    );
    findings.report()?;
    let request = CorrectionRequest {
        id: asked.correction_id,
        region: asked.region,
        hour,
        instance_id: asked.instance_id,
        backup_id: asked.backup_id,
        byte_hours: asked.byte_hours,
        price: asked.price.map(|price| (price.currency, price.gib_hour)),
        reason: asked.reason,
    };
    let record = correct(jobs, request).await?;
    let render = |lines: &[Line]| focus::file(lines, &jobs.settings.billing_account);
    export_again(jobs, &record.region, record.hour.day(), render, invocation.deadline).await?;
    Ok(Answer::ok(line_view(&Line::from_record(&record))))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use milvault_harness::MemoryWorld;
    use milvault_model::{BackupKind, Charge, UsageRecord};
    use milvault_ports::{Bucket, Catalog, Write};
    use serde_json::{Value, json};

    use super::*;

    /// An hour before the end of January.
    const NOW: Time = DateTime::from_timestamp_nanos(1_769_900_400_000_000_000);
    const BACKUPS: usize = 5;

    fn region() -> Region {
        "eu-west-1".parse().unwrap()
    }

    /// An environment in which five backups were metered in the last hour.
    async fn world() -> MemoryWorld {
        let world = MemoryWorld::new(&[Bucket { region: region(), name: "snapshots".to_owned() }], NOW);
        for number in 0..BACKUPS {
            let price: Decimal = "0.1".parse().unwrap();
            let record = UsageRecord {
                region: region(),
                hour: Hour::containing(NOW - TimeDelta::hours(1)),
                instance_id: "orders".parse().unwrap(),
                backup_id: format!("bk-{number:026}").parse().unwrap(),
                kind: BackupKind::Manual,
                byte_hours: 1 << 30,
                logical_bytes: 1 << 30,
                charge: Some(Charge {
                    currency: "EUR".to_owned().try_into().unwrap(),
                    unit_price: price.clone(),
                    cost: price,
                }),
                correction: None,
            };
            world.catalog.commit(vec![Write::Usage(Box::new(record))]).await.unwrap();
        }
        world
    }

    async fn ask(world: &MemoryWorld, mut question: Value) -> Value {
        question["action"] = "list".into();
        let invocation = Invocation::new("request".to_owned(), 0, world.jobs.now());
        let answered = handle(&world.jobs, Event::Direct(question), &invocation).await;
        invocation.reply(Caller::Direct, answered).unwrap()
    }

    #[tokio::test]
    async fn pages_go_on_in_the_time_that_was_asked_for_when_the_month_ends_between_them() {
        let world = world().await;
        let mut page = ask(&world, json!({ "limit": "2" })).await;
        let mut found = page["items"].as_array().unwrap().len();
        while let Some(cursor) = page["nextCursor"].as_str() {
            world.clock.advance(TimeDelta::hours(1));
            page = ask(&world, json!({ "limit": "2", "cursor": cursor })).await;
            found += page["items"].as_array().unwrap().len();
        }
        assert_eq!(found, BACKUPS);
        assert_eq!(ask(&world, json!({})).await["items"], json!([]), "of the new month there is nothing yet");
    }

    #[tokio::test]
    async fn a_direct_caller_gets_every_page_of_a_file_too() {
        let world = world().await;
        let mut rows = 0;
        let mut question = json!({ "format": "focus", "limit": "2" });
        loop {
            let page = ask(&world, question.clone()).await;
            rows += csv::Reader::from_reader(page["csv"].as_str().unwrap().as_bytes()).records().count();
            match page["nextCursor"].as_str() {
                Some(cursor) => question["cursor"] = cursor.into(),
                None => break,
            }
        }
        assert_eq!(rows, BACKUPS);
    }

    #[tokio::test]
    async fn a_cursor_leads_nowhere_but_where_it_was_given() {
        let world = world().await;
        let page = ask(&world, json!({ "limit": "1", "region": "eu-west-1" })).await;
        let cursor = page["nextCursor"].as_str().unwrap();
        let refused = async |question: Value| {
            let problem = ask(&world, question).await;
            assert_eq!(
                (&problem["code"], &problem["errors"][0]["pointer"]),
                (&json!("VALIDATION_FAILED"), &json!("cursor"))
            );
        };
        refused(json!({ "cursor": cursor })).await;
        refused(json!({ "cursor": cursor, "region": "eu-west-1", "granularity": "HOUR" })).await;
        // The region of a bucket that the deployment no longer has.
        let moved =
            MemoryWorld::new(&[Bucket { region: "us-east-1".parse().unwrap(), name: "snapshots".to_owned() }], NOW);
        let everywhere = ask(&world, json!({ "limit": "1" })).await;
        let problem = ask(&moved, json!({ "cursor": everywhere["nextCursor"], "limit": "1" })).await;
        assert_eq!(problem["errors"][0]["pointer"], "cursor");
    }
}
