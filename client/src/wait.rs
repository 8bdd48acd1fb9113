//! Waiting for a job, with a bar that shows how far it is.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::{
    Error,
    api::Api,
    show::{bytes, field},
};

/// How often a job is asked for.
const POLL: Duration = Duration::from_secs(1);

/// What is at a path once the job is over whose status is in that field.
pub(crate) async fn ended(api: &Api, path: &[&str], status: &str) -> Result<Value, Error> {
    let bar = ProgressBar::new(100);
    if let Ok(style) = ProgressStyle::with_template("{msg:<10} [{bar:30}] {percent:>3} % {prefix}") {
        bar.set_style(style.progress_chars("=> "));
    }
    loop {
        let job = api.get(path, &[]).await?;
        if !matches!(field(&job, status).as_str(), "PENDING" | "RUNNING") {
            bar.finish_and_clear();
            return Ok(job);
        }
        let number = |name: &str| job.pointer(&format!("/progress/{name}")).and_then(Value::as_u64);
        bar.set_message(match field(&job, "phase") {
            phase if phase.is_empty() => field(&job, status),
            phase => phase,
        });
        bar.set_position(number("percent").unwrap_or_default());
        let mut details = Vec::new();
        if let (Some(done), Some(total)) = (number("bytesDone"), number("bytesTotal").filter(|total| *total > 0)) {
            details.push(format!("{} of {}", bytes(done), bytes(total)));
        }
        details.extend(number("etaSeconds").map(|seconds| format!("{seconds} s left")));
        bar.set_prefix(details.join(", "));
        bar.tick();
        tokio::time::sleep(POLL).await;
    }
}
