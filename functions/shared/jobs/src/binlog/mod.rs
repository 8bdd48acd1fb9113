//! What is in Milvus's logs of rows and of deletes.
//!
//! In storage version 1, a log is a magic number, a descriptor event, and an event with the rows of one field, or with
//! deletes, as Parquet (`internal/storage/binlog_writer.go`, `event_header.go` and `event_data.go` in `milvus-io/milvus`,
//! branch 2.3, and the same in 2.4 to 2.6). All numbers are little-endian. In version 2, a log of rows is Parquet, with a
//! group of fields. [`rows`] reads the Parquet.

pub(crate) mod rows;

use bytes::Bytes;

/// The system's field of the rows' timestamps.
pub(crate) const TIMESTAMP: i64 = 1;

/// The largest log that is read as a whole. A write has some 16 MB of all fields by default
/// (`dataNode.segment.insertBufSize`).
pub(crate) const LARGEST: u64 = 64 << 20;

/// How much of a log is read for its beginning: descriptors have some two hundred bytes.
pub(crate) const BEGINNING: u64 = 4096;

const MAGIC: [u8; 4] = 0x00ff_fabc_u32.to_le_bytes();

/// An event's header: timestamp, type, length, and the next event's position.
const HEADER: usize = 8 + 1 + 4 + 4;
const KIND: usize = 8;
const LENGTH: usize = KIND + 1;
const NEXT: usize = LENGTH + 4;

/// In an event of rows or deletes, between its header and them: the first and the last one's timestamps.
const RANGE: usize = 8 + 8;

/// The types of events that have rows or deletes.
const INSERT: u8 = 1;
const DELETE: u8 = 2;

/// What the beginning of a log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) segment: i64,
    pub(crate) field: i64,
    /// In bytes, of the field's values in memory.
    pub(crate) original_size: u64,
    /// Where the rows begin.
    pub(crate) payload: usize,
}

impl Beginning {
    /// Reads it; `None` for what isn't a log of rows.
    pub(crate) fn read(log: &[u8]) -> Option<Self> {
        if log.get(..MAGIC.len())? != MAGIC {
            return None;
        }
        let descriptor = MAGIC.len();
        let next = usize::try_from(u32_at(log, descriptor + NEXT)?).ok()?;
        let ids = descriptor + HEADER;
        // Collection, partition, segment and field, two timestamps, the field's type, a byte for each type of event, and
        // then the length and text of what else there is to say.
        let extra = ids + 4 * 8 + 2 * 8 + 4;
        let said = log.get(extra..next)?;
        let begin = said.iter().position(|byte| *byte == b'{')?;
        let length = u32_at(log, (extra + begin).checked_sub(4)?)?;
        let text = said.get(begin..)?;
        if usize::try_from(length).ok()? != text.len() {
            return None;
        }
        let said: serde_json::Value = serde_json::from_slice(text).ok()?;
        let size = &said["original_size"];
        Some(Self {
            segment: i64_at(log, ids + 16)?,
            field: i64_at(log, ids + 24)?,
            original_size: size.as_u64().or_else(|| size.as_str()?.parse().ok())?,
            payload: next.checked_add(HEADER + RANGE)?,
        })
    }

    /// How many rows it has, if its field's values have 64 bits each.
    pub(crate) fn rows_of_64_bits(&self) -> u64 {
        // Newer servers add a byte that says whether values may be null.
        self.original_size / 8
    }
}

/// The Parquet files in a log; `None` for what isn't a log of rows or deletes.
///
/// An event ends where its length says: the servers' stream writers leave the next one's place out (`newEventHeader` in
/// `internal/storage/event_header.go`, branch 2.5; `newEventReader` goes by the length too).
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
        let end = event.checked_add(length).filter(|end| *end <= log.len() && length >= HEADER)?;
        if [INSERT, DELETE].contains(&kind) {
            let payload = event + HEADER + RANGE;
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

    /// A log as Milvus writes it, with these bytes in place of Parquet.
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
            let length = u32::try_from(HEADER + data.len()).unwrap();
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
    fn the_beginning_of_a_log_says_what_it_is_of_how_many_rows_it_has_and_where_they_begin() {
        let bytes = log(7, 0, 16_000, 99, b"PAR1 and so on");
        let beginning = Beginning::read(&bytes).unwrap();
        assert_eq!((beginning.segment, beginning.field, beginning.rows_of_64_bits()), (7, 0, 2000));
        assert_eq!(&bytes[beginning.payload..], b"PAR1 and so on");
    }

    #[test]
    fn what_is_cut_off_or_something_else_is_no_log() {
        let bytes = log(7, 0, 16_000, 99, b"");
        for end in 0..bytes.len() - HEADER - RANGE {
            assert_eq!(Beginning::read(&bytes[..end]), None, "{end} bytes");
        }
        assert_eq!(Beginning::read(b"PAR1............................................................"), None);
        let mut huge = bytes;
        huge[4 + HEADER - 4..4 + HEADER].fill(0xff);
        assert_eq!(Beginning::read(&huge), None);
    }
}
