//! The log: one JSON object per line, including the line of a panic.

use std::{io::Write, panic::PanicHookInfo, pin::Pin};

use chrono::Utc;
use milvault_gateway::{Event, Subject};
use milvault_model::Time;
use serde_json::{Value, json};
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::invocation::Invocation;

/// Targets that never log below WARN, because they would log headers and payloads, including credentials.
const NEVER_FINER: [&str; 10] = [
    "aws_config",
    "aws_runtime",
    "aws_sdk_secretsmanager",
    "aws_sigv4",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
];

tokio::task_local! {
    /// The present invocation's id, for log lines outside a span: a span's fields can't be read back.
    static REQUEST_ID: String;
}

/// The id of the present invocation, if there is one.
pub(crate) fn request_id() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}

/// Runs an invocation's work so that every log line names the invocation.
pub(crate) async fn with_request_id<T>(invocation: &Invocation, work: impl Future<Output = T>) -> T {
    // The type is erased, because the compiler limits how deep futures may be nested.
    let work: Pin<Box<dyn Future<Output = T> + '_>> = Box::pin(work);
    REQUEST_ID.scope(invocation.request_id.clone(), work).await
}

/// The span of an invocation's log lines. It is an error's span, so that lines of every level have it.
pub(crate) fn span_of(invocation: &Invocation, event: &Event) -> tracing::Span {
    let Subject { instance, backup, restore } = event.subject();
    tracing::error_span!("call", requestId = invocation.request_id, instance, backup, restore)
}

/// Starts the log, one JSON object per line. The spans add the invocation's request id, and the job's instance, id and
/// phase.
pub(crate) fn start() {
    let setting = std::env::var("RUST_LOG").unwrap_or_default();
    let (requested, bad) = match setting.parse::<Targets>() {
        Ok(targets) if !setting.is_empty() => (targets, None),
        Ok(_) => (Targets::new().with_default(LevelFilter::INFO), None),
        Err(error) => (Targets::new().with_default(LevelFilter::INFO), Some(error)),
    };
    let never_finer = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(NEVER_FINER.into_iter().map(|target| (target, LevelFilter::WARN)));
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false);
    // Only a second call can fail, and then logging has already started.
    let _ = tracing_subscriber::registry().with(lines.with_filter(requested.and(never_finer))).try_init();
    std::panic::set_hook(Box::new(log_panic));
    if let Some(error) = bad {
        tracing::warn!(%error, wanted = setting, "RUST_LOG isn't a valid log level; using info");
    }
}

/// Logs a panic. The process ends with it, so this line is its only trace. The panic may come from the subscriber
/// itself, so the line is written without it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("of no text");
    let line = panic_line(Utc::now(), message, &location, request_id().as_deref());
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The line of a panic, with the fields of any other line and the request id in a span.
fn panic_line(at: Time, message: &str, location: &str, request_id: Option<&str>) -> Value {
    let spans: Vec<Value> = request_id.map(|id| json!({ "name": "call", "requestId": id })).into_iter().collect();
    json!({
        "timestamp": at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "level": "ERROR",
        "message": "the function panicked",
        "panic": message,
        "location": location,
        "target": module_path!(),
        "spans": spans,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const PANICS: &str = "MILVAULT_TEST_PANICS";

    /// Run by the test below in its own process.
    #[tokio::test]
    async fn panics_if_the_variable_is_set() {
        if std::env::var_os(PANICS).is_some() {
            start();
            let invocation = Invocation::new("request-7".to_owned(), 0, Utc::now());
            with_request_id(&invocation, async { panic!("of\ntwo lines") }).await
        }
    }

    #[test]
    fn a_panic_is_a_line_that_says_where_and_of_which_invocation() {
        let test = "logging::tests::panics_if_the_variable_is_set";
        let panicking = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(PANICS, "1")
            .output()
            .unwrap();
        assert!(!panicking.status.success());
        let output = String::from_utf8(panicking.stdout).unwrap();
        // The test's own frame is printed before it, without a line break.
        let lines: Vec<Value> =
            output.lines().filter_map(|line| serde_json::from_str(&line[line.find('{')?..]).ok()).collect();
        let [line] = lines.as_slice() else { panic!("{output}") };
        assert_eq!((&line["level"], &line["panic"]), (&json!("ERROR"), &json!("of\ntwo lines")));
        assert!(line["location"].as_str().unwrap().contains("logging.rs:"), "{line}");
        assert_eq!(line["spans"], json!([{ "name": "call", "requestId": "request-7" }]));
        assert!(line["timestamp"].as_str().unwrap().parse::<Time>().is_ok());
    }

    #[test]
    fn a_panic_outside_of_an_invocation_has_none() {
        assert_eq!(panic_line(Utc::now(), "m", "l", None)["spans"], json!([]));
        assert_eq!(request_id(), None);
    }
}
