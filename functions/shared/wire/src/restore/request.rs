//! The request for a restore.

use std::collections::BTreeMap;

use milvault_model::{BackupName, CollectionName, CollectionPattern, InstanceId, OnError, Reload, RestoreMode};
use serde::{Deserialize, Serialize};

use crate::{Checked, Texts};

/// The body of a request for a restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "")]
pub struct RestoreRequest<T: Texts = Checked> {
    /// The backup, by its id. It is plain text, because a text that isn't a valid id names a backup that doesn't exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// The backup, by its name. Exactly one of name and id is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_name: Option<T::Of<BackupName>>,
    /// The instance that the backup was made of; if omitted, the instance that is restored into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_instance_id: Option<T::Of<InstanceId>>,
    /// The collections to restore; all collections of the backup if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collections: Option<Vec<T::Of<CollectionPattern>>>,
    /// New names for some of the collections.
    #[serde(default)]
    pub rename: BTreeMap<T::Of<CollectionName>, T::Of<CollectionName>>,
    /// Whether the intact collections of a damaged backup may be restored.
    #[serde(default)]
    pub allow_damaged: bool,
    /// What to do if a collection of the target name exists.
    #[serde(default)]
    pub mode: RestoreMode,
    /// Whether to load the restored collections.
    #[serde(default)]
    pub reload: Reload,
    /// What to do about the other collections when one can't be restored. The default is omitted from the request's
    /// hash, because earlier releases didn't have this field.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_error: OnError,
    /// How many hours the replaced collections are kept for a rollback.
    #[serde(default = "a_day")]
    pub keep_previous_hours: u32,
}

fn is_default(on_error: &OnError) -> bool {
    *on_error == OnError::default()
}

fn a_day() -> u32 {
    24
}
