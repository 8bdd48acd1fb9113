//! Meters what snapshots cost, tells it, and writes it out.
#![forbid(unsafe_code)]

mod focus;
mod query;

use std::collections::BTreeMap;

use milvault_gateway::{
    Answer, Call, Caller, Direct, Event, Findings, Route, invalid, object,
    wire::{Timestamp, UsageLineView},
};
use milvault_jobs::{
    Error, FieldError, Jobs,
    usage::{
        correction::{CorrectionRequest, correct},
        export::{export, export_again},
        lines::{Line, lines},
        meter::{MeterReport, meter},
    },
};
use milvault_model::{BackupId, CorrectionId, Currency, Decimal, Hour, InstanceId, Region, Time};
use milvault_runtime::{Invocation, RuntimeError};
use query::{Format, UsageQuery};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy)]
enum Action {
    List,
}

const ROUTES: [Route<Action>; 1] =
    [Route { http: "GET /usage", direct: Direct::Tagged("action", "list"), action: Action::List }];

/// What an answer with lines is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageView {
    items: Vec<UsageLineView>,
    next_cursor: Option<String>,
    /// By region: everything before is metered and written out.
    complete_until: BTreeMap<Region, Option<Timestamp>>,
}

/// What a run of the meter answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metered {
    regions: Vec<MeterReport>,
    /// Days that were written out.
    exported_days: u32,
}

/// Answers one event.
///
/// # Errors
/// Infrastructure faults, so that Lambda tries again.
pub async fn handle(jobs: &Jobs, event: Event, invocation: &Invocation) -> Result<Value, RuntimeError> {
    let caller = Caller::of(&event);
    invocation.reply(caller, serve(jobs, event, caller, invocation).await)
}

async fn serve(jobs: &Jobs, event: Event, caller: Caller, invocation: &Invocation) -> Result<Answer, Error> {
    match event {
        Event::Rule => meter_all(jobs, invocation).await,
        Event::Direct(Value::Object(mut fields)) if fields.get("action").is_some_and(|action| action != "list") => {
            match fields.remove("action") {
                Some(Value::String(action)) if action == "meter" => {
                    object::<Nothing>(fields)?;
                    meter_all(jobs, invocation).await
                }
                Some(Value::String(action)) if action == "correct" => correct_one(jobs, fields, invocation).await,
                _ => Err(invalid("action", "is one of 'list', 'meter', 'correct'")),
            }
        }
        event => {
            let call = Call::read(event, &ROUTES)?;
            match call.action {
                Action::List => list(jobs, call, caller, invocation).await,
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Meters every region, and writes out the days that are complete.
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
    // Everything else is done; this is for the one who looks at the function's errors.
    if let Some(report) = metered.regions.iter().find(|report| report.failed > 0) {
        let what = format!("{} accounts of {} couldn't be metered", report.failed, report.region);
        return Err(milvault_jobs::ports::CatalogError::Unavailable(what).into());
    }
    Ok(Answer::ok(metered))
}

async fn list(jobs: &Jobs, call: Call<Action>, caller: Caller, invocation: &Invocation) -> Result<Answer, Error> {
    let now = jobs.ports.clock.now();
    let UsageQuery { query, format, paging, from } = UsageQuery::read(call, &jobs.settings.snapshots, now)?;
    let page = lines(jobs, &query, from, paging.limit, invocation.deadline_for(caller, now)).await?;
    let next_cursor = page.next.map(|next| paging.cursor(&next.to_string()));
    if format == Format::Focus {
        let answer = Answer::text("text/csv; charset=utf-8", focus::text(&page.lines, &jobs.settings.billing_account));
        return Ok(match next_cursor {
            Some(cursor) => answer.next_cursor(cursor),
            None => answer,
        });
    }
    let mut complete_until = BTreeMap::new();
    for region in &query.regions {
        let export = jobs.ports.catalog.usage_export(region).await?;
        let until = export.map(|export| Hour::first_of(export.value.next).start().into());
        complete_until.insert(region.clone(), until);
    }
    Ok(Answer::ok(UsageView { items: page.lines.iter().map(UsageLineView::of).collect(), next_cursor, complete_until }))
}

/// A correction as it is asked for: by hand only, with `"action": "correct"`.
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

async fn correct_one(jobs: &Jobs, fields: Map<String, Value>, invocation: &Invocation) -> Result<Answer, Error> {
    let asked: Correct = object(fields)?;
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
    Ok(Answer::ok(UsageLineView::of(&Line::of(&record))))
}
