//! A fake Milvus and its bucket, reached through the adapter that the functions use.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use milvault_fake_milvus::{Access, DataBucket, FakeMilvus, Line};
use milvault_jobs::{
    Jobs, Ports, Settings,
    ports::{Bucket, Catalog, Clock, Connector, Expect, Milvus, Objects, Write},
};
use milvault_memory::{Alone, MemoryCatalog, MemoryEvents, MemoryObjects, MemorySchedules, SeededIds};
use milvault_milvus::{MilvusConnector, SecretSource};
use milvault_model::{Auth, CollectionName, Instance, Storage, Time};

pub const ROOT: &str = "files";

pub struct World {
    pub fake: FakeMilvus,
    pub objects: Arc<dyn Objects>,
    pub data: Bucket,
    pub snapshots: Bucket,
    pub instance: Instance,
    pub connector: Arc<dyn Connector>,
    pub schedules: Arc<MemorySchedules>,
    pub events: Arc<MemoryEvents>,
}

/// One secret for everything.
struct Secret(String);

#[async_trait]
impl SecretSource for Secret {
    async fn secret(&self, _: &str) -> Result<String, String> {
        Ok(self.0.clone())
    }
}

impl World {
    pub async fn of(line: Line) -> Self {
        Self::with(line, Access::Open, None).await
    }

    /// A server for `access`, and a connector with this secret.
    pub async fn with(line: Line, access: Access, secret: Option<&str>) -> Self {
        let bucket = |name: &str| Bucket { region: "eu-west-1".parse().unwrap(), name: name.to_owned() };
        let (data, snapshots) = (bucket("milvus-data"), bucket("snapshots"));
        let objects: Arc<dyn Objects> = Arc::new(MemoryObjects::new([&data, &snapshots]));
        let store = DataBucket { objects: objects.clone(), bucket: data.clone(), root: ROOT.to_owned() };
        let fake = FakeMilvus::start_for(line, store, access).await;
        let instance = Instance {
            copy_workers: 1,
            id: "fake".parse().unwrap(),
            name: format!("{line:?}"),
            endpoint: fake.endpoint().to_owned(),
            region: data.region.clone(),
            storage: Some(Storage { bucket: data.name.clone(), root_path: ROOT.to_owned() }),
            auth: secret.map(|_| Auth { secret_arn: "arn:aws:secretsmanager:eu-west-1:1:secret:milvus".to_owned() }),
            management_endpoint: Some(fake.management().to_owned()),
            created_at: DateTime::UNIX_EPOCH,
            reported_engine_version: None,
        };
        let connector = Arc::new(MilvusConnector::new(Arc::new(Secret(secret.unwrap_or_default().to_owned()))));
        let (schedules, events) = (Arc::default(), Arc::default());
        Self { fake, objects, data, snapshots, instance, connector, schedules, events }
    }

    /// What the jobs run on, with a catalog of its own that knows the instance.
    pub async fn jobs(&self) -> Jobs {
        let catalog = Arc::new(MemoryCatalog::new());
        let register = Write::Instance(Box::new(self.instance.clone()), Expect::Absent);
        catalog.commit(vec![register]).await.unwrap();
        Jobs {
            ports: Ports {
                catalog,
                objects: self.objects.clone(),
                milvus: self.connector.clone(),
                continuation: Arc::new(Alone),
                copy_workers: Arc::new(Alone),
                schedules: self.schedules.clone(),
                events: self.events.clone(),
                clock: Arc::new(RealClock),
                ids: Arc::new(SeededIds::new(1)),
            },
            settings: Settings {
                snapshot_bucket: self.snapshots.clone(),
                lease: TimeDelta::seconds(60),
                stall: TimeDelta::seconds(30),
                import_stall: TimeDelta::seconds(30),
                objects_per_page: 3,
                copies_in_flight: 4,
            },
        }
    }

    pub async fn milvus(&self) -> Arc<dyn Milvus> {
        self.connector.connect(&self.instance).await.unwrap()
    }
}

/// The real time: the server is real enough to need some.
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

pub fn name(collection: &str) -> CollectionName {
    CollectionName::new("default", collection)
}
