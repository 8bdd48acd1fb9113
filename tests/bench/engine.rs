//! The jobs as a function runs them, with a catalog in memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::Builder;
use milvault_harness::{
    MemoryCatalog, RealClock, backup_request, bucket, instance, minutes_left, ports, register, settings,
};
use milvault_jobs::{Jobs, OBJECTS_PER_PAGE, Ports, Settings, SnapshotBuckets, backup};
use milvault_model::{BackupState, Instance, InstanceId, Snapshot, Storage};
use milvault_ports::Objects;
use milvault_s3::S3Objects;

use crate::{
    measure,
    server::Server,
    source::{ROOT, Source},
};

pub const DATA: &str = "milvus-data";
pub const SNAPSHOTS: &str = "snapshots";
pub const IN_FLIGHT: usize = 500;

/// The time and resources that a backup took.
#[derive(Debug, Clone)]
pub struct Took {
    pub time: Duration,
    pub cpu: Duration,
    /// The most memory of the process so far.
    pub peak_memory: u64,
    pub snapshot: Snapshot,
}

pub struct Engine {
    jobs: Jobs,
    instance: InstanceId,
    server: Server,
}

impl Engine {
    pub async fn new(source: Source, objects: Arc<dyn Objects>) -> Self {
        let server = Server::new(source);
        let catalog = Arc::new(MemoryCatalog::new());
        let storage = Some(Storage { bucket: DATA.to_owned(), root_path: ROOT.parse().unwrap() });
        let instance = Instance { storage, ..instance("bench") };
        register(catalog.as_ref(), &instance).await;
        let ports = Ports { milvus: Arc::new(server.clone()), ..ports(catalog, objects, Arc::new(RealClock)) };
        let settings = Settings {
            objects_per_page: OBJECTS_PER_PAGE,
            copies_in_flight: IN_FLIGHT,
            ..settings(SnapshotBuckets::new(bucket(SNAPSHOTS), []))
        };
        Self { jobs: Jobs { ports, settings }, instance: instance.id, server }
    }

    /// Replaces the server's data.
    pub fn set(&self, source: Source) {
        self.server.set(source);
    }

    /// Takes a backup.
    pub async fn back_up(&self, name: &str) -> Took {
        let (began, before) = (Instant::now(), measure::own());
        let accepted = backup::create(&self.jobs, backup_request(&self.instance, name)).await.unwrap();
        let deadline = minutes_left(&self.jobs, 120);
        backup::run(&self.jobs, &self.instance, &accepted.id, deadline).await.unwrap();
        let (time, after) = (began.elapsed(), measure::own());
        let found = self.jobs.ports.catalog.backup(&self.instance, &accepted.id).await.unwrap().unwrap().value;
        let BackupState::Available(snapshot) = found.state else { panic!("{:?}", found.state) };
        Took { time, cpu: after.cpu - before.cpu, peak_memory: after.peak_memory, snapshot }
    }
}

/// The adapter on a model of S3, with the retries and timeouts that the functions' clients have. What it lacks is TLS.
pub fn s3(port: u16) -> S3Objects {
    let (connect, attempt) = (Duration::from_secs(3), Duration::from_secs(180));
    S3Objects::new(move |region| {
        let timeouts = TimeoutConfig::builder().connect_timeout(connect).operation_attempt_timeout(attempt).build();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws_sdk_s3::config::Region::new(region.to_string()))
            .credentials_provider(Credentials::new("a", "b", None, None, "bench"))
            .endpoint_url(format!("http://127.0.0.1:{port}"))
            .force_path_style(true)
            .retry_config(RetryConfig::standard().with_max_attempts(5))
            .timeout_config(timeouts)
            .http_client(Builder::new().build_http())
            .build();
        aws_sdk_s3::Client::from_conf(config)
    })
}
