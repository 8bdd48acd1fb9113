//! The number of rows in a collection, exact or at most.

use serde::{Deserialize, Serialize};

/// The number of rows in a collection, and whether it is exact.
///
/// Milvus counts exactly only the rows of a loaded collection, and only at present. While writes go on, or for a
/// collection that isn't loaded, the number of rows in the segments is an upper bound, because deletes are in separate
/// logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "known", rename_all = "camelCase")]
pub enum RowCount {
    /// Exactly this number.
    Exactly {
        /// The number of rows.
        rows: u64,
    },
    /// At most this number.
    AtMost {
        /// The number of rows.
        rows: u64,
    },
}

/// Whether a number of rows is exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CountKind {
    /// The exact number.
    Exact,
    /// An upper bound.
    #[default]
    AtMost,
}

impl RowCount {
    /// The number of rows, exact or not.
    pub fn rows(self) -> u64 {
        match self {
            Self::Exactly { rows } | Self::AtMost { rows } => rows,
        }
    }

    /// The kind of count.
    pub fn kind(self) -> CountKind {
        match self {
            Self::Exactly { .. } => CountKind::Exact,
            Self::AtMost { .. } => CountKind::AtMost,
        }
    }

    /// Whether a rebuilt collection with `found` rows is consistent with this count.
    pub fn admits(self, found: u64) -> bool {
        match self {
            Self::Exactly { rows } => found == rows,
            Self::AtMost { rows } => found <= rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upper_bound_admits_fewer_rows_and_an_exact_count_only_itself() {
        assert!(RowCount::AtMost { rows: 5 }.admits(3));
        assert!(!RowCount::AtMost { rows: 5 }.admits(6));
        assert!(RowCount::Exactly { rows: 5 }.admits(5));
        assert!(!RowCount::Exactly { rows: 5 }.admits(4));
    }
}
