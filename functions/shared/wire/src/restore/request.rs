//! The request for a restore.

use std::collections::BTreeMap;

use milvault_model::{BackupName, CollectionName, CollectionPattern, InstanceId, OnError, Reload, RestoreMode};
use serde::{Deserialize, Serialize};

use crate::{Checked, Texts};

/// The body of a request for a restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "")]
pub struct RestoreRequest<T: Texts = Checked> {
    /// The backup, by its id. As text: a text that isn't an id is a backup that doesn't exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// The backup, by its name. Either this or the id is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_name: Option<T::Of<BackupName>>,
    /// The instance whose backup it is; the one that is restored into where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_instance_id: Option<T::Of<InstanceId>>,
    /// Only these collections; all of the backup where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collections: Option<Vec<T::Of<CollectionPattern>>>,
    /// Other names for some of them.
    #[serde(default)]
    pub rename: BTreeMap<T::Of<CollectionName>, T::Of<CollectionName>>,
    /// Whether a damaged backup may be used, as far as it is whole.
    #[serde(default)]
    pub allow_damaged: bool,
    /// What to do about collections that exist.
    #[serde(default)]
    pub mode: RestoreMode,
    /// What to do about loading.
    #[serde(default)]
    pub reload: Reload,
    /// What to do about the others once a collection can't be restored. Left out of the request's hash where it is the
    /// default, because requests of before it was known have none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_error: OnError,
    /// For how many hours the replaced collections are kept for a rollback.
    #[serde(default = "a_day")]
    pub keep_previous_hours: u32,
}

fn is_default(on_error: &OnError) -> bool {
    *on_error == OnError::default()
}

fn a_day() -> u32 {
    24
}
