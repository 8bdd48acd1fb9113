//! A log as Milvus writes it: a magic number, an event that describes it, and one with the rows, which are Parquet there and
//! whatever a test understands here (`internal/storage` in `milvus-io/milvus`: `binlog_writer.go`, `event_header.go`,
//! `event_data.go`).

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
pub struct Of {
    /// The collection's id.
    pub collection: i64,
    /// The partition's id.
    pub partition: i64,
    /// The segment's id.
    pub segment: i64,
    /// The field's id.
    pub field: i64,
}

/// Whether a log says that its field can't be null, which takes a byte: from 2.5 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nullability {
    /// It says so.
    Told,
    /// It doesn't.
    Untold,
}

/// A log of values of 64 bits each that were written at these times.
pub fn encode(of: Of, nullability: Nullability, times: &[u64], payload: &[u8]) -> Vec<u8> {
    let values = times.len() * 8;
    let extra = match nullability {
        Nullability::Told => format!(r#"{{"nullable":false,"original_size":"{}"}}"#, values + 1),
        Nullability::Untold => format!(r#"{{"original_size":"{values}"}}"#),
    };
    let range = [times.iter().min(), times.iter().max()];
    let range = range.map(|time| time.copied().unwrap_or_default().to_le_bytes()).concat();
    let mut descriptor = [of.collection, of.partition, of.segment, of.field].map(i64::to_le_bytes).concat();
    descriptor.extend(&range);
    descriptor.extend(INT64.to_le_bytes());
    descriptor.extend(FIXED_PARTS);
    descriptor.extend(length(extra.len()).to_le_bytes());
    descriptor.extend(extra.into_bytes());
    let mut rows = range;
    rows.extend(payload);
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

#[expect(clippy::expect_used, reason = "a test has no log of 4 GiB")]
fn length(of: usize) -> u32 {
    u32::try_from(of).expect("logs are small")
}

/// The payload of a log; `None` for what isn't one.
pub fn payload(log: &[u8]) -> Option<&[u8]> {
    let log = log.strip_prefix(&MAGIC.to_le_bytes())?;
    let next = log.get(HEADER - 4..HEADER)?;
    let rows = usize::try_from(u32::from_le_bytes(next.try_into().ok()?)).ok()? + HEADER + RANGE;
    log.get(rows - 4..)
}
