//! Waiting for a job, with a bar that shows how far it is; where nobody sees one, with a line per step.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::{
    Error,
    api::Api,
    output::say,
    retry::{Patience, random},
    show::{bytes, field},
};

/// How often a job is asked for.
const POLL: Duration = Duration::from_secs(1);

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Backup,
    Verification,
    Restore,
    Rollback,
}

/// A job that the API has accepted. It is the API's: it goes on whatever becomes of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) kind: Kind,
    pub(crate) instance: &'a str,
    /// The backup's or the restore's.
    pub(crate) id: &'a str,
}

impl Job<'_> {
    /// What it is called.
    fn name(&self) -> String {
        let Self { kind, id, .. } = self;
        match kind {
            Kind::Backup => format!("backup {id}"),
            Kind::Verification => format!("verification of backup {id}"),
            Kind::Restore => format!("restore {id}"),
            Kind::Rollback => format!("rollback of restore {id}"),
        }
    }

    /// The command that shows it.
    fn show(&self) -> String {
        let Self { kind, instance, id } = self;
        match kind {
            Kind::Backup | Kind::Verification => format!("milvault backup show {instance} {id}"),
            Kind::Restore | Kind::Rollback => format!("milvault restore show {instance} {id}"),
        }
    }

    fn path(&self) -> [&str; 4] {
        match self.kind {
            Kind::Backup | Kind::Verification => ["instances", self.instance, "backups", self.id],
            Kind::Restore | Kind::Rollback => ["instances", self.instance, "restores", self.id],
        }
    }

    fn status(&self, found: &Value) -> String {
        match self.kind {
            // Of a backup that is deleted meanwhile, the verification stays what it was.
            Kind::Verification if !matches!(field(found, "status").as_str(), "AVAILABLE" | "DAMAGED") => {
                field(found, "status")
            }
            Kind::Verification => field(found, "verification.status"),
            Kind::Backup | Kind::Restore | Kind::Rollback => field(found, "status"),
        }
    }

    /// Says which job it is that isn't waited for.
    pub(crate) fn leave(&self) {
        say(format!("{}: see how it goes with: {}", self.name(), self.show()));
    }

    /// What the job is about once it is over, with every collection.
    ///
    /// # Errors
    /// Whatever ended the waiting, with how to look at the job, which goes on.
    pub(crate) async fn ended(&self, api: &Api) -> Result<Value, Error> {
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

    async fn follow(&self, api: &Api, progress: &Progress) -> Result<Value, Error> {
        progress.line(&format!("{}; it goes on if you leave: {}", self.name(), self.show()));
        let mut patience = Patience::heard(Instant::now());
        let mut last = None;
        loop {
            let pause = match api.get(&self.path(), &[("limit", "1".to_owned())]).await {
                Ok(found) if !matches!(self.status(&found).as_str(), "PENDING" | "RUNNING") => break,
                Ok(found) => {
                    patience = Patience::heard(Instant::now());
                    let step = Step::of(self.status(&found), &found);
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

/// How far a job is.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// Its phase, or its status where it has none.
    name: String,
    percent: Option<u64>,
    details: String,
}

impl Step {
    fn of(status: String, found: &Value) -> Self {
        let number = |name: &str| found.pointer(&format!("/progress/{name}")).and_then(Value::as_u64);
        let phase = field(found, "phase");
        let mut details = Vec::new();
        if let (Some(done), Some(total)) = (number("bytesDone"), number("bytesTotal").filter(|total| *total > 0)) {
            details.push(format!("{} of {}", bytes(done), bytes(total)));
        }
        details.extend(number("etaSeconds").map(|seconds| format!("{seconds} s left")));
        Self {
            name: if phase.is_empty() { status } else { phase },
            percent: number("percent"),
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
        self.0.set_position(step.percent.unwrap_or_default());
        self.0.set_prefix(step.details.clone());
        self.0.tick();
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_log_has_each_phase_and_each_tenth_of_it_once() {
        let step = |phase: &str, percent: u64| {
            let job = json!({ "status": "RUNNING", "phase": phase, "progress": { "percent": percent } });
            Step::of("RUNNING".to_owned(), &job)
        };
        assert!(step("COPY", 41).is_news(None));
        assert!(!step("COPY", 49).is_news(Some(&step("COPY", 41))));
        assert!(step("COPY", 50).is_news(Some(&step("COPY", 49))));
        assert!(step("VERIFY", 41).is_news(Some(&step("COPY", 41))));
    }

    #[test]
    fn a_job_without_a_phase_shows_its_status() {
        let step = Step::of("PENDING".to_owned(), &json!({ "status": "PENDING" }));
        assert_eq!(step, Step { name: "PENDING".to_owned(), percent: None, details: String::new() });
    }

    #[test]
    fn a_verification_is_over_when_its_backup_is() {
        let job = Job { kind: Kind::Verification, instance: "orders", id: "bk-1" };
        let of = |status: &str| job.status(&json!({ "status": status, "verification": { "status": "RUNNING" } }));
        assert_eq!([of("AVAILABLE"), of("DAMAGED"), of("DELETED")], ["RUNNING", "RUNNING", "DELETED"]);
    }

    #[test]
    fn a_job_says_which_command_shows_it() {
        let job = Job { kind: Kind::Rollback, instance: "orders", id: "rs-1" };
        assert_eq!(job.show(), "milvault restore show orders rs-1");
        assert_eq!(job.path(), ["instances", "orders", "restores", "rs-1"]);
    }
}
