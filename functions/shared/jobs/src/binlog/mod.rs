//! Reads Milvus's insert logs and delta logs.
//!
//! In storage version 1, a log is a magic number, a descriptor event, and an event with the rows of one field, or with
//! deletes, as Parquet (`internal/storage/binlog_writer.go`, `event_header.go` and `event_data.go` in
//! `milvus-io/milvus`, branch 2.3, and the same in 2.4 to 2.6). All numbers are little-endian. In version 2, an insert
//! log is a Parquet file with a group of fields. [`rows`] reads the Parquet.

pub(crate) mod rows;

use bytes::Bytes;

/// The ID of the system field with the rows' timestamps.
pub(crate) const TIMESTAMP: i64 = 1;

/// The size of the largest log that is read as a whole. By default, Milvus writes about 16 MB of all fields at once
/// (`dataNode.segment.insertBufSize`).
pub(crate) const MAX_LOG_BYTES: u64 = 64 << 20;

/// How many bytes of a log are read for its header: descriptors have about 200 bytes.
pub(crate) const HEADER_BYTES: u64 = 4096;

const MAGIC: [u8; 4] = 0x00ff_fabc_u32.to_le_bytes();

/// The size of an event's header: timestamp, type, length, and the next event's position.
const EVENT_HEADER: usize = 8 + 1 + 4 + 4;
const KIND: usize = 8;
const LENGTH: usize = KIND + 1;
const NEXT: usize = LENGTH + 4;

/// The size of the first and the last timestamp, between the header and the payload of an event with rows or deletes.
const RANGE: usize = 8 + 8;

/// The types of the events with rows or deletes.
const INSERT: u8 = 1;
const DELETE: u8 = 2;

/// The header of an insert log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogHeader {
    pub(crate) segment: i64,
    pub(crate) field: i64,
    /// The size of the field's values in memory, in bytes.
    pub(crate) original_size: u64,
    /// The offset of the rows.
    pub(crate) payload: usize,
}

impl LogHeader {
    /// Parses the header from a log's first bytes; returns `None` if they aren't those of an insert log.
    pub(crate) fn parse(log: &[u8]) -> Option<Self> {
        if log.get(..MAGIC.len())? != MAGIC {
            return None;
        }
        let descriptor = MAGIC.len();
        let next = usize::try_from(u32_at(log, descriptor + NEXT)?).ok()?;
        let ids = descriptor + EVENT_HEADER;
        // The IDs of collection, partition, segment and field, two timestamps, the field's type, a byte for each type
        // of event, and then the length and the JSON text of the extras.
        let tail_at = ids + 4 * 8 + 2 * 8 + 4;
        let tail = log.get(tail_at..next)?;
        let begin = tail.iter().position(|byte| *byte == b'{')?;
        let length = u32_at(log, (tail_at + begin).checked_sub(4)?)?;
        let text = tail.get(begin..)?;
        if usize::try_from(length).ok()? != text.len() {
            return None;
        }
        let extras: serde_json::Value = serde_json::from_slice(text).ok()?;
        let size = &extras["original_size"];
        Some(Self {
            segment: i64_at(log, ids + 16)?,
            field: i64_at(log, ids + 24)?,
            original_size: size.as_u64().or_else(|| size.as_str()?.parse().ok())?,
            payload: next.checked_add(EVENT_HEADER + RANGE)?,
        })
    }

    /// Returns the log's number of rows, if its field's values have 64 bits each.
    pub(crate) fn rows_of_64_bits(&self) -> u64 {
        // Newer servers add a byte for whether values may be null. The division ignores it.
        self.original_size / 8
    }
}

/// Returns the Parquet files in a log, or `None` if it isn't a log of rows or deletes.
///
/// An event's end is computed from its length: the servers' stream writers omit the next event's position
/// (`newEventHeader` in `internal/storage/event_header.go`, branch 2.5; `newEventReader` uses the length too).
fn payloads(log: &Bytes) -> Option<Vec<Bytes>> {
    if log.starts_with(b"PAR1") {
        return Some(vec![log.clone()]);
    }
    if log.get(..MAGIC.len())? != MAGIC {
        return None;
    }
    let (mut payloads, mut event) = (Vec::new(), MAGIC.len());
    while event < log.len() {
        let kind = *log.get(event + KIND)?;
        let length = usize::try_from(u32_at(log, event + LENGTH)?).ok()?;
        let end = event.checked_add(length).filter(|end| *end <= log.len() && length >= EVENT_HEADER)?;
        if [INSERT, DELETE].contains(&kind) {
            let payload = event + EVENT_HEADER + RANGE;
            if payload > end {
                return None;
            }
            payloads.push(log.slice(payload..end));
        }
        event = end;
    }
    (!payloads.is_empty()).then_some(payloads)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a log as Milvus writes it, with these bytes in place of Parquet.
    pub(crate) fn log(segment: i64, field: i64, original_size: u64, written_at: u64, payload: &[u8]) -> Vec<u8> {
        let text = format!("{{\"original_size\":\"{original_size}\"}}");
        let mut descriptor = Vec::new();
        for id in [1, 2, segment, field] {
            descriptor.extend(id.to_le_bytes());
        }
        descriptor.extend([0_u8; 16]);
        descriptor.extend(5_u32.to_le_bytes());
        descriptor.extend([52_u8, 16, 16, 16, 16, 16, 16, 16]);
        descriptor.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        descriptor.extend(text.as_bytes());
        let mut bytes = MAGIC.to_vec();
        let mut event = |kind: u8, data: &[u8]| {
            let length = u32::try_from(EVENT_HEADER + data.len()).unwrap();
            let next = u32::try_from(bytes.len()).unwrap() + length;
            bytes.extend(written_at.to_le_bytes());
            bytes.push(kind);
            bytes.extend(length.to_le_bytes());
            bytes.extend(next.to_le_bytes());
            bytes.extend(data);
        };
        event(0, &descriptor);
        event(1, &[&[0_u8; 16][..], payload].concat());
        bytes
    }

    #[test]
    fn a_log_header_has_the_segment_the_field_the_number_of_rows_and_their_offset() {
        let bytes = log(7, 0, 16_000, 99, b"PAR1 and so on");
        let header = LogHeader::parse(&bytes).unwrap();
        assert_eq!((header.segment, header.field, header.rows_of_64_bits()), (7, 0, 2000));
        assert_eq!(&bytes[header.payload..], b"PAR1 and so on");
    }

    #[test]
    fn a_truncated_log_or_another_file_is_not_an_insert_log() {
        let bytes = log(7, 0, 16_000, 99, b"");
        for end in 0..bytes.len() - EVENT_HEADER - RANGE {
            assert_eq!(LogHeader::parse(&bytes[..end]), None, "{end} bytes");
        }
        assert_eq!(LogHeader::parse(b"PAR1............................................................"), None);
        let mut huge = bytes;
        huge[4 + EVENT_HEADER - 4..4 + EVENT_HEADER].fill(0xff);
        assert_eq!(LogHeader::parse(&huge), None);
    }
}
