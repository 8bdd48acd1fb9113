//! The retention-sweep function: deletes expired backups and resumes interrupted jobs.
#![forbid(unsafe_code)]

use milvault_gateway::{Answer, Event, invalid, object};
use milvault_jobs::{
    Error, Jobs,
    sweep::{SweepMode, SweepReport, sweep},
};
use milvault_model::Time;
use milvault_runtime::{
    Invocation,
    metrics::{self, About, Metric, Unit},
};
use serde::Deserialize;
use serde_json::Value;

/// The body of a manual call.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    #[serde(default)]
    dry_run: bool,
}

/// Answers one event.
///
/// # Errors
/// The reason why the event has no answer; [`Invocation::reply`] decides what the caller gets.
pub async fn handle(jobs: &Jobs, event: Event, invocation: &Invocation) -> Result<Answer, Error> {
    let mode = mode(event)?;
    let began = jobs.now();
    let report = sweep(jobs, mode, invocation.deadline).await?;
    if mode == SweepMode::Act {
        metrics::emit(jobs.now(), &About::deployment(), &of_sweep(&report, began));
    }
    Ok(Answer::ok(report))
}

/// The metrics of a sweep. Its lag is how long the oldest due record had been due when the sweep began.
fn of_sweep(report: &SweepReport, began: Time) -> [Metric; 5] {
    let count = |listed: usize| listed as f64;
    let lag = report.oldest_due.map_or(0.0, |oldest| (began - oldest).as_seconds_f64().max(0.0));
    [
        ("SweepLag", Unit::Seconds, lag),
        ("JobsStalled", Unit::Count, count(report.resumed.len())),
        ("SweepErrors", Unit::Count, count(report.errors.len())),
        ("SweepsUnfinished", Unit::Count, if report.is_whole { 0.0 } else { 1.0 }),
        ("VerificationsOverdue", Unit::Count, count(report.verifications_overdue)),
    ]
}

fn mode(event: Event) -> Result<SweepMode, Error> {
    match event {
        Event::Rule => Ok(SweepMode::Act),
        Event::Direct(Value::Object(fields)) => {
            let request: Request = object(fields)?;
            Ok(if request.dry_run { SweepMode::DryRun } else { SweepMode::Act })
        }
        Event::Direct(_) => Err(invalid("", "a direct event is a JSON object")),
        Event::Http(_) | Event::Background(_) => Err(invalid("", "this function does not handle such an event")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_and_an_empty_event_sweep_and_a_dry_run_only_looks() {
        assert_eq!(mode(Event::Rule).unwrap(), SweepMode::Act);
        assert_eq!(mode(Event::Direct(json!({}))).unwrap(), SweepMode::Act);
        assert_eq!(mode(Event::Direct(json!({ "dryRun": true }))).unwrap(), SweepMode::DryRun);
        for bad in [json!({ "dry_run": true }), json!({ "dryRun": "yes" }), json!(null), json!([])] {
            assert!(matches!(mode(Event::Direct(bad.clone())), Err(Error::Invalid(_))), "{bad}");
        }
    }
}
