//! The instance object, and the registration of an instance.

use milvault_model::{Auth, Instance, Region, RootPath, Storage};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{AutoBackupView, Checked, PreflightView, Texts, Timestamp};

/// The body of a registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "")]
pub struct Registration<T: Texts = Checked> {
    /// The instance's name, for people.
    pub name: String,
    /// The gRPC endpoint, `http://host:port` or `https://host:port`.
    pub endpoint: String,
    /// The region of the data.
    pub region: T::Of<Region>,
    /// The object storage; omitted if it isn't reachable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageRequest<T>>,
    /// The location of the credentials; omitted for a server without authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// The management endpoint, in the same form; omitted if it isn't reachable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_endpoint: Option<String>,
    /// The number of invocations that the copying of a backup is spread over; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_workers: Option<u8>,
}

/// The object storage in a registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "Storage", rename_all = "camelCase", deny_unknown_fields, bound = "")]
pub struct StorageRequest<T: Texts = Checked> {
    /// Milvus's `minio.bucketName`.
    pub bucket: String,
    /// Milvus's `minio.rootPath`; empty if omitted, as in Milvus.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub root_path: Option<T::Of<RootPath>>,
}

/// Reads a field that may be omitted but not null.
fn not_null<'de, D: Deserializer<'de>, V: Deserialize<'de>>(deserializer: D) -> Result<Option<V>, D::Error> {
    V::deserialize(deserializer).map(Some)
}

/// An instance. It has the location of the credentials, never the credentials themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// The instance's id.
    pub instance_id: String,
    /// The instance's name, for people.
    #[serde(default)]
    pub name: String,
    /// The gRPC endpoint.
    #[serde(default)]
    pub endpoint: String,
    /// The region of the data.
    #[serde(default)]
    pub region: String,
    /// The object storage; omitted if it isn't reachable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageView>,
    /// The location of the credentials; omitted for a server without authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthView>,
    /// The management endpoint; omitted if it isn't reachable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_endpoint: Option<String>,
    /// The number of invocations that the copying of a backup is spread over, at least 1.
    #[serde(default = "one")]
    pub copy_workers: u8,
    /// When the instance was registered.
    #[serde(default)]
    pub created_at: Timestamp,
    /// The version that the server last reported; null before the first report.
    pub reported_engine_version: Option<String>,
}

/// The default of `copyWorkers`.
fn one() -> u8 {
    1
}

impl InstanceView {
    /// Makes the object from a record.
    pub fn new(instance: &Instance) -> Self {
        Self {
            instance_id: instance.id.to_string(),
            name: instance.name.clone(),
            endpoint: instance.endpoint.clone(),
            region: instance.region.to_string(),
            storage: instance.storage.as_ref().map(StorageView::from),
            auth: instance.auth.as_ref().map(AuthView::from),
            management_endpoint: instance.management_endpoint.clone(),
            copy_workers: instance.copy_workers,
            created_at: instance.created_at.into(),
            reported_engine_version: instance.reported_engine_version.clone(),
        }
    }
}

/// The object storage of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageView {
    /// Milvus's `minio.bucketName`.
    pub bucket: String,
    /// Milvus's `minio.rootPath`, without slashes at its ends.
    #[serde(default)]
    pub root_path: String,
}

impl From<&Storage> for StorageView {
    fn from(storage: &Storage) -> Self {
        Self { bucket: storage.bucket.clone(), root_path: storage.root_path.to_string() }
    }
}

/// The location of an instance's credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthView {
    /// The ARN of a Secrets Manager secret.
    pub secret_arn: String,
}

impl From<&Auth> for AuthView {
    fn from(auth: &Auth) -> Self {
        Self { secret_arn: auth.secret_arn.clone() }
    }
}

/// An instance with its automatic backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceDescription {
    /// The fields that listings have.
    #[serde(flatten)]
    pub instance: InstanceView,
    /// The instance's automatic backups.
    pub auto_backup: AutoBackupView,
}

/// A registered instance with its preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedInstanceView {
    /// The instance.
    #[serde(flatten)]
    pub instance: InstanceView,
    /// The preflight's report; omitted if no preflight was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight: Option<PreflightView>,
}
