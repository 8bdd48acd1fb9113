//! Metrics in CloudWatch's embedded metric format: a JSON line in the log is a metric, without a call.
//! (Amazon CloudWatch User Guide, "Specification: Embedded metric format".)

use milvault_model::{InstanceId, Notice, NoticeKind, Time};
use serde_json::{Map, Value, json};

use crate::logging;

/// A metric's unit, in CloudWatch's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// A number of things per second.
    CountPerSecond,
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Bytes => "Bytes",
            Self::Seconds => "Seconds",
            Self::CountPerSecond => "Count/Second",
        }
    }
}

/// A metric's name, unit and value.
pub type Metric = (&'static str, Unit, f64);

/// The subject of metrics: the deployment, or an instance, and possibly one of its backups or restores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About<'a> {
    instance: Option<&'a InstanceId>,
    backup: Option<&'a str>,
    restore: Option<&'a str>,
}

impl<'a> About<'a> {
    /// The deployment as the subject.
    pub fn deployment() -> Self {
        Self::default()
    }

    /// An instance as the subject.
    pub fn instance(instance: &'a InstanceId) -> Self {
        Self { instance: Some(instance), ..Self::default() }
    }

    fn notice(notice: &'a Notice) -> Self {
        let id = |name: &str| notice.detail.get(name).and_then(Value::as_str);
        let (restore, backup) = (id("restoreId"), id("backupId"));
        // A restore's notice also names its backup.
        Self { restore, backup: backup.filter(|_| restore.is_none()), ..Self::instance(&notice.instance_id) }
    }
}

/// Writes metrics to the log, if the deployment wants them (`METRICS_NAMESPACE`).
pub fn emit(at: Time, about: &About<'_>, metrics: &[Metric]) {
    let namespace = std::env::var("METRICS_NAMESPACE").ok().filter(|namespace| !namespace.is_empty());
    if let Some(namespace) = namespace
        && !metrics.is_empty()
    {
        println!("{}", line(&namespace, at, about, logging::request_id().as_deref(), metrics));
    }
}

/// Writes the metrics of published notices, with the present time. If the event bus couldn't be reached for a while,
/// alarms have already evaluated the time at which the events happened.
pub(crate) fn emit_for(notices: &[Notice], now: Time) {
    for notice in notices {
        emit(now, &About::notice(notice), &notice_metrics(notice));
    }
}

/// A log line with metrics. Each metric of an instance is also one of the deployment, because alarms use the sum. The
/// other subjects are properties rather than dimensions, since each value of a dimension is a metric that costs money;
/// they have the names that spans use.
fn line(namespace: &str, at: Time, about: &About<'_>, request_id: Option<&str>, metrics: &[Metric]) -> Value {
    let definitions: Vec<Value> =
        metrics.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit.word() })).collect();
    let dimensions = if about.instance.is_some() { json!([[], ["InstanceId"]]) } else { json!([[]]) };
    let mut line = Map::from_iter([(
        "_aws".to_owned(),
        json!({
            "Timestamp": at.timestamp_millis(),
            "CloudWatchMetrics": [{ "Namespace": namespace, "Dimensions": dimensions, "Metrics": definitions }],
        }),
    )]);
    line.extend(about.instance.map(|instance| ("InstanceId".to_owned(), json!(instance))));
    for (name, property) in [("requestId", request_id), ("backup", about.backup), ("restore", about.restore)] {
        line.extend(property.map(|property| (name.to_owned(), json!(property))));
    }
    line.extend(metrics.iter().map(|(name, _, value)| ((*name).to_owned(), json!(value))));
    Value::Object(line)
}

fn notice_metrics(notice: &Notice) -> Vec<Metric> {
    let mut metrics = vec![(count(notice.kind), Unit::Count, 1.0)];
    let number = |name: &str| notice.detail.get(name).and_then(Value::as_f64);
    let began = notice.detail.get("startedAt").and_then(Value::as_str).and_then(|time| time.parse::<Time>().ok());
    let took = began.map(|began| (notice.at - began).as_seconds_f64()).filter(|took| *took > 0.0);
    match notice.kind {
        NoticeKind::BackupCompleted | NoticeKind::BackupIncomplete => {
            metrics.extend(took.map(|took| ("BackupDuration", Unit::Seconds, took)));
            metrics.extend(number("sizeBytes").map(|bytes| ("BackupSize", Unit::Bytes, bytes)));
            metrics.extend(number("addedBytes").map(|bytes| ("BackupAdded", Unit::Bytes, bytes)));
            let objects = number("objects").zip(took).map(|(objects, took)| objects / took);
            metrics.extend(objects.map(|rate| ("BackupObjectRate", Unit::CountPerSecond, rate)));
        }
        NoticeKind::RestoreCompleted | NoticeKind::RestoreIncomplete => {
            metrics.extend(took.map(|took| ("RestoreDuration", Unit::Seconds, took)));
        }
        _ => {}
    }
    metrics
}

