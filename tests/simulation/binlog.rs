//! A log as Milvus writes it: a magic number, an event that describes it, and one with the rows, which are text here and
//! Parquet there (`internal/storage` in `milvus-io/milvus`: `binlog_writer.go`, `event_header.go`, `event_data.go`).

use crate::server::Mark;

const MAGIC: u32 = 0x00ff_fabc;

/// An event's timestamp, type, length, and where the next one begins.
const HEADER: usize = 8 + 1 + 4 + 4;

/// The first and the last timestamp of an event's rows.
const RANGE: usize = 8 + 8;

const DESCRIPTOR: u8 = 0;
const INSERT: u8 = 1;

/// How many bytes a fixed part has of each type of event.
const FIXED_PARTS: [u8; 8] = [52, 16, 16, 16, 16, 16, 16, 16];

const INT64: u32 = 5;

/// What a log is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of {
    pub(crate) collection: i64,
    pub(crate) partition: i64,
    pub(crate) segment: i64,
    pub(crate) field: i64,
}

/// Whether a log says that its field can't be null, which takes a byte: from 2.5 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nullability {
    Told,
    Untold,
}

pub(crate) fn encode(of: Of, nullability: Nullability, marks: &[Mark]) -> Vec<u8> {
    let values = marks.len() * 8;
    let extra = match nullability {
        Nullability::Told => format!(r#"{{"nullable":false,"original_size":"{}"}}"#, values + 1),
        Nullability::Untold => format!(r#"{{"original_size":"{values}"}}"#),
    };
    let times = marks.iter().map(|mark| mark.timestamp);
    let range = [times.clone().min(), times.max()].map(|time| time.unwrap_or_default().to_le_bytes()).concat();
    let mut descriptor = [of.collection, of.partition, of.segment, of.field].map(i64::to_le_bytes).concat();
    descriptor.extend(&range);
    descriptor.extend(INT64.to_le_bytes());
    descriptor.extend(FIXED_PARTS);
    descriptor.extend(length(extra.len()).to_le_bytes());
    descriptor.extend(extra.into_bytes());
    let mut rows = range;
    for mark in marks {
        rows.extend(format!("{} {}\n", mark.key, mark.timestamp).into_bytes());
    }
    let mut log = MAGIC.to_le_bytes().to_vec();
    for (kind, data) in [(DESCRIPTOR, descriptor), (INSERT, rows)] {
        let (whole, next) = (HEADER + data.len(), log.len() + HEADER + data.len());
        log.extend([0; 8]);
        log.push(kind);
        log.extend(length(whole).to_le_bytes());
        log.extend(length(next).to_le_bytes());
        log.extend(data);
    }
    log
}

fn length(of: usize) -> u32 {
    u32::try_from(of).expect("logs are small")
}

/// The rows of a log; `None` for what isn't one.
pub(crate) fn decode(log: &[u8]) -> Option<Vec<Mark>> {
    let next = log.get(4 + HEADER - 4..4 + HEADER)?;
    let rows = usize::try_from(u32::from_le_bytes(next.try_into().ok()?)).ok()? + HEADER + RANGE;
    std::str::from_utf8(log.get(rows..)?)
        .ok()?
        .lines()
        .map(|line| {
            let (key, timestamp) = line.split_once(' ')?;
            Some(Mark { key: key.parse().ok()?, timestamp: timestamp.parse().ok()? })
        })
        .collect()
}
