//! A fake Milvus and its bucket, reached through the adapter that the functions use.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use milvault_fake_milvus::{Access, DataBucket, FakeMilvus, Line};
use milvault_jobs::ports::{Bucket, Connector, Milvus, Objects};
use milvault_memory::MemoryObjects;
use milvault_milvus::{MilvusConnector, SecretSource};
use milvault_model::{Auth, CollectionName, Instance, Storage};

pub const ROOT: &str = "files";

pub struct World {
    pub fake: FakeMilvus,
    pub objects: Arc<dyn Objects>,
    pub data: Bucket,
    pub snapshots: Bucket,
    pub instance: Instance,
    pub connector: Arc<dyn Connector>,
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
        Self { fake, objects, data, snapshots, instance, connector }
    }

    pub async fn milvus(&self) -> Arc<dyn Milvus> {
        self.connector.connect(&self.instance).await.unwrap()
    }
}

pub fn name(collection: &str) -> CollectionName {
    CollectionName::new("default", collection)
}