fn count(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::BackupCompleted => "BackupsCompleted",
        NoticeKind::BackupIncomplete => "BackupsIncomplete",
        NoticeKind::BackupFailed => "BackupsFailed",
        NoticeKind::BackupCancelled => "BackupsCancelled",
        NoticeKind::BackupExpired => "BackupsExpired",
        NoticeKind::BackupDamaged => "BackupsDamaged",
        NoticeKind::RestoreCompleted => "RestoresCompleted",
        NoticeKind::RestoreIncomplete => "RestoresIncomplete",
        NoticeKind::RestoreFailed => "RestoresFailed",
        NoticeKind::RestoreCancelled => "RestoresCancelled",
        NoticeKind::RestoreRolledBack => "RestoresRolledBack",
        NoticeKind::AutomaticBackupLate => "AutomaticBackupsLate",
        NoticeKind::AutomaticBackupFailed => "AutomaticBackupsFailed",
        NoticeKind::AutomaticBackupMissed => "AutomaticBackupsMissed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed() -> Notice {
        serde_json::from_value(json!({
            "instanceId": "orders", "id": "bk-1.BackupCompleted", "kind": "BackupCompleted", "at": "2026-11-23T03:00:30Z",
            "detail": { "backupId": "bk-1", "startedAt": "2026-11-23T03:00:10Z", "sizeBytes": 1000, "addedBytes": 40, "objects": 500 }
        }))
        .unwrap()
    }

    #[test]
    fn a_line_is_as_the_format_specifies() {
        let notice = completed();
        let line = line("Milvault/x", notice.at, &About::notice(&notice), Some("request-7"), &notice_metrics(&notice));
        let expected = json!({
            "_aws": {
                "Timestamp": 1_795_402_830_000_i64,
                "CloudWatchMetrics": [{
                    "Namespace": "Milvault/x",
                    "Dimensions": [[], ["InstanceId"]],
                    "Metrics": [
                        { "Name": "BackupsCompleted", "Unit": "Count" },
                        { "Name": "BackupDuration", "Unit": "Seconds" },
                        { "Name": "BackupSize", "Unit": "Bytes" },
                        { "Name": "BackupAdded", "Unit": "Bytes" },
                        { "Name": "BackupObjectRate", "Unit": "Count/Second" },
                    ],
                }],
            },
            "InstanceId": "orders",
            "requestId": "request-7",
            "backup": "bk-1",
            "BackupsCompleted": 1.0,
            "BackupDuration": 20.0,
            "BackupSize": 1000.0,
            "BackupAdded": 40.0,
            "BackupObjectRate": 25.0,
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn what_is_of_the_deployment_has_no_instance() {
        let line = line("Milvault/x", completed().at, &About::deployment(), None, &[("JobsStalled", Unit::Count, 2.0)]);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([[]]));
        assert_eq!((&line["JobsStalled"], line.get("InstanceId")), (&json!(2.0), None));
    }

    #[test]
    fn a_restores_line_names_the_restore_and_not_the_backup_that_it_is_of() {
        let mut notice = completed();
        notice.detail.insert("restoreId".to_owned(), json!("rs-1"));
        let line = line("Milvault/x", notice.at, &About::notice(&notice), None, &notice_metrics(&notice));
        assert_eq!((&line["restore"], line.get("backup"), line.get("requestId")), (&json!("rs-1"), None, None));
    }

    #[test]
    fn an_incomplete_backup_is_counted_apart_and_measured_like_a_complete_one() {
        let mut notice = completed();
        let complete = notice_metrics(&notice);
        notice.kind = NoticeKind::BackupIncomplete;
        let incomplete = notice_metrics(&notice);
        assert_eq!(incomplete[0], ("BackupsIncomplete", Unit::Count, 1.0));
        assert_eq!(incomplete[1..], complete[1..]);
    }

    #[test]
    fn a_notice_without_a_duration_is_counted_all_the_same() {
        let mut notice = completed();
        notice.detail.clear();
        assert_eq!(notice_metrics(&notice), [("BackupsCompleted", Unit::Count, 1.0)]);
        notice.kind = NoticeKind::AutomaticBackupMissed;
        assert_eq!(notice_metrics(&notice), [("AutomaticBackupsMissed", Unit::Count, 1.0)]);
    }
}
