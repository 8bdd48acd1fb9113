//! Assembly of a capture from a collection's description, its segments and its row count.

use base64::{Engine, prelude::BASE64_STANDARD};
use milvault_model::{CollectionCapture, PrimaryKey, RowCount, SegmentCapture, time_of};
use milvault_ports::CollectionDescription;

/// The number of rows at the point in time, and some of their primary keys.
pub(super) struct Counted {
    pub(super) rows: u64,
    pub(super) sample: Vec<PrimaryKey>,
}

/// Assembles a capture. Without a count, the segments' rows are the upper bound.
pub(super) fn assemble(
    description: CollectionDescription,
    timestamp: u64,
    segments: Vec<SegmentCapture>,
    counted: Option<Counted>,
) -> CollectionCapture {
    let (rows, sample) = match counted {
        Some(Counted { rows, sample }) => (RowCount::Exactly { rows }, sample),
        None => {
            let rows = segments.iter().map(|segment| segment.rows).sum();
            (RowCount::AtMost { rows }, Vec::new())
        }
    };
    CollectionCapture {
        name: description.name,
        id: description.id,
        schema: BASE64_STANDARD.encode(description.schema),
        primary_key: description.primary_key,
        fields: description.fields,
        shards: description.shards,
        consistency_level: description.consistency_level,
        properties: description.properties,
        partitions: description.partitions,
        has_partition_key: description.has_partition_key,
        indexes: description.indexes,
        aliases: description.aliases,
        loaded: description.loaded,
        flush_timestamp: timestamp,
        point_in_time: time_of(timestamp).unwrap_or_default(),
        rows,
        sample,
        size_bytes: 0,
        delta_logs: None,
        segments,
    }
}
