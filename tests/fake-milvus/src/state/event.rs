//! Rows and deletes.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A row or a delete: a primary key and when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) key: i64,
    pub(crate) timestamp: u64,
}

/// The last delete of each key.
pub(crate) fn latest<'a>(deletes: impl IntoIterator<Item = &'a Event>) -> HashMap<i64, u64> {
    let mut latest: HashMap<i64, u64> = HashMap::new();
    for delete in deletes {
        let at = latest.entry(delete.key).or_default();
        *at = delete.timestamp.max(*at);
    }
    latest
}

pub(super) fn is_in(deleted: &HashMap<i64, u64>, row: &Event) -> bool {
    deleted.get(&row.key).is_some_and(|at| *at >= row.timestamp)
}

/// Whether one of these deletes removes this row.
pub(crate) fn is_deleted(row: &Event, deletes: &[Event]) -> bool {
    deletes.iter().any(|delete| delete.key == row.key && delete.timestamp >= row.timestamp)
}
