//! Other programs that copy within S3, on the same model.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    engine::{DATA, IN_FLIGHT},
    measure::{self, Used},
    source::ROOT,
};

/// What a run took; `Err` gives the reason why it didn't run.
pub type Ran = Result<(Duration, Used), String>;

/// `rclone copy`, server-side, with as many transfers, and without the requests that a plain copy doesn't need.
pub fn rclone(port: u16) -> Ran {
    let mut command = Command::new("rclone");
    let transfers = IN_FLIGHT.to_string();
    command
        .args(["copy", "--config", "", "--fast-list", "--size-only", "--s3-no-head", "--s3-no-check-bucket"])
        .args(["--transfers", &transfers, "--checkers", &transfers, "--retries", "1"])
        .args([format!(":s3:{DATA}/{ROOT}"), ":s3:peers/rclone".to_owned()])
        .env("RCLONE_S3_PROVIDER", "Other")
        .env("RCLONE_S3_LIST_VERSION", "2")
        .env("RCLONE_S3_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("RCLONE_S3_ACCESS_KEY_ID", "a")
        .env("RCLONE_S3_SECRET_ACCESS_KEY", "b");
    run(command, "rclone")
}

/// `s5cmd cp`, with the same number of workers.
pub fn s5cmd(port: u16) -> Ran {
    let mut command = Command::new("s5cmd");
    command
        .args(["--endpoint-url", &format!("http://127.0.0.1:{port}"), "--numworkers", &IN_FLIGHT.to_string()])
        .args(["--log", "error", "cp", &format!("s3://{DATA}/{ROOT}/*"), "s3://peers/s5cmd/"])
        .env("AWS_ACCESS_KEY_ID", "a")
        .env("AWS_SECRET_ACCESS_KEY", "b")
        .env("AWS_REGION", "eu-west-1");
    run(command, "s5cmd")
}

fn run(mut command: Command, name: &str) -> Ran {
    let began = Instant::now();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
    let mut child = spawned.map_err(|error| format!("{name} can't be run: {error}"))?;
    let mut used = Used::default();
    loop {
        let now = measure::used(child.id());
        // The most memory seen while it ran: an ended process has none any more.
        used = Used { cpu: used.cpu.max(now.cpu), peak_memory: used.peak_memory.max(now.peak_memory) };
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok((began.elapsed(), used)),
            Some(status) => return Err(format!("{name} failed: {status}")),
            None if began.elapsed() > Duration::from_secs(600) => {
                let _ = child.kill();
                return Err(format!("{name} took more than ten minutes"));
            }
            None => thread::sleep(Duration::from_millis(50)),
        }
    }
}
