//! The description of a backup: its databases, their collections, and the collections that it lacks.

use milvault_model::{CollectionCapture, CountKind, LeftOut, LeftOutCause};
use serde::{Deserialize, Serialize};

use crate::{BackupView, Open, Timestamp, VerificationView};

/// A backup with a page of its collections.
///
/// Its lists may be omitted, so that other answers about one backup can be read as descriptions too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupDescription {
    /// The fields that listings have.
    #[serde(flatten)]
    pub backup: BackupView,
    /// The last verification; null before the first one.
    pub verification: Option<VerificationView>,
    /// The databases, with their collections on this page.
    #[serde(default)]
    pub databases: Vec<DatabaseView>,
    /// The collections that existed and aren't in the backup.
    #[serde(default)]
    pub left_out: Vec<LeftOutView>,
    /// The cursor of the next page of collections; null at the end.
    pub next_cursor: Option<String>,
}

/// A database of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseView {
    /// The database's name.
    pub name: String,
    /// The database's collections on this page.
    #[serde(default)]
    pub collections: Vec<CollectionView>,
}

/// A collection of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionView {
    /// The collection's name, without the database.
    pub name: String,
    /// The number of rows.
    #[serde(default)]
    pub entity_count: u64,
    /// The kind of count that `entityCount` is.
    #[serde(default)]
    pub entity_count_is: Open<CountKind>,
    /// The bytes of the collection's objects.
    #[serde(default)]
    pub size_bytes: u64,
    /// The number of partitions.
    #[serde(default)]
    pub partitions: usize,
    /// The time whose data the backup has of this collection.
    #[serde(default)]
    pub point_in_time: Timestamp,
}

/// A collection that existed and isn't in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutView {
    /// The collection's name, with the database.
    pub collection: String,
    /// The cause, for programs.
    #[serde(default)]
    pub cause: Open<LeftOutCauseView>,
    /// The cause, for people.
    #[serde(default)]
    pub reason: String,
}

/// Why a collection isn't in a backup. Manifests spell these causes differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LeftOutCauseView {
    /// A restore made the collection, or keeps it for a rollback.
    Restores,
    /// The collection was dropped before its point in time, so nothing is missing.
    Dropped,
    /// The collection existed and couldn't be captured, so the backup is incomplete.
    Trouble,
}

impl LeftOutView {
    /// Makes the object from a manifest's entry.
    pub fn new(left_out: &LeftOut) -> Self {
        let cause = match left_out.cause {
            LeftOutCause::Restores => LeftOutCauseView::Restores,
            LeftOutCause::Dropped => LeftOutCauseView::Dropped,
            LeftOutCause::Trouble => LeftOutCauseView::Trouble,
        };
        Self { collection: left_out.collection.to_string(), cause: cause.into(), reason: left_out.reason.clone() }
    }
}

/// Groups collections by database: first the databases in `names`, in this order and even without collections, then any
/// others.
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
    fn a_left_out_collection_has_a_cause_for_programs_and_a_reason_for_people() {
        let view = |cause| {
            let left_out = LeftOut {
                collection: "default.items".parse().unwrap(),
                id: None,
                reason: "why".into(),
                cause,
                code: None,
            };
            written(&LeftOutView::new(&left_out))
        };
        assert_eq!(
            view(LeftOutCause::Trouble),
            json!({ "collection": "default.items", "cause": "TROUBLE", "reason": "why" })
        );
        assert_eq!(view(LeftOutCause::Restores)["cause"], "RESTORES");
        assert_eq!(view(LeftOutCause::Dropped)["cause"], "DROPPED");
    }
}
