//! A collection's capture for unit tests.

use chrono::DateTime;
use milvault_model::{CollectionCapture, CollectionName, Loaded, RowCount};

/// Returns the capture of an empty collection.
pub(crate) fn capture() -> CollectionCapture {
    CollectionCapture {
        name: CollectionName::new("default", "items"),
        id: 1,
        schema: String::new(),
        primary_key: "id".to_owned(),
        fields: Vec::new(),
        delta_logs: None,
        shards: 1,
        consistency_level: 0,
        properties: Vec::new(),
        partitions: Vec::new(),
        has_partition_key: false,
        indexes: Vec::new(),
        aliases: Vec::new(),
        loaded: Loaded::No,
        flush_timestamp: 0,
        point_in_time: DateTime::UNIX_EPOCH,
        rows: RowCount::AtMost { rows: 0 },
        sample: Vec::new(),
        size_bytes: 0,
        segments: Vec::new(),
    }
}
