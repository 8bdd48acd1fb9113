//! A registered Milvus.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{InstanceId, Invalid, RootPath, Time, text::text_type};

text_type! {
    /// An AWS region such as `eu-west-1`, in which an instance's bytes are stored.
    Region
}

impl FromStr for Region {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split('-').collect();
        let words = parts
            .iter()
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
        let ends_in_number = parts.last().is_some_and(|part| part.chars().all(|c| c.is_ascii_digit()));
        if parts.len() >= 3 && text.len() <= 32 && words && ends_in_number {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("a region is written as AWS does, such as 'eu-west-1'"))
        }
    }
}

/// The object storage that a Milvus keeps its data in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Storage {
    /// Milvus's `minio.bucketName`.
    pub bucket: String,
    /// Milvus's `minio.rootPath`. It is empty if it isn't given, as in Milvus.
    #[serde(default)]
    pub root_path: RootPath,
}

/// How to authenticate. It never holds the credentials themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Auth {
    /// The ARN of a Secrets Manager secret with `{"username": …, "password": …}` or `{"token": …}`, read at each use.
    pub secret_arn: String,
}

/// A Milvus that the caller registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// The id in the URL.
    pub id: InstanceId,
    /// A display name.
    pub name: String,
    /// The gRPC endpoint, `http://host:port` or `https://host:port`.
    pub endpoint: String,
    /// The region of its data.
    pub region: Region,
    /// Its object storage; `None` if this service has no access to it.
    pub storage: Option<Storage>,
    /// How to authenticate; `None` for a server without authentication.
    pub auth: Option<Auth>,
    /// The management endpoint (port 9091 by default), if this service can reach it.
    pub management_endpoint: Option<String>,
    /// The number of invocations that a backup's copying is spread over; at least 1.
    pub copy_workers: u8,
    /// When the instance was registered.
    pub created_at: Time,
    /// The version that the server last reported.
    pub reported_engine_version: Option<String>,
}

impl Instance {
    /// Whether facts found out about one instance hold for the other: both are the same server with the same storage,
    /// reached in the same way.
    pub fn is_same_server(&self, other: &Self) -> bool {
        (&self.endpoint, &self.region, &self.storage, &self.auth)
            == (&other.endpoint, &other.region, &other.storage, &other.auth)
    }
}
