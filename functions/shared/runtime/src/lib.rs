//! What a function's `main` needs: settings from the environment, AWS clients behind the jobs' ports, logging, and the
//! loop that hands events to the function.
#![forbid(unsafe_code)]

mod aws;
mod continuation;
mod environment;
mod error;
mod events;
mod invocation;
pub mod metrics;
mod schedules;
mod secrets;
mod work;
mod world;

use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use milvault_gateway::{Event, Subject};
use milvault_jobs::Jobs;
use serde_json::Value;
use tracing::Instrument;
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use environment::{Environment, StartError};
pub use error::RuntimeError;
pub use invocation::Invocation;
pub use schedules::ScheduleTarget;
pub use work::{slice, take_up};
pub use world::{RandomIds, SystemClock};

/// Every function's: one that copies spends a fifth of its time in the system's allocator otherwise.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs a function until Lambda ends it. What keeps it from starting is logged.
pub async fn run<H>(handle: H) -> ExitCode
where
    H: AsyncFn(&Jobs, Event, &Invocation) -> Result<Value, RuntimeError>,
{
    start_logging();
    match serve(handle).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the function can't start");
            ExitCode::FAILURE
        }
    }
}

async fn serve<H>(handle: H) -> Result<(), lambda_runtime::Error>
where
    H: AsyncFn(&Jobs, Event, &Invocation) -> Result<Value, RuntimeError>,
{
    let environment = Environment::read(|name| std::env::var(name).ok())?;
    let jobs = aws::jobs(environment);
    let (jobs, handle) = (&jobs, &handle);
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let now = jobs.ports.clock.now();
        let invocation = Invocation::new(event.context.request_id, event.context.deadline, now);
        let event = Event::read(event.payload);
        let span = span_of(&invocation, &event);
        handle(jobs, event, &invocation).instrument(span).await
    }))
    .await
}

/// At finer levels these log headers and payloads, credentials among them.
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

/// What every line of an invocation's log carries, whatever the level: so this is an error's span.
fn span_of(invocation: &Invocation, event: &Event) -> tracing::Span {
    let Subject { instance, backup, restore } = event.subject();
    tracing::error_span!("call", requestId = invocation.request_id, instance, backup, restore)
}

/// One JSON object a line; its spans add the invocation's request id, and the job's instance, id and phase.
fn start_logging() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let (asked_for, bad) = match wanted.parse::<Targets>() {
        Ok(targets) if !wanted.is_empty() => (targets, None),
        Ok(_) => (Targets::new().with_default(LevelFilter::INFO), None),
        Err(error) => (Targets::new().with_default(LevelFilter::INFO), Some(error)),
    };
    let never_finer = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(NEVER_FINER.into_iter().map(|target| (target, LevelFilter::WARN)));
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false);
    // Only a second call could fail, and then logging is there already.
    let _ = tracing_subscriber::registry().with(lines.with_filter(asked_for.and(never_finer))).try_init();
    if let Some(error) = bad {
        tracing::warn!(%error, wanted, "the log level isn't one, so it is info");
    }
}
