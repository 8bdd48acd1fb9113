//! The engine as a function runs it, with a catalog in memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::Builder;
use chrono::{DateTime, TimeDelta, Utc};
use milvault_jobs::{
    Jobs, OBJECTS_PER_PAGE, Ports, Settings, SnapshotBuckets,
    backup::{self, CreateBackup},
};
use milvault_memory::{Alone, MemoryCatalog, MemoryEvents, MemorySchedules, SeededIds};
use milvault_model::{
    AllowedEndpoints, BackupKind, BackupState, Instance, InstanceId, Prices, Region, Snapshot, Storage, Time,
};
use milvault_ports::{Bucket, Catalog, Clock, Deadline, Expect, Objects, Write};
use milvault_s3::S3Objects;

use crate::{
    measure,
    server::Server,
    source::{ROOT, Source},
};

pub const DATA: &str = "milvus-data";
pub const SNAPSHOTS: &str = "snapshots";
pub const IN_FLIGHT: usize = 500;

struct RealClock;

#[async_trait]
impl Clock for RealClock {
    fn now(&self) -> Time {
        Utc::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// What a backup took.
#[derive(Debug, Clone)]
pub struct Took {
    pub time: Duration,
    pub cpu: Duration,
    /// Of the process, so far.
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
        let region: Region = "eu-west-1".parse().unwrap();
        let instance = Instance {
            id: "bench".parse().unwrap(),
            name: "bench".to_owned(),
            endpoint: "http://127.0.0.1:1".to_owned(),
            region: region.clone(),
            storage: Some(Storage { bucket: DATA.to_owned(), root_path: ROOT.parse().unwrap() }),
            auth: None,
            management_endpoint: None,
            copy_workers: 1,
            created_at: DateTime::UNIX_EPOCH,
            reported_engine_version: None,
        };
        let id = instance.id.clone();
        catalog.commit(vec![Write::Instance(Box::new(instance), Expect::Absent)]).await.unwrap();
        let ports = Ports {
            catalog,
            objects,
            milvus: Arc::new(server.clone()),
            continuation: Arc::new(Alone),
            copy_workers: Arc::new(Alone),
            schedules: Arc::new(MemorySchedules::default()),
            events: Arc::new(MemoryEvents::default()),
            clock: Arc::new(RealClock),
            ids: Arc::new(SeededIds::new(1)),
        };
        let settings = Settings {
            snapshots: SnapshotBuckets::new(Bucket { region, name: SNAPSHOTS.to_owned() }, []),
            endpoints: AllowedEndpoints::any(),
            prices: Prices::default(),
            cursor_key: milvault_jobs::CursorKey::new("of a test"),
            billing_account: String::new(),
            lease: TimeDelta::seconds(60),
            stall: TimeDelta::seconds(600),
            import_stall: TimeDelta::seconds(600),
            imports_in_flight: 32,
            objects_per_page: OBJECTS_PER_PAGE,
            copies_in_flight: IN_FLIGHT,
        };
        Self { jobs: Jobs { ports, settings }, instance: id, server }
    }

    /// From here on the server has this data.
    pub fn set(&self, source: Source) {
        self.server.set(source);
    }

    /// Takes a backup.
    pub async fn back_up(&self, name: &str) -> Took {
        let request = CreateBackup {
            instance_id: self.instance.clone(),
            name: name.parse().unwrap(),
            kind: BackupKind::Manual,
            selection: Vec::new(),
            expires_in: None,
            idempotency: None,
        };
        let (began, before) = (Instant::now(), measure::own());
        let accepted = backup::create(&self.jobs, request).await.unwrap();
        let deadline = Deadline::at(Utc::now() + TimeDelta::hours(2));
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
