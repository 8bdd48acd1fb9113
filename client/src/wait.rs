//! The wait for a job, with a progress bar, or with one line per step if there is no terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use milvault_model::{BackupStatus, RestoreStatus};
use milvault_wire::{BackupDescription, Open, ProgressView, RestoreDescription, VerificationStatus};
use serde::de::DeserializeOwned;

use crate::{
    Error,
    api::{Answer, Api},
    output::say,
    retry::{Patience, random},
    show::{bytes, known, text},
};

/// The interval at which a job is polled.
const POLL: Duration = Duration::from_secs(1);

/// A job that the API has accepted. It continues even if this process ends. Its progress is read from a `T`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a, T> {
    /// The start of the job's name, if it isn't named like its object: `verification of `.
    prefix: &'static str,
    /// The command that shows the object.
    command: &'static str,
    /// The object's resource in the API.
    resource: &'static str,
    instance: &'a str,
    /// The id of the backup or the restore.
    id: &'a str,
    /// Returns the job's present step; `None` once it has ended.
    step: fn(&T) -> Option<Step>,
}

impl<'a> Job<'a, BackupDescription> {
    /// The creation of a backup.
    pub(crate) fn backup(instance: &'a str, id: &'a str) -> Self {
        Self { prefix: "", command: "backup", resource: "backups", instance, id, step: backup_step }
    }

    /// The verification of a backup.
    pub(crate) fn verification(instance: &'a str, id: &'a str) -> Self {
        Self { prefix: "verification of ", step: verification_step, ..Self::backup(instance, id) }
    }
}

impl<'a> Job<'a, RestoreDescription> {
    /// A restore.
    pub(crate) fn restore(instance: &'a str, id: &'a str) -> Self {
        Self { prefix: "", command: "restore", resource: "restores", instance, id, step: restore_step }
    }

    /// The rollback of a restore.
    pub(crate) fn rollback(instance: &'a str, id: &'a str) -> Self {
        Self { prefix: "rollback of ", ..Self::restore(instance, id) }
    }
}

impl<T: DeserializeOwned> Job<'_, T> {
    /// Returns the job's name in messages.
    fn name(&self) -> String {
        format!("{}{} {}", self.prefix, self.command, self.id)
    }

    /// Returns the command line that shows the object.
    fn show(&self) -> String {
        format!("milvault {} show {} {}", self.command, self.instance, self.id)
    }

    fn path(&self) -> [&str; 4] {
        ["instances", self.instance, self.resource, self.id]
    }

    /// Prints the command that shows a job that isn't waited for.
    pub(crate) fn print_hint(&self) {
        say(format!("{}: show its progress with: {}", self.name(), self.show()));
    }

    /// Waits for the job's end, and returns the object with all collections.
    ///
    /// # Errors
    /// The cause that ended the wait, with the command that shows the job, which continues.
    pub(crate) async fn wait(&self, api: &Api) -> Result<Answer<T>, Error> {
        let hint = || format!("{} continues; show its progress with: {}", self.name(), self.show());
        let progress = Progress::new();
        let followed = tokio::select! {
            // The signal is checked first, so that it works as soon as the job's id is printed.
            biased;
            Ok(()) = tokio::signal::ctrl_c() => Err(Error::Interrupted { hint: hint() }),
            followed = self.follow(api, &progress) => {
                followed.map_err(|cause| Error::Waiting { cause: Box::new(cause), hint: hint() })
            }
        };
        progress.clear();
        followed
    }

    async fn follow(&self, api: &Api, progress: &Progress) -> Result<Answer<T>, Error> {
        progress.line(&format!("{}; it continues if this program ends: {}", self.name(), self.show()));
        let mut patience = Patience::since(Instant::now());
        let mut last = None;
        loop {
            let found = api.get::<T>(&self.path(), &[("limit", "1".to_owned())]).await;
            let pause = match found.map(|found| (self.step)(&found.object)) {
                Ok(None) => break,
                Ok(Some(step)) => {
                    patience = Patience::since(Instant::now());
                    progress.show(&step, last.as_ref());
                    last = Some(step);
                    POLL
                }
                // Missing credentials may be transient too: the user signs on again, or a service restarts.
                Err(error) if error.is_transient() => {
                    let Some(pause) = patience.failed(Instant::now(), random()) else { return Err(error) };
                    progress.line(&format!("{error}; trying again"));
                    pause
                }
                Err(error) => return Err(error),
            };
            tokio::time::sleep(pause).await;
        }
        api.get_all(&self.path(), &[]).await
    }
}

/// Returns the step of a backup's creation; `None` if it has ended or has an unknown status.
fn backup_step(found: &BackupDescription) -> Option<Step> {
    let backup = &found.backup;
    let is_over = !matches!(backup.status, Open::Known(BackupStatus::Pending | BackupStatus::Running));
    (!is_over).then(|| Step::new(backup.phase.as_ref(), text(&backup.status), backup.progress.as_ref()))
}

/// Returns the step of a verification. If the backup is deleted during it, the verification never ends, so the backup's
/// status ends the wait.
fn verification_step(found: &BackupDescription) -> Option<Step> {
    let backup = &found.backup;
    let verification = found.verification.as_ref()?;
    let is_over = !matches!(backup.status, Open::Known(BackupStatus::Available | BackupStatus::Damaged))
        || verification.status != VerificationStatus::Running;
    (!is_over).then(|| Step::new(backup.phase.as_ref(), text(&verification.status), backup.progress.as_ref()))
}

