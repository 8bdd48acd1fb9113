//! The catalog's record of a finished snapshot.

use serde::{Deserialize, Serialize};

use crate::{Completeness, CountKind, Principal, Time};

/// Sums over a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Bytes of all objects.
    pub size_bytes: u64,
    /// Bytes of the objects that this backup stored.
    pub added_bytes: u64,
    /// Bytes of the objects that were already stored and that the base doesn't have.
    #[serde(default)]
    pub found_bytes: u64,
    /// The number of objects.
    pub objects: u64,
    /// The number of collections.
    pub collections: u64,
    /// The entities in these collections.
    pub entities: u64,
    /// The number of collections whose entities were counted exactly; the counts of the others are upper bounds.
    #[serde(default)]
    pub counted_exactly: u64,
}

impl Totals {
    /// Whether `entities` is exact.
    pub fn is_counted_exactly(&self) -> bool {
        self.counted_exactly == self.collections
    }

    /// The kind of count that `entities` is.
    pub fn entities_are(&self) -> CountKind {
        if self.is_counted_exactly() { CountKind::Exact } else { CountKind::AtMost }
    }
}

/// The catalog's record of a finished snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// When work on the backup began.
    pub started_at: Time,
    /// When the backup became AVAILABLE.
    pub completed_at: Time,
    /// The earliest of the collections' points in time: everything written before it is in the snapshot.
    pub point_in_time: Time,
    /// Sums over the snapshot.
    pub totals: Totals,
    /// Whether the snapshot has everything that was asked for.
    #[serde(default)]
    pub completeness: Completeness,
    /// See [`Manifest::captured_as`](crate::Manifest::captured_as).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_as: Option<Principal>,
}

impl Snapshot {
    /// Whether nothing is missing. `None` for a snapshot made before the capturing user was recorded, because that user
    /// may not have seen every collection.
    pub fn is_complete(&self) -> Option<bool> {
        match (&self.completeness, &self.captured_as) {
            (Completeness::Incomplete { .. }, _) => Some(false),
            (Completeness::Complete, Some(_)) => Some(true),
            (Completeness::Complete, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Visibility;

    #[test]
    fn a_sum_is_exact_only_if_every_collection_was_counted_exactly() {
        let totals = |counted_exactly| Totals { collections: 2, counted_exactly, ..Totals::default() };
        assert_eq!(
            [2, 1, 0].map(|n| totals(n).entities_are()),
            [CountKind::Exact, CountKind::AtMost, CountKind::AtMost]
        );
        assert_eq!(Totals::default().entities_are(), CountKind::Exact);
    }

    #[test]
    fn a_snapshot_of_before_it_was_recorded_is_not_said_to_be_complete() {
        let old = r#"{"startedAt":"2026-11-23T03:00:00Z","completedAt":"2026-11-23T03:00:09Z",
            "pointInTime":"2026-11-23T03:00:05Z","totals":{"sizeBytes":9,"addedBytes":9,"objects":1,"collections":1,"entities":5}}"#;
        let mut snapshot: Snapshot = serde_json::from_str(old).unwrap();
        assert_eq!((snapshot.is_complete(), snapshot.totals.entities_are()), (None, CountKind::AtMost));
        snapshot.captured_as = Some(Principal { user: None, visibility: Visibility::Everything });
        assert_eq!((snapshot.is_complete(), snapshot.completeness.reasons()), (Some(true), None));
        let reasons = vec!["some".to_owned()];
        snapshot.completeness = Completeness::Incomplete { reasons: reasons.clone() };
        assert_eq!((snapshot.is_complete(), snapshot.completeness.reasons()), (Some(false), Some(&*reasons)));
    }
}
