//! The segments of a captured collection.

use serde::{Deserialize, Serialize};

/// A segment: rows of one partition, or deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentCapture {
    /// The segment's id in the source.
    pub id: i64,
    /// The partition's id in the source; -1 for deletes in all partitions.
    pub partition_id: i64,
    /// The number of rows, including deleted ones; 0 for deletes.
    pub rows: u64,
    /// What the segment holds.
    #[serde(default, skip_serializing_if = "super::skip::is_default")]
    pub level: SegmentLevel,
    /// How the segment's logs are laid out.
    #[serde(default, skip_serializing_if = "super::skip::is_default")]
    pub storage: StorageVersion,
    /// When the segment's rows were written.
    #[serde(default, skip_serializing_if = "super::skip::is_default")]
    pub written: Written,
    /// The ids of the delta logs that the segment had when it was captured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delta_logs: Vec<i64>,
}

/// When a segment's rows were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Written {
    /// At least some of them before the point in time.
    #[default]
    Before,
    /// Unknown: the segment may have been made after the point in time.
    Unknown,
}

/// What a segment holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SegmentLevel {
    /// Rows in insert logs, and deletes of these rows in delta logs.
    #[default]
    Data,
    /// Only deletes, in delta logs, of rows in other segments.
    L0,
}

/// How the logs of a segment are laid out, as Milvus numbers the layouts. After an upgrade, a collection can have
/// segments of several versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub enum StorageVersion {
    /// One folder of insert logs for each field.
    #[default]
    V1,
    /// One folder of insert logs for each group of columns.
    V2,
    /// Another version. From 3 on, the logs alone can't be imported.
    Other(i64),
}

impl From<i64> for StorageVersion {
    fn from(number: i64) -> Self {
        match number {
            0 | 1 => Self::V1,
            2 => Self::V2,
            other => Self::Other(other),
        }
    }
}

impl From<StorageVersion> for i64 {
    fn from(version: StorageVersion) -> i64 {
        match version {
            StorageVersion::V1 => 0,
            StorageVersion::V2 => 2,
            StorageVersion::Other(other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_written_as_before_unless_it_is_of_another_kind() {
        let read = |json: &str| serde_json::from_str::<SegmentCapture>(json).unwrap();
        let plain = r#"{"id":1,"partitionId":2,"rows":3}"#;
        assert_eq!(serde_json::to_string(&read(plain)).unwrap(), plain);
        let l0 = r#"{"id":1,"partitionId":-1,"rows":0,"level":"l0","storage":2}"#;
        assert_eq!((read(l0).level, read(l0).storage), (SegmentLevel::L0, StorageVersion::V2));
        assert_eq!(serde_json::to_string(&read(l0)).unwrap(), l0);
    }
}
