//! The completeness of a backup or a restore, and the user that a backup was captured as.

use milvault_model::{Principal, Snapshot, Visibility};
use serde::{Deserialize, Serialize};

/// Whether a backup or a restore has everything that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompletenessView {
    /// Null until it is known, and in backups made before it was recorded.
    pub complete: Option<bool>,
    /// The first reasons, for people; omitted unless `complete` is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete_reasons: Option<Vec<String>>,
}

impl CompletenessView {
    /// Makes the fields from a backup's snapshot, if there is one yet.
    pub fn new(snapshot: Option<&Snapshot>) -> Self {
        snapshot.map_or_else(Self::default, |snapshot| Self {
            complete: snapshot.is_complete(),
            incomplete_reasons: snapshot.completeness.reasons().map(<[String]>::to_vec),
        })
    }
}

/// The user that Milvus was queried as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalView {
    /// The user's name; null if Milvus requires no credentials, or if they are a token without a name.
    pub user: Option<String>,
    /// Whether the user is known to see every database and collection.
    pub sees_everything: bool,
}

impl PrincipalView {
    /// Makes the object from a snapshot's principal.
    pub(super) fn new(principal: &Principal) -> Self {
        Self { user: principal.user.clone(), sees_everything: principal.visibility == Visibility::Everything }
    }
}
