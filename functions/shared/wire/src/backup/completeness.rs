//! Whether a backup or a restore has everything, and the user that it was captured as.

use milvault_model::{Principal, Snapshot, Visibility};
use serde::{Deserialize, Serialize};

/// Whether a backup or a restore has everything that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompletenessView {
    /// Null until that is known, and in backups of before this was recorded.
    pub complete: Option<bool>,
    /// The first reasons, for people; left out unless `complete` is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete_reasons: Option<Vec<String>>,
}

impl CompletenessView {
    /// The fields of a backup's snapshot, once there is one.
    pub fn of(snapshot: Option<&Snapshot>) -> Self {
        snapshot.map_or_else(Self::default, |snapshot| Self {
            complete: snapshot.is_complete(),
            incomplete_reasons: snapshot.completeness.reasons().map(<[String]>::to_vec),
        })
    }
}

/// The user that Milvus was asked as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalView {
    /// Null where Milvus asks for no credentials, or they are a token without a name.
    pub user: Option<String>,
    /// Whether it is sure that the user sees every database and collection.
    pub sees_everything: bool,
}

impl PrincipalView {
    /// The object of a snapshot's principal.
    pub(super) fn of(principal: &Principal) -> Self {
        Self { user: principal.user.clone(), sees_everything: principal.visibility == Visibility::Everything }
    }
}
