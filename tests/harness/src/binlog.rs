//! A log as Milvus writes it: a magic number, an event that describes it, and one with rows or deletes as Parquet
//! (`internal/storage` in `milvus-io/milvus`: `binlog_writer.go`, `event_header.go`, `event_data.go`). A test's own note
//! follows, in an event of a type that Milvus has for other files.

use std::sync::Arc;

use parquet::{
    basic::Type as Physical,
    data_type::{ByteArray, ByteArrayType, Int64Type},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::Type,
};

const MAGIC: u32 = 0x00ff_fabc;

/// The length of an event's header: its timestamp, type, length, and where the next event begins.
const HEADER: usize = 8 + 1 + 4 + 4;

const DESCRIPTOR: u8 = 0;
const INSERT: u8 = 1;
const DELETE: u8 = 2;
/// The type of an index's parameters.
const NOTE: u8 = 7;

/// The length in bytes of the fixed part of each type of event.
const FIXED_PARTS: [u8; 8] = [52, 16, 16, 16, 16, 16, 16, 16];

const INT64: u32 = 5;

/// The field of the timestamps.
const TIMESTAMP: i64 = 1;

/// What a log belongs to.
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
    /// The log says so.
    Told,
    /// The log doesn't say so.
    Untold,
}

/// A field's values, or deletes.
#[derive(Debug, Clone)]
pub enum Column {
    /// 64-bit integers.
    Numbers(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
}

impl Column {
    /// What a field has in these rows, each a key and when it was written: the timestamps, or the keys.
    pub fn of_field(field: i64, rows: &[(i64, u64)]) -> Self {
        let value = |(key, time): &(i64, u64)| if field == TIMESTAMP { time.cast_signed() } else { *key };
        Self::Numbers(rows.iter().map(value).collect())
    }

    /// Deletes of keys, each at its time, as JSON (`DeleteLog` in `internal/storage/delta_data.go`).
    pub fn of_deletes(deletes: &[(i64, u64)]) -> Self {
        let text = |(key, time): &(i64, u64)| format!(r#"{{"pk":{key},"ts":{time},"pkType":{INT64}}}"#);
        Self::Texts(deletes.iter().map(text).collect())
    }
}

/// A log of rows that were written at these times, with a value of 64 bits each, or of deletes; several columns have the
/// ids of their fields.
pub fn encode(
    of: Of,
    nullability: Nullability,
    times: &[u64],
    columns: &[(Option<i64>, Column)],
    note: &[u8],
) -> Vec<u8> {
    let kind = if matches!(columns, [(_, Column::Texts(_))]) { DELETE } else { INSERT };
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
    rows.extend(table(columns));
    let mut log = MAGIC.to_le_bytes().to_vec();
    for (kind, data) in [(DESCRIPTOR, descriptor), (kind, rows), (NOTE, note.to_vec())] {
        let whole = HEADER + data.len();
        // The stream writers of newer servers leave it out (`newEventHeader` in `event_header.go`, 2.5).
        let next = match (kind, nullability) {
            (INSERT | DELETE, Nullability::Told) => u32::MAX,
            _ => length(log.len() + whole),
        };
        log.extend([0; 8]);
        log.push(kind);
        log.extend(length(whole).to_le_bytes());
        log.extend(next.to_le_bytes());
        log.extend(data);
    }
    log
}

/// A Parquet file with these columns.
#[expect(clippy::expect_used, reason = "numbers and texts can always be written")]
fn table(columns: &[(Option<i64>, Column)]) -> Vec<u8> {
    write(columns).expect("the columns can be written")
}

fn write(columns: &[(Option<i64>, Column)]) -> Result<Vec<u8>, ParquetError> {
    let fields = columns.iter().map(|(id, column)| {
        let physical = match column {
            Column::Numbers(_) => Physical::INT64,
            Column::Texts(_) => Physical::BYTE_ARRAY,
        };
        Type::primitive_type_builder("val", physical)
            .with_id(id.and_then(|id| i32::try_from(id).ok()))
            .build()
            .map(Arc::new)
    });
    let schema = Type::group_type_builder("schema").with_fields(fields.collect::<Result<_, _>>()?).build()?;
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_compression(parquet::basic::Compression::UNCOMPRESSED)
        .build();
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    for (_, column) in columns {
        let Some(mut writer) = group.next_column()? else { break };
        fill(&mut writer, column)?;
        writer.close()?;
    }
    group.close()?;
    file.into_inner()
}

fn fill(writer: &mut SerializedColumnWriter<'_>, column: &Column) -> Result<(), ParquetError> {
    let written = match column {
        Column::Numbers(numbers) => {
            writer.typed::<Int64Type>().write_batch(numbers, Some(&vec![1; numbers.len()]), None)
        }
        Column::Texts(texts) => {
            let texts: Vec<ByteArray> = texts.iter().map(|text| text.as_str().into()).collect();
            writer.typed::<ByteArrayType>().write_batch(&texts, Some(&vec![1; texts.len()]), None)
        }
    };
    written.map(|_| ())
}

#[expect(clippy::expect_used, reason = "a test has no log of 4 GiB")]
fn length(of: usize) -> u32 {
    u32::try_from(of).expect("logs are small")
}

/// The note in a log; `None` if these bytes aren't a log.
pub fn note(log: &[u8]) -> Option<&[u8]> {
    let mut events = log.strip_prefix(&MAGIC.to_le_bytes())?;
    loop {
        let length = u32::from_le_bytes(events.get(9..13)?.try_into().ok()?);
        let (event, rest) = events.split_at_checked(usize::try_from(length).ok()?)?;
        if *event.get(8)? == NOTE {
            return event.get(HEADER..);
        }
        events = rest;
    }
}
