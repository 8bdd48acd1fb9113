//! The instance object.

use milvault_model::{Auth, Instance, InstanceId, Region, Storage};
use serde::Serialize;

use super::{AutoBackupView, Timestamp};

/// An instance as callers see it. Of its credentials there is only where they are kept.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView<'a> {
    instance_id: &'a InstanceId,
    name: &'a str,
    endpoint: &'a str,
    region: &'a Region,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<&'a Storage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<&'a Auth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    management_endpoint: Option<&'a str>,
    copy_workers: u8,
    created_at: Timestamp,
    reported_engine_version: Option<&'a str>,
}

impl<'a> InstanceView<'a> {
    /// The object of a record.
    pub fn of(instance: &'a Instance) -> Self {
        Self {
            instance_id: &instance.id,
            name: &instance.name,
            endpoint: &instance.endpoint,
            region: &instance.region,
            storage: instance.storage.as_ref(),
            auth: instance.auth.as_ref(),
            management_endpoint: instance.management_endpoint.as_deref(),
            copy_workers: instance.copy_workers,
            created_at: instance.created_at.into(),
            reported_engine_version: instance.reported_engine_version.as_deref(),
        }
    }
}

/// An instance with its automatic backups.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceDescription<'a> {
    /// What lists show.
    #[serde(flatten)]
    pub instance: InstanceView<'a>,
    /// When it is backed up without anyone asking.
    pub auto_backup: AutoBackupView,
}
