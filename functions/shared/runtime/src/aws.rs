//! The AWS clients, built once, behind the jobs' ports.

use std::{sync::Arc, time::Duration};

use aws_config::{
    BehaviorVersion, SdkConfig, environment::EnvironmentVariableCredentialsProvider, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use milvault_dynamodb::DynamoCatalog;
use milvault_jobs::{Jobs, Ports};
use milvault_milvus::MilvusConnector;
use milvault_model::Region;
use milvault_s3::S3Objects;

use crate::{
    continuation::{LambdaContinuation, LambdaCopyWorkers},
    environment::Environment,
    events::EventBridgeEvents,
    scheduler::SchedulerSchedules,
    secrets::SecretsManager,
    world::{RandomIds, SystemClock},
};

#[cfg(test)]
mod slow;
#[cfg(test)]
mod tests;

const CONNECT: Duration = Duration::from_secs(3);
/// The time limits of a small request: of one attempt, and of all of them.
const ATTEMPT: Duration = Duration::from_secs(5);
const OPERATION: Duration = Duration::from_secs(20);
/// S3 takes a little longer to list or remove a thousand objects or to store a document. Copies have their own time
/// limits: see [`S3Objects`].
const S3_ATTEMPT: Duration = Duration::from_secs(10);
/// An asynchronous invocation is accepted at once. If it isn't, as with the local watcher, which runs the function
/// first, it isn't repeated: one attempt may take as long as all of them.
const INVOKE: Duration = Duration::from_secs(10);
/// The time limit of an invocation whose answer is waited for. The invocation itself has less time than this.
const ANSWER: Duration = Duration::from_secs(180);

/// The jobs with the adapters for AWS.
pub(crate) fn jobs(environment: Environment) -> Jobs {
    let config = config(&environment);
    let s3 = config.clone();
    let continuation = LambdaContinuation {
        client: lambda_client(&config),
        create_backup_function: environment.create_backup_function,
        restore_function: environment.restore_function,
    };
    let copy_workers =
        LambdaCopyWorkers { client: waiting_client(&config), function: continuation.create_backup_function.clone() };
    let catalog = DynamoCatalog::new(aws_sdk_dynamodb::Client::new(&config), environment.catalog_table);
    let schedules =
        SchedulerSchedules { client: aws_sdk_scheduler::Client::new(&config), target: environment.schedules };
    let clock = SystemClock::ahead(environment.clock_ahead);
    let events = EventBridgeEvents { client: aws_sdk_eventbridge::Client::new(&config), clock };
    let ports = Ports {
        catalog: Arc::new(catalog),
        objects: Arc::new(S3Objects::new(move |region: &Region| s3_client(&s3, region))),
        milvus: Arc::new(MilvusConnector::new(
            Arc::new(SecretsManager { config }),
            environment.settings.endpoints.clone(),
        )),
        continuation: Arc::new(continuation),
        copy_workers: Arc::new(copy_workers),
        schedules: Arc::new(schedules),
        events: Arc::new(events),
        clock: Arc::new(clock),
        ids: Arc::new(RandomIds),
    };
    Jobs { ports, settings: environment.settings }
}

/// Lambda passes a function its credentials in environment variables. The usual configuration would look for them in
/// other places too, which costs time at each start and makes each binary larger.
fn config(environment: &Environment) -> SdkConfig {
    let https = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(aws_config::Region::new(environment.region.to_string()))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .http_client(https)
        .timeout_config(timeouts(ATTEMPT, OPERATION))
        .retry_config(RetryConfig::standard().with_max_attempts(5));
    config.set_endpoint_url(environment.endpoint_url.clone());
    config.build()
}

/// All four time limits. A limit that isn't set would be taken from the configuration that a client's configuration is
/// made from.
///
/// There is no limit on the time until an answer begins, because an attempt's limit includes it, and clients with
/// different limits of this kind share no connections.
fn timeouts(attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .disable_read_timeout()
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

fn lambda_client(config: &SdkConfig) -> aws_sdk_lambda::Client {
    let config = aws_sdk_lambda::config::Builder::from(config).timeout_config(timeouts(INVOKE, INVOKE));
    aws_sdk_lambda::Client::from_conf(config.build())
}

/// A client for invocations whose answer is waited for. Each has its own time limit, and isn't repeated.
fn waiting_client(config: &SdkConfig) -> aws_sdk_lambda::Client {
    let config = aws_sdk_lambda::config::Builder::from(config).timeout_config(timeouts(ANSWER, ANSWER));
    aws_sdk_lambda::Client::from_conf(config.retry_config(RetryConfig::disabled()).build())
}

fn s3_client(config: &SdkConfig, region: &Region) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::config::Builder::from(config)
        .region(aws_config::Region::new(region.to_string()))
        .timeout_config(timeouts(S3_ATTEMPT, OPERATION))
        // A custom endpoint has no host name per bucket.
        .force_path_style(config.endpoint_url().is_some())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}
