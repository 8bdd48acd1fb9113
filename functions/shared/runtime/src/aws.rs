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
use milvault_catalog::DynamoCatalog;
use milvault_jobs::{Jobs, Ports};
use milvault_milvus::MilvusConnector;
use milvault_model::Region;
use milvault_snapshots::S3Objects;

use crate::{
    Environment, RandomIds, SystemClock,
    continuation::{LambdaContinuation, LambdaCopyWorkers},
    events::EventBridgeEvents,
    schedules::SchedulerSchedules,
    secrets::SecretsManager,
};

const CONNECT: Duration = Duration::from_secs(3);
/// What a small request may take, and what it may take with all its retries.
const ATTEMPT: Duration = Duration::from_secs(5);
const OPERATION: Duration = Duration::from_secs(20);
/// An asynchronous invocation is accepted at once. One that isn't (the local watcher runs the function first) is not
/// repeated: its attempt may take as long as all of them.
const INVOKE: Duration = Duration::from_secs(10);
/// A server-side copy of up to 5 GB answers when it is done.
const COPY_ATTEMPT: Duration = Duration::from_secs(180);

/// The jobs over the real world.
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

/// Lambda gives a function its credentials as environment variables: the other places where there may be some, which the
/// usual configuration looks for, would cost time at each start and a part of each binary.
fn config(environment: &Environment) -> SdkConfig {
    let https = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION)
        .build();
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(aws_config::Region::new(environment.region.to_string()))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .http_client(https)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(5));
    config.set_endpoint_url(environment.endpoint_url.clone());
    config.build()
}

fn lambda_client(config: &SdkConfig) -> aws_sdk_lambda::Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(INVOKE)
        .operation_timeout(INVOKE)
        .build();
    aws_sdk_lambda::Client::from_conf(aws_sdk_lambda::config::Builder::from(config).timeout_config(timeouts).build())
}

/// For invocations whose answer is waited for: each is given a time of its own to end in, and is not repeated.
fn waiting_client(config: &SdkConfig) -> aws_sdk_lambda::Client {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(COPY_ATTEMPT).build();
    let config = aws_sdk_lambda::config::Builder::from(config).timeout_config(timeouts);
    aws_sdk_lambda::Client::from_conf(config.retry_config(RetryConfig::disabled()).build())
}

/// Secrets Manager of the region that a secret is in.
pub(crate) fn secrets_client(config: &SdkConfig, region: Option<aws_config::Region>) -> aws_sdk_secretsmanager::Client {
    let mut builder = aws_sdk_secretsmanager::config::Builder::from(config);
    if region.is_some() {
        builder.set_region(region);
    }
    aws_sdk_secretsmanager::Client::from_conf(builder.build())
}

fn s3_client(config: &SdkConfig, region: &Region) -> aws_sdk_s3::Client {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(COPY_ATTEMPT).build();
    let config = aws_sdk_s3::config::Builder::from(config)
        .region(aws_config::Region::new(region.to_string()))
        .timeout_config(timeouts)
        // An endpoint of one's own has no host name per bucket.
        .force_path_style(config.endpoint_url().is_some())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}
