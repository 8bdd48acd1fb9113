//! Logs, metrics, alarms and what users are told.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Template, text};

#[test]
fn the_log_lines_of_lambda_itself_are_json() {
    let logging = &Template::read().0["Globals"]["Function"]["LoggingConfig"];
    assert_eq!((text(&logging["LogGroup"]), text(&logging["LogFormat"])), ("Logs", "JSON"));
}

#[test]
fn the_dashboard_and_the_alarms_cover_calls_and_scheduled_runs() {
    let template = Template::read();
    let dashboard = &template.resources("AWS::CloudWatch::Dashboard")["Dashboard"]["Properties"]["DashboardBody"];
    let dashboard: serde_json::Value = serde_json::from_str(text(dashboard)).unwrap();
    let mut shown = BTreeSet::new();
    for widget in dashboard["widgets"].as_array().unwrap() {
        for metric in widget["properties"]["metrics"].as_array().unwrap() {
            let part = |index: usize| metric[index].as_str().unwrap_or_default().to_owned();
            shown.insert((part(0), part(1)));
            if let Some(search) = metric[0]["expression"].as_str() {
                // A name with a slash has to be in quotes.
                assert!(search.starts_with("SEARCH('{\"Milvault/${AWS::StackName}\",InstanceId} "), "{search}");
            }
        }
    }
    let alarms = template.resources("AWS::CloudWatch::Alarm");
    for (alarm, namespace, metric, dimension) in [
        ("ApiErrorsAlarm", "AWS/ApiGateway", "5xx", "Api"),
        ("DeadLettersAlarm", "AWS/SQS", "NumberOfMessagesSent", "ScheduleDeadLetters.QueueName"),
        ("ThrottledReadsAlarm", "AWS/DynamoDB", "ReadThrottleEvents", "CatalogTable"),
        ("ThrottledWritesAlarm", "AWS/DynamoDB", "WriteThrottleEvents", "CatalogTable"),
    ] {
        let found = &alarms[alarm]["Properties"];
        assert_eq!((text(&found["Namespace"]), text(&found["MetricName"])), (namespace, metric), "{alarm}");
        assert_eq!(text(&found["Dimensions"][0]["Value"]), dimension, "{alarm}");
        assert!(shown.contains(&(namespace.to_owned(), metric.to_owned())), "{metric} isn't on the dashboard");
    }
}

#[test]
fn api_calls_are_logged_without_their_bodies() {
    let template = Template::read();
    let log = &template.resources("AWS::ApiGatewayV2::Stage")["ApiStage"]["Properties"]["AccessLogSettings"];
    assert!(text(&log["DestinationArn"]).ends_with(":log-group:${Logs}"));
    let format: BTreeMap<String, String> = serde_json::from_str(text(&log["Format"])).unwrap();
    assert!(["requestId", "caller", "route", "status"].iter().all(|field| format.contains_key(*field)));
    // Values of queries and headers could contain anything.
    assert!(format.values().all(|value| !value.contains("query") && !value.contains("header")), "{format:?}");
}

#[test]
fn subscribers_to_failures_get_every_kind_of_failure() {
    use milvault_model::NoticeKind::{
        AutomaticBackupFailed, AutomaticBackupLate, AutomaticBackupMissed, BackupDamaged, BackupFailed,
        BackupIncomplete, RestoreFailed, RestoreIncomplete,
    };
    let template = Template::read();
    let pattern = &template.resources("AWS::Events::Rule")["FailureRule"]["Properties"]["EventPattern"];
    let told: BTreeSet<&str> = pattern["detail-type"].as_sequence().unwrap().iter().map(text).collect();
    let failures = [
        AutomaticBackupFailed,
        AutomaticBackupLate,
        AutomaticBackupMissed,
        BackupDamaged,
        BackupFailed,
        BackupIncomplete,
        RestoreFailed,
        RestoreIncomplete,
    ];
    assert_eq!(told, failures.map(|kind| kind.detail_type()).into());
}

#[test]
fn every_metric_of_an_alarm_or_the_dashboard_is_published() {
    let template = Template::read();
    let namespace = "Milvault/${AWS::StackName}";
    let mut looked_at: BTreeSet<String> = template
        .resources("AWS::CloudWatch::Alarm")
        .values()
        .filter(|alarm| text(&alarm["Properties"]["Namespace"]) == namespace)
        .map(|alarm| text(&alarm["Properties"]["MetricName"]).to_owned())
        .collect();
    assert!(looked_at.len() > 5);
    let dashboard = &template.resources("AWS::CloudWatch::Dashboard")["Dashboard"]["Properties"]["DashboardBody"];
    let metric = format!("[\"{namespace}\", \"");
    let named = text(dashboard).split(&metric).skip(1);
    looked_at.extend(named.map(|rest| rest.split('"').next().unwrap().to_owned()));
    let sources = ["shared/runtime/src/metrics.rs", "retention-sweep/src/lib.rs", "usage/src/lib.rs"];
    let told = sources.map(|source| {
        std::fs::read_to_string(format!("{}/../../functions/{source}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    });
    for metric in looked_at {
        assert!(told.iter().any(|source| source.contains(&format!("\"{metric}\""))), "{metric}");
    }
}
