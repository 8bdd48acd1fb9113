//! What describing a backup adds: its databases, their collections, and the collections that it lacks.

use milvault_model::{CollectionCapture, CountKind, LeftOut, LeftOutCause};
use serde::{Deserialize, Serialize};

use crate::{BackupView, Open, Timestamp, VerificationView};

/// A backup with a page of its collections.
///
/// Its lists may be left out, so that a reader gets the other objects of one backup as descriptions too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupDescription {
    /// What lists show.
    #[serde(flatten)]
    pub backup: BackupView,
    /// Its last verification; null before the first.
    pub verification: Option<VerificationView>,
    /// Its databases, with those of their collections that are on this page.
    #[serde(default)]
    pub databases: Vec<DatabaseView>,
    /// The collections that were there and aren't in it.
    #[serde(default)]
    pub left_out: Vec<LeftOutView>,
    /// Where the collections go on; null at their end.
    pub next_cursor: Option<String>,
}

/// A database of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseView {
    /// Its name.
    pub name: String,
    /// Its collections on this page.
    #[serde(default)]
    pub collections: Vec<CollectionView>,
}

/// A collection of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionView {
    /// Its name, without the database.
    pub name: String,
    /// How many rows it has.
    #[serde(default)]
    pub entity_count: u64,
    /// What kind of count that is.
    #[serde(default)]
    pub entity_count_is: Open<CountKind>,
    /// The bytes of its objects.
    #[serde(default)]
    pub size_bytes: u64,
    /// How many partitions it has.
    #[serde(default)]
    pub partitions: usize,
    /// The time whose data it has.
    #[serde(default)]
    pub point_in_time: Timestamp,
}

/// A collection that was there and isn't in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutView {
    /// Its name.
    pub collection: String,
    /// The cause, for programs.
    #[serde(default)]
    pub cause: Open<LeftOutCauseView>,
    /// The cause, for people.
    #[serde(default)]
    pub reason: String,
}

/// Why a collection isn't in a backup. Manifests spell these causes otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LeftOutCauseView {
    /// A restore made it, or keeps it for a rollback.
    Restores,
    /// It was dropped before its point in time: nothing of it is missing.
    Dropped,
    /// It was there and couldn't be captured: the backup is incomplete.
    Trouble,
}

impl LeftOutView {
    /// The object of a manifest's entry.
    pub fn of(left_out: &LeftOut) -> Self {
        let cause = match left_out.cause {
            LeftOutCause::Restores => LeftOutCauseView::Restores,
            LeftOutCause::Dropped => LeftOutCauseView::Dropped,
            LeftOutCause::Trouble => LeftOutCauseView::Trouble,
        };
        Self { collection: left_out.collection.to_string(), cause: cause.into(), reason: left_out.reason.clone() }
    }
}

/// Collections by database: those of `names` in their order, whether or not they have any, then any others.
pub fn databases(names: impl IntoIterator<Item = String>, captures: &[CollectionCapture]) -> Vec<DatabaseView> {
    let mut databases: Vec<DatabaseView> =
        names.into_iter().map(|name| DatabaseView { name, collections: Vec::new() }).collect();
    for capture in captures {
        let collection = CollectionView {
            name: capture.name.collection.clone(),
            entity_count: capture.rows.rows(),
            entity_count_is: capture.rows.kind().into(),
            size_bytes: capture.size_bytes,
            partitions: capture.partitions.len(),
            point_in_time: capture.point_in_time.into(),
        };
        match databases.iter_mut().find(|database| database.name == capture.name.database) {
            Some(database) => database.collections.push(collection),
            None => databases.push(DatabaseView { name: capture.name.database.clone(), collections: vec![collection] }),
        }
    }
    databases
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::written;

    #[test]
    fn what_was_left_out_is_named_with_a_cause_for_programs_and_a_reason_for_people() {
        let of = |cause| {
            let left_out = LeftOut {
                collection: "default.items".parse().unwrap(),
                id: None,
                reason: "why".into(),
                cause,
                code: None,
            };
            written(&LeftOutView::of(&left_out))
        };
        assert_eq!(
            of(LeftOutCause::Trouble),
            json!({ "collection": "default.items", "cause": "TROUBLE", "reason": "why" })
        );
        assert_eq!(of(LeftOutCause::Restores)["cause"], "RESTORES");
        assert_eq!(of(LeftOutCause::Dropped)["cause"], "DROPPED");
    }
}
