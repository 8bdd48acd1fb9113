//! The automatic daily backup.

use serde_json::{Value, json};

use super::{Form, confirm, said, warn};
use crate::{
    Error,
    api::{Api, Condition},
    arguments::AutoCommand,
    show::{completeness, facts, field, time},
};

pub(super) async fn run(api: &Api, form: Form, command: AutoCommand) -> Result<(), Error> {
    match command {
        AutoCommand::Show { instance } => {
            form.print(&api.get(&["instances", &instance, "auto-backup"], &[]).await?, show)
        }
        AutoCommand::On { instance, time, timezone, retention_days, keep_at_least } => {
            let path = ["instances", &instance, "auto-backup"];
            let (present, tag) = api.get_tagged(&path).await?;
            let as_it_is = |name: &str| present.get(name).cloned();
            let body = said(vec![
                ("enabled", Some(json!(true))),
                ("time", time.map(|time| json!(to_the_second(time))).or_else(|| as_it_is("time"))),
                ("timezone", timezone.map(|zone| json!(zone)).or_else(|| as_it_is("timezone"))),
                ("retentionDays", retention_days.map(|days| json!(days)).or_else(|| as_it_is("retentionDays"))),
                ("keepAtLeast", keep_at_least.map(|count| json!(count)).or_else(|| as_it_is("keepAtLeast"))),
            ]);
            form.print(&api.put(&path, &body, tag.map(Condition::Unchanged)).await?, show)
        }
        AutoCommand::Off { instance, confirmation } => {
            let what =
                format!("From now on no automatic backup of {instance} is taken: what is lost can't be brought back.");
            confirm(confirmation, &what)?;
            let answer = api.put(&["instances", &instance, "auto-backup"], &json!({ "enabled": false }), None).await?;
            form.print(&answer, show)?;
            warn(&answer);
            Ok(())
        }
    }
}

/// A time of day as the API answers it, so that what was put can be told from what is there.
fn to_the_second(time: String) -> String {
    if time.len() == "HH:MM".len() { format!("{time}:00") } else { time }
}

fn show(found: &Value) -> String {
    let last = found.get("lastRun").map(completeness).unwrap_or_default();
    let plan = [
        ("enabled", field(found, "enabled")),
        ("time", field(found, "time")),
        ("time zone", field(found, "timezone")),
        ("kept for days", field(found, "retentionDays")),
        ("at least", field(found, "keepAtLeast")),
        ("next run", time(found, "nextRunAt")),
        ("last run", field(found, "lastRun.status")),
        ("at", time(found, "lastRun.at")),
        ("backup", field(found, "lastRun.backupId")),
        ("failure", field(found, "lastRun.failure.message")),
    ];
    facts(&plan.into_iter().chain(last).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_run_that_made_an_incomplete_backup_says_so() {
        let last = json!({ "status": "COMPLETED", "complete": false, "incompleteReasons": ["default.b: broken"] });
        assert_eq!(
            show(&json!({ "enabled": true, "lastRun": last })),
            "enabled     true\nlast run    COMPLETED\ncomplete    no\nincomplete  default.b: broken\n"
        );
        assert_eq!(show(&json!({ "enabled": true, "lastRun": null })), "enabled  true\n");
    }
}
