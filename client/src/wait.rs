//! Waiting for a job, with a bar that shows how far it is; where nobody sees one, with a line per step.

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

/// How often a job is asked for.
const POLL: Duration = Duration::from_secs(1);

/// A job that the API has accepted. It is the API's: it goes on whatever becomes of this process. It is told from a `T`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a, T> {
    /// What is done, where that isn't what it is done to: `verification of `.
    what: &'static str,
    /// The command that shows it.
    command: &'static str,
    /// Where the API has it.
    resource: &'static str,
    instance: &'a str,
    /// The backup's or the restore's.
    id: &'a str,
    /// How far it is; `None` once it is over.
    step: fn(&T) -> Option<Step>,
}

impl<'a> Job<'a, BackupDescription> {
    /// The taking of a backup.
    pub(crate) fn backup(instance: &'a str, id: &'a str) -> Self {
        Self { what: "", command: "backup", resource: "backups", instance, id, step: backup_step }
    }

    /// The verification of a backup.
    pub(crate) fn verification(instance: &'a str, id: &'a str) -> Self {
        Self { what: "verification of ", step: verification_step, ..Self::backup(instance, id) }
    }
}

impl<'a> Job<'a, RestoreDescription> {
    /// A restore.
    pub(crate) fn restore(instance: &'a str, id: &'a str) -> Self {
        Self { what: "", command: "restore", resource: "restores", instance, id, step: restore_step }
    }

    /// The rollback of a restore.
    pub(crate) fn rollback(instance: &'a str, id: &'a str) -> Self {
        Self { what: "rollback of ", ..Self::restore(instance, id) }
    }
}

impl<T: DeserializeOwned> Job<'_, T> {
    /// What it is called.
    fn name(&self) -> String {
        format!("{}{} {}", self.what, self.command, self.id)
    }

    /// The command that shows it.
    fn show(&self) -> String {
        format!("milvault {} show {} {}", self.command, self.instance, self.id)
    }

    fn path(&self) -> [&str; 4] {
        ["instances", self.instance, self.resource, self.id]
    }

    /// Says which job it is that isn't waited for.
    pub(crate) fn leave(&self) {
        say(format!("{}: see how it goes with: {}", self.name(), self.show()));
    }

    /// What the job is about once it is over, with every collection.
    ///
    /// # Errors
    /// Whatever ended the waiting, with how to look at the job, which goes on.
    pub(crate) async fn ended(&self, api: &Api) -> Result<Answer<T>, Error> {
        let goes_on = || format!("{} goes on; see how with: {}", self.name(), self.show());
        let progress = Progress::new();
        let followed = tokio::select! {
            // First, so that nobody who has read the job's id finds the signal unheeded.
            biased;
            Ok(()) = tokio::signal::ctrl_c() => Err(Error::Interrupted { goes_on: goes_on() }),
            followed = self.follow(api, &progress) => {
                followed.map_err(|why| Error::Waiting { why: Box::new(why), goes_on: goes_on() })
            }
        };
        progress.clear();
        followed
    }

    async fn follow(&self, api: &Api, progress: &Progress) -> Result<Answer<T>, Error> {
        progress.line(&format!("{}; it goes on if you leave: {}", self.name(), self.show()));
        let mut patience = Patience::heard(Instant::now());
        let mut last = None;
        loop {
            let found = api.get::<T>(&self.path(), &[("limit", "1".to_owned())]).await;
            let pause = match found.map(|found| (self.step)(&found.object)) {
                Ok(None) => break,
                Ok(Some(step)) => {
                    patience = Patience::heard(Instant::now());
                    progress.show(&step, last.as_ref());
                    last = Some(step);
                    POLL
                }
                // Credentials too may be there again: somebody signs on, or a service has started anew.
                Err(why) if why.passes() => {
                    let Some(pause) = patience.in_vain(Instant::now(), random()) else { return Err(why) };
                    progress.line(&format!("{why}; trying again"));
                    pause
                }
                Err(why) => return Err(why),
            };
            tokio::time::sleep(pause).await;
        }
        api.whole(&self.path(), &[]).await
    }
}

