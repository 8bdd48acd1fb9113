//! The request for a backup.

use milvault_model::{BackupName, CollectionPattern};
use serde::{Deserialize, Serialize};

use crate::{Checked, Texts};

/// The body of a request for a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "")]
pub struct BackupRequest<T: Texts = Checked> {
    /// The name of the backup.
    pub name: T::Of<BackupName>,
    /// The collections to back up; all if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collections: Option<Vec<T::Of<CollectionPattern>>>,
    /// The number of days after which the backup is deleted; never if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<u32>,
}
