//! Everything that a function's `main` needs: settings from the environment, AWS clients behind the jobs' ports,
//! logging, and the loop that passes events to the function.
#![forbid(unsafe_code)]

mod aws;
mod continuation;
mod environment;
mod error;
mod events;
mod invocation;
mod logging;
pub mod metrics;
mod scheduler;
mod secrets;
mod work;
mod world;

use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use milvault_gateway::{Answer, Caller, Event};
use milvault_jobs::{Error, Jobs};
use serde_json::Value;
use tracing::Instrument;

use environment::Environment;
pub use invocation::Invocation;
/// The allocator of every function: one that copies would spend a fifth of its time in the system's.
pub use mimalloc::MiMalloc as Allocator;
pub use work::{begin_job, slice};

/// Runs a function until Lambda ends it, and logs why it can't start.
pub async fn run<H>(handle: H) -> ExitCode
where
    H: AsyncFn(&Jobs, Event, &Invocation) -> Result<Answer, Error>,
{
    logging::start();
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
    H: AsyncFn(&Jobs, Event, &Invocation) -> Result<Answer, Error>,
{
    let environment = Environment::read(|name| std::env::var(name).ok())?;
    let jobs = aws::jobs(environment);
    let (jobs, handle) = (&jobs, &handle);
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let now = jobs.now();
        let invocation = Invocation::new(event.context.request_id, event.context.deadline, now);
        let event = Event::read(event.payload);
        let (caller, span) = (Caller::from_event(&event), logging::span_of(&invocation, &event));
        let replied = async { invocation.reply(caller, handle(jobs, event, &invocation).await) };
        logging::with_request_id(&invocation, replied.instrument(span)).await
    }))
    .await
}