/// Returns the step of a restore or its rollback.
fn restore_step(found: &RestoreDescription) -> Option<Step> {
    let restore = &found.restore;
    let is_over = !matches!(restore.status, Open::Known(RestoreStatus::Pending | RestoreStatus::Running));
    (!is_over).then(|| Step::new(restore.phase.as_ref(), text(&restore.status), restore.progress.as_ref()))
}

/// A step of a job.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// The job's phase, or its status if it has none.
    name: String,
    percent: Option<u8>,
    details: String,
}

impl Step {
    fn new(phase: Option<&String>, status: String, progress: Option<&ProgressView>) -> Self {
        let mut details = Vec::new();
        if let Some(ProgressView { bytes_done, bytes_total, eta_seconds, .. }) = progress {
            if *bytes_total > 0 {
                details.push(format!("{} of {}", bytes(*bytes_done), bytes(*bytes_total)));
            }
            details.extend(eta_seconds.map(|seconds| format!("{seconds} s left")));
        }
        let name = known(phase);
        Self {
            name: if name.is_empty() { status } else { name },
            percent: progress.map(|progress| progress.percent),
            details: details.join(", "),
        }
    }

    /// Whether the step is worth a line in a log: another phase, or another tenth of it.
    fn is_worth_a_line(&self, last: Option<&Self>) -> bool {
        let tenth = |step: &Self| step.percent.map(|percent| percent / 10);
        last.is_none_or(|last| (&last.name, tenth(last)) != (&self.name, tenth(self)))
    }
}

/// The display of a job's progress.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new(100).with_message("PENDING");
        if let Ok(style) = ProgressStyle::with_template("{msg:<10} [{bar:30}] {percent:>3} % {prefix}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }

    /// Prints a line above the bar.
    fn line(&self, text: &str) {
        self.0.suspend(|| say(text));
    }

    fn show(&self, step: &Step, last: Option<&Step>) {
        if self.0.is_hidden() {
            if step.is_worth_a_line(last) {
                say(match step.percent {
                    Some(percent) => format!("{} {percent} %", step.name),
                    None => step.name.clone(),
                });
            }
            return;
        }
        self.0.set_message(step.name.clone());
        self.0.set_position(step.percent.unwrap_or_default().into());
        self.0.set_prefix(step.details.clone());
        self.0.tick();
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn backup(more: Value) -> BackupDescription {
        let mut found = json!({ "backupId": "bk-1" });
        found.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        from_value(found).unwrap()
    }

    #[test]
    fn a_log_has_one_line_for_each_tenth_of_each_phase() {
        let step = |phase: &str, percent: u64| {
            let job = json!({ "status": "RUNNING", "phase": phase, "progress": { "percent": percent } });
            backup_step(&backup(job)).unwrap()
        };
        assert!(step("COPY", 41).is_worth_a_line(None));
        assert!(!step("COPY", 49).is_worth_a_line(Some(&step("COPY", 41))));
        assert!(step("COPY", 50).is_worth_a_line(Some(&step("COPY", 49))));
        assert!(step("VERIFY", 41).is_worth_a_line(Some(&step("COPY", 41))));
    }

    #[test]
    fn a_job_without_a_phase_shows_its_status() {
        let step = backup_step(&backup(json!({ "status": "PENDING" }))).unwrap();
        assert_eq!(step, Step { name: "PENDING".to_owned(), percent: None, details: String::new() });
    }

    #[test]
    fn bytes_and_the_remaining_time_are_shown_if_they_are_known() {
        let details = |progress: Value| {
            backup_step(&backup(json!({ "status": "RUNNING", "progress": progress }))).unwrap().details
        };
        assert_eq!(
            details(json!({ "bytesDone": 500, "bytesTotal": 2000, "etaSeconds": 3 })),
            "500 B of 2.0 kB, 3 s left"
        );
        assert_eq!(details(json!({ "bytesDone": 0, "bytesTotal": 0, "etaSeconds": null })), "");
    }

    #[test]
    fn an_unknown_status_ends_the_wait() {
        assert_eq!(backup_step(&backup(json!({ "status": "ARCHIVED" }))), None);
        let restore = |status: &str| from_value(json!({ "restoreId": "rs-1", "status": status })).unwrap();
        assert_eq!(restore_step(&restore("PAUSED")), None);
        assert_eq!(restore_step(&restore("RUNNING")).unwrap().name, "RUNNING");
    }

    #[test]
    fn a_verification_is_over_when_its_backup_is() {
        let of = |status: &str| {
            let found = json!({ "status": status, "verification": { "status": "RUNNING" } });
            verification_step(&backup(found)).map(|step| step.name)
        };
        assert_eq!(["AVAILABLE", "DAMAGED"].map(of), [Some("RUNNING".to_owned()), Some("RUNNING".to_owned())]);
        assert_eq!(of("DELETED"), None);
        let over = json!({ "status": "AVAILABLE", "verification": { "status": "COMPLETED" } });
        assert_eq!(verification_step(&backup(over)), None);
    }

    #[test]
    fn a_job_names_the_command_that_shows_it() {
        let job = Job::rollback("orders", "rs-1");
        assert_eq!(job.name(), "rollback of restore rs-1");
        assert_eq!(job.show(), "milvault restore show orders rs-1");
        assert_eq!(job.path(), ["instances", "orders", "restores", "rs-1"]);
        assert_eq!(Job::verification("orders", "bk-1").name(), "verification of backup bk-1");
    }
}
