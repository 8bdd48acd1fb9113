//! The commands for the automatic daily backup.

use milvault_wire::{AutoBackupRequest, AutoBackupView};

use super::confirmation::confirm;
use crate::{
    Error,
    api::{Answer, Api, Condition},
    arguments::AutoCommand,
    form::Form,
    output::warn,
    show::{completeness, facts, known, text, time},
};

pub(super) async fn run(api: &Api, form: Form, command: AutoCommand) -> Result<(), Error> {
    match command {
        AutoCommand::Show { instance } => {
            form.print(&api.get(&["instances", &instance, "auto-backup"], &[]).await?, show)
        }
        AutoCommand::On { instance, time, timezone, retention_days, keep_at_least } => {
            let path = ["instances", &instance, "auto-backup"];
            let (present, tag): (AutoBackupView, _) = api.get_tagged(&path).await?;
            let request = AutoBackupRequest {
                enabled: true,
                time: Some(time.map_or(present.time, to_the_second)),
                timezone: Some(timezone.unwrap_or(present.timezone)),
                retention_days: Some(retention_days.unwrap_or(present.retention_days)),
                keep_at_least: Some(keep_at_least.unwrap_or(present.keep_at_least)),
            };
            form.print(&api.put(&path, &request, tag.map(Condition::Unchanged)).await?, show)
        }
        AutoCommand::Off { instance, confirmation } => {
            let what = format!(
                "From now on, no automatic backup of {instance} is made: data written after the last backup cannot be restored."
            );
            confirm(confirmation, &what)?;
            let request = AutoBackupRequest { enabled: false, ..AutoBackupRequest::default() };
            let answer: Answer<AutoBackupView> =
                api.put(&["instances", &instance, "auto-backup"], &request, None).await?;
            form.print(&answer, show)?;
            warn(&answer.object.warnings);
            Ok(())
        }
    }
}

/// Returns a time of day in the form that the API answers, so that the put object can be compared with the answer.
fn to_the_second(time: String) -> String {
    if time.len() == "HH:MM".len() { format!("{time}:00") } else { time }
}

fn show(found: &AutoBackupView) -> String {
    let last = found.last_run.as_ref();
    let failure = last.and_then(|last| last.failure.as_ref());
    let plan = [
        ("enabled", text(found.enabled)),
        ("time", text(&found.time)),
        ("time zone", text(&found.timezone)),
        ("kept for days", text(found.retention_days)),
        ("at least", text(found.keep_at_least)),
        ("next run", time(found.next_run_at.as_ref())),
        ("last run", known(last.map(|last| &last.status))),
        ("at", time(last.map(|last| &last.at))),
        ("backup", known(last.and_then(|last| last.backup_id.as_ref()))),
        ("failure", known(failure.map(|failure| &failure.message))),
    ];
    let backup = last.map(|last| completeness(&last.completeness)).unwrap_or_default();
    facts(&plan.into_iter().chain(backup).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn a_last_run_that_made_an_incomplete_backup_shows_it() {
        let shown = |last_run: Value| {
            let found = json!({
                "enabled": true, "time": "03:00:00", "timezone": "UTC", "retentionDays": 3, "keepAtLeast": 0,
                "nextRunAt": "2026-11-23T03:00:00.000Z", "lastRun": last_run
            });
            show(&from_value(found).unwrap())
        };
        let plan = "enabled        true\ntime           03:00:00\ntime zone      UTC\nkept for days  3\nat least       0\n\
                    next run       2026-11-23 03:00:00Z\n";
        assert_eq!(shown(json!(null)), plan);
        let last = json!({ "status": "COMPLETED", "complete": false, "incompleteReasons": ["default.b: broken"] });
        let run = "last run       COMPLETED\ncomplete       no\nincomplete     default.b: broken\n";
        assert_eq!(shown(last), format!("{plan}{run}"));
    }
}