/// How far the taking of a backup is; a status that isn't known is none to wait in.
fn backup_step(found: &BackupDescription) -> Option<Step> {
    let backup = &found.backup;
    let is_over = !matches!(backup.status, Open::Known(BackupStatus::Pending | BackupStatus::Running));
    (!is_over).then(|| Step::of(backup.phase.as_ref(), text(&backup.status), backup.progress.as_ref()))
}

/// How far the verification of a backup is. Of a backup that is deleted meanwhile, the verification stays what it was.
fn verification_step(found: &BackupDescription) -> Option<Step> {
    let backup = &found.backup;
    let verification = found.verification.as_ref()?;
    let is_over = !matches!(backup.status, Open::Known(BackupStatus::Available | BackupStatus::Damaged))
        || verification.status != VerificationStatus::Running;
    (!is_over).then(|| Step::of(backup.phase.as_ref(), text(&verification.status), backup.progress.as_ref()))
}

/// How far a restore or its rollback is.
fn restore_step(found: &RestoreDescription) -> Option<Step> {
    let restore = &found.restore;
    let is_over = !matches!(restore.status, Open::Known(RestoreStatus::Pending | RestoreStatus::Running));
    (!is_over).then(|| Step::of(restore.phase.as_ref(), text(&restore.status), restore.progress.as_ref()))
}

/// How far a job is.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// Its phase, or its status where it has none.
    name: String,
    percent: Option<u8>,
    details: String,
}

impl Step {
    fn of(phase: Option<&String>, status: String, progress: Option<&ProgressView>) -> Self {
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

    /// Whether a log should have it: another phase, or a tenth more of it.
    fn is_news(&self, last: Option<&Self>) -> bool {
        let tenth = |step: &Self| step.percent.map(|percent| percent / 10);
        last.is_none_or(|last| (&last.name, tenth(last)) != (&self.name, tenth(self)))
    }
}

/// What is seen of a job while it runs.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new(100).with_message("PENDING");
        if let Ok(style) = ProgressStyle::with_template("{msg:<10} [{bar:30}] {percent:>3} % {prefix}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }

    /// A line above the bar.
    fn line(&self, text: &str) {
        self.0.suspend(|| say(text));
    }

    fn show(&self, step: &Step, last: Option<&Step>) {
        if self.0.is_hidden() {
            if step.is_news(last) {
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
    fn a_log_has_each_phase_and_each_tenth_of_it_once() {
        let step = |phase: &str, percent: u64| {
            let job = json!({ "status": "RUNNING", "phase": phase, "progress": { "percent": percent } });
            backup_step(&backup(job)).unwrap()
        };
        assert!(step("COPY", 41).is_news(None));
        assert!(!step("COPY", 49).is_news(Some(&step("COPY", 41))));
        assert!(step("COPY", 50).is_news(Some(&step("COPY", 49))));
        assert!(step("VERIFY", 41).is_news(Some(&step("COPY", 41))));
    }

    #[test]
    fn a_job_without_a_phase_shows_its_status() {
        let step = backup_step(&backup(json!({ "status": "PENDING" }))).unwrap();
        assert_eq!(step, Step { name: "PENDING".to_owned(), percent: None, details: String::new() });
    }

    #[test]
    fn bytes_and_the_time_left_are_shown_where_they_are_known() {
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
    fn a_status_of_a_later_release_is_none_to_wait_in() {
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
    fn a_job_says_which_command_shows_it() {
        let job = Job::rollback("orders", "rs-1");
        assert_eq!(job.name(), "rollback of restore rs-1");
        assert_eq!(job.show(), "milvault restore show orders rs-1");
        assert_eq!(job.path(), ["instances", "orders", "restores", "rs-1"]);
        assert_eq!(Job::verification("orders", "bk-1").name(), "verification of backup bk-1");
    }
}
