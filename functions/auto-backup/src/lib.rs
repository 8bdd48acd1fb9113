//! The auto-backup function: reads and changes when an instance is backed up automatically and how long the backups are
//! kept.
#![forbid(unsafe_code)]

use milvault_gateway::{Answer, Call, Event, Findings, Route, show};
use milvault_jobs::{
    Error, FieldError, Jobs, Precondition, Tag,
    schedule::{self, SchedulerUpdate},
};
use milvault_model::{AutoBackup, InstanceId, KeepAtLeast, Plan, RequestedSwitch, RetentionDays, RunTime, Zone};
use milvault_runtime::Invocation;
use milvault_wire::AutoBackupRequest;

#[derive(Debug, Clone, Copy)]
enum Action {
    Get,
    Put,
}

const ROUTES: [Route<Action>; 2] = [
    Route { http: Some("GET /instances/{instanceId}/auto-backup"), name: "get", action: Action::Get },
    Route { http: Some("PUT /instances/{instanceId}/auto-backup"), name: "put", action: Action::Put },
];

/// The warning to a caller who switches automatic backup off.
const SWITCHED_OFF: &str = "Automatic backup is switched off: the service makes no more backups of the instance by \
     itself, and data that is written after the last one can't be restored.";

/// The warning if the change is stored, but only the next sweep passes it to the scheduler.
const UNCONFIRMED: &str = "The scheduler may not have the change yet: the sweep will repeat it within twenty minutes.";

/// Answers one event.
///
/// # Errors
/// The reason why the event has no answer; [`Invocation::reply`] decides what the caller gets.
pub async fn handle(jobs: &Jobs, event: Event, _: &Invocation) -> Result<Answer, Error> {
    let call = Call::read(event, &ROUTES)?;
    let instance = call.instance()?;
    match call.action {
        Action::Get => {
            call.require_no_input()?;
            jobs.instance(&instance).await?;
            let record = schedule::find(jobs, &instance).await?;
            answer(jobs, &record, Vec::new()).await
        }
        Action::Put => {
            let precondition = call.precondition()?;
            put(jobs, &instance, call.body()?, &precondition).await
        }
    }
}

async fn answer(jobs: &Jobs, record: &AutoBackup, warnings: Vec<String>) -> Result<Answer, Error> {
    Ok(Answer::ok(show::auto_backup(jobs, record, warnings).await?).with_etag(&Tag::for_auto_backup(record)))
}

async fn put(
    jobs: &Jobs,
    instance: &InstanceId,
    request: AutoBackupRequest,
    precondition: &Precondition,
) -> Result<Answer, Error> {
    let asked = check(request)?;
    let wanted = asked.wanted;
    let (record, update) =
        schedule::change(jobs, instance, &|present| asked.plan(present), wanted, precondition).await?;
    let mut warnings = Vec::new();
    if wanted == RequestedSwitch::Off {
        warnings.push(SWITCHED_OFF.to_owned());
    }
    if update == SchedulerUpdate::BySweep {
        warnings.push(UNCONFIRMED.to_owned());
    }
    answer(jobs, &record, warnings).await
}

/// A checked request.
#[derive(Debug)]
struct Asked {
    wanted: RequestedSwitch,
    time: Option<RunTime>,
    timezone: Option<Zone>,
    retention_days: Option<RetentionDays>,
    keep_at_least: Option<KeepAtLeast>,
}

impl Asked {
    /// The plan that results from the request, given the present plan. A PUT replaces the settings: a missing field
    /// gets its default. When automatic backup is switched off, a missing field keeps its value, because otherwise the
    /// last backups that it keeps would expire.
    fn plan(&self, present: &Plan) -> Plan {
        let otherwise = match self.wanted {
            RequestedSwitch::On => Plan::default(),
            RequestedSwitch::Off => present.clone(),
        };
        Plan {
            time: self.time.unwrap_or(otherwise.time),
            timezone: self.timezone.unwrap_or(otherwise.timezone),
            retention_days: self.retention_days.unwrap_or(otherwise.retention_days),
            keep_at_least: self.keep_at_least.unwrap_or(otherwise.keep_at_least),
        }
    }
}

fn check(request: AutoBackupRequest) -> Result<Asked, Error> {
    fn field<T, E: ToString>(pointer: &str, checked: Option<Result<T, E>>) -> Result<Option<T>, FieldError> {
        checked.transpose().map_err(|reason| FieldError::new(pointer, reason.to_string()))
    }
    let mut findings = Findings::default();
    let time = findings.keep(field("/time", request.time.map(|time| time.parse())));
    let timezone = findings.keep(field("/timezone", request.timezone.map(|zone| zone.parse())));
    let retention_days = findings.keep(field("/retentionDays", request.retention_days.map(TryInto::try_into)));
    let keep_at_least = findings.keep(field("/keepAtLeast", request.keep_at_least.map(TryInto::try_into)));
    findings.report()?;
    let wanted = if request.enabled { RequestedSwitch::On } else { RequestedSwitch::Off };
    Ok(Asked { wanted, time, timezone, retention_days, keep_at_least })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(request: Value) -> Result<(Plan, RequestedSwitch), Vec<String>> {
        let request: AutoBackupRequest = serde_json::from_value(request).unwrap();
        super::check(request).map(|asked| (asked.plan(&Plan::default()), asked.wanted)).map_err(|error| match error {
            Error::Invalid(found) => found.into_iter().map(|found| found.pointer).collect(),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn what_is_left_out_is_every_day_at_three_utc_kept_for_three_days() {
        let (plan, wanted) = check(json!({ "enabled": true })).unwrap();
        assert_eq!((plan.time.to_string(), plan.timezone.to_string()), ("03:00:00".to_owned(), "UTC".to_owned()));
        assert_eq!((u32::from(plan.retention_days), plan.keep_at_least.count()), (3, 0));
        assert_eq!(wanted, RequestedSwitch::On);
        assert_eq!(check(json!({ "enabled": false })).unwrap().1, RequestedSwitch::Off);
    }

    #[test]
    fn every_field_that_is_not_right_is_pointed_at_in_one_answer() {
        let wrong = json!({ "enabled": true, "time": "03:00:30", "timezone": "Mars/Olympus", "retentionDays": 0,
                            "keepAtLeast": 366 });
        assert_eq!(check(wrong).unwrap_err(), ["/time", "/timezone", "/retentionDays", "/keepAtLeast"]);
        let edges = json!({ "enabled": true, "time": "23:59", "timezone": "Asia/Tokyo", "retentionDays": 365,
                            "keepAtLeast": 365 });
        assert!(check(edges).is_ok());
        assert_eq!(check(json!({ "enabled": true, "retentionDays": 366 })).unwrap_err(), ["/retentionDays"]);
    }
}
