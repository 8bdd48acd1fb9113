//! Reads the primary keys and timestamps of an insert log's rows, and the deletes of a delta log.

use bytes::Bytes;
use milvault_model::PrimaryKey;
use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::DataType,
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    schema::types::SchemaDescriptor,
};
use serde::Deserialize;

use super::payloads;

/// The number of values in memory at once, in addition to a page of the file.
const BATCH: usize = 8192;

/// Why a log can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("not a log")]
    Log,
    #[error("the log has no field {0}")]
    Field(i64),
    #[error("column {0} of the log has an unexpected type")]
    Type(usize),
    #[error("the log has a malformed delete")]
    Delete,
    #[error("{0}")]
    Parquet(String),
}

impl From<ParquetError> for Unreadable {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error.to_string())
    }
}

/// A delete, which removes the rows with this primary key that were written before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delete {
    pub(crate) key: PrimaryKey,
    /// A hybrid timestamp.
    pub(crate) timestamp: u64,
}

/// Calls `each` with the values of the primary key's field, in the order of the rows.
pub(crate) fn each_key(log: &Bytes, field: i64, mut each: impl FnMut(PrimaryKey)) -> Result<(), Unreadable> {
    each_table(log, |table| {
        let column = column_of(table.schema(), field)?;
        (0..table.groups()).try_for_each(|group| table.each_key(group, column, &mut each))
    })
}

/// Returns the values of the timestamps' field, in the order of the rows.
pub(crate) fn timestamps(log: &Bytes, field: i64) -> Result<Vec<u64>, Unreadable> {
    let mut found = Vec::new();
    each_table(log, |table| {
        let column = column_of(table.schema(), field)?;
        (0..table.groups()).try_for_each(|group| {
            found.extend(table.timestamps(group, column)?);
            Ok(())
        })
    })?;
    Ok(found)
}

/// Calls `each` with the deletes of a delta log.
///
/// A delete is a text in a single column, or a key and a timestamp in two columns
/// (`internal/storage/serde_delta.go` in `milvus-io/milvus`, branch 2.6).
pub(crate) fn each_delete(log: &Bytes, mut each: impl FnMut(Delete)) -> Result<(), Unreadable> {
    each_table(log, |table| (0..table.groups()).try_for_each(|group| table.each_delete(group, &mut each)))
}

/// Parses a delete's text: JSON, or, from before keys could be texts, a key and a timestamp with a comma between them
/// (`DeleteLog.Parse` in `internal/storage/delta_data.go`, branch 2.5).
fn parse_delete(text: &[u8]) -> Option<Delete> {
    #[derive(Deserialize)]
    struct Json {
        pk: PrimaryKey,
        ts: u64,
    }
    if let Ok(Json { pk, ts }) = serde_json::from_slice(text) {
        return Some(Delete { key: pk, timestamp: ts });
    }
    let (key, timestamp) = std::str::from_utf8(text).ok()?.split_once(',')?;
    Some(Delete { key: PrimaryKey::Int(key.parse().ok()?), timestamp: timestamp.parse().ok()? })
}

/// Returns the index of a field's column. The column of a log with a single field has no ID.
fn column_of(schema: &SchemaDescriptor, field: i64) -> Result<usize, Unreadable> {
    let id_of = |column: usize| {
        let info = schema.column(column).self_type().get_basic_info().clone();
        info.has_id().then(|| i64::from(info.id()))
    };
    if schema.num_columns() == 1 && id_of(0).is_none() {
        return Ok(0);
    }
    (0..schema.num_columns()).find(|column| id_of(*column) == Some(field)).ok_or(Unreadable::Field(field))
}

fn each_table(log: &Bytes, mut each: impl FnMut(&Table) -> Result<(), Unreadable>) -> Result<(), Unreadable> {
    payloads(log).ok_or(Unreadable::Log)?.into_iter().try_for_each(|payload| each(&Table::open(payload)?))
}

/// A Parquet file.
struct Table(SerializedFileReader<Bytes>);

impl Table {
    fn open(file: Bytes) -> Result<Self, Unreadable> {
        Ok(Self(SerializedFileReader::new(file)?))
    }

    fn schema(&self) -> &SchemaDescriptor {
        self.0.metadata().file_metadata().schema_descr()
    }

    /// Returns the number of row groups.
    fn groups(&self) -> usize {
        self.0.num_row_groups()
    }

    fn reader(&self, group: usize, column: usize) -> Result<ColumnReader, Unreadable> {
        Ok(self.0.get_row_group(group)?.get_column_reader(column)?)
    }

    fn each_key(&self, group: usize, column: usize, mut each: impl FnMut(PrimaryKey)) -> Result<(), Unreadable> {
        match self.reader(group, column)? {
            ColumnReader::Int64ColumnReader(reader) => each_value(reader, |key| {
                each(PrimaryKey::Int(key));
                Ok(())
            }),
            ColumnReader::ByteArrayColumnReader(reader) => each_value(reader, |key| {
                each(PrimaryKey::Text(key.as_utf8()?.to_owned()));
                Ok(())
            }),
            _ => Err(Unreadable::Type(column)),
        }
    }

    fn timestamps(&self, group: usize, column: usize) -> Result<Vec<u64>, Unreadable> {
        let ColumnReader::Int64ColumnReader(reader) = self.reader(group, column)? else {
            return Err(Unreadable::Type(column));
        };
        let mut found = Vec::new();
        each_value(reader, |timestamp| {
            found.push(timestamp.cast_unsigned());
            Ok(())
        })?;
        Ok(found)
    }

    fn each_delete(&self, group: usize, mut each: impl FnMut(Delete)) -> Result<(), Unreadable> {
        if self.schema().num_columns() > 1 {
            let mut timestamps = self.timestamps(group, 1)?.into_iter();
            return self.each_key(group, 0, |key| {
                each(Delete { key, timestamp: timestamps.next().unwrap_or(u64::MAX) });
            });
        }
        let ColumnReader::ByteArrayColumnReader(reader) = self.reader(group, 0)? else {
            return Err(Unreadable::Type(0));
        };
        each_value(reader, |text| {
            each(parse_delete(text.data()).ok_or(Unreadable::Delete)?);
            Ok(())
        })
    }
}

/// Calls `each` with all values of a column in a row group. The columns that this module reads have no nulls.
fn each_value<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    mut each: impl FnMut(T::T) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    while reader.read_records(BATCH, Some(&mut levels), None, &mut values)?.0 > 0 {
        values.drain(..).try_for_each(&mut each)?;
        levels.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::{
        basic::Type as Physical,
        data_type::Int64Type,
        file::writer::SerializedFileWriter,
        schema::types::{Type, TypePtr},
    };

    use super::*;

    /// Logs that Milvus 2.3.5 wrote: five rows, and deletes of the second and the third.
    const NUMBERS: [&[u8]; 3] = [
        include_bytes!("logs/numbers.keys"),
        include_bytes!("logs/numbers.timestamps"),
        include_bytes!("logs/numbers.deletes"),
    ];
    const TEXTS: [&[u8]; 2] = [include_bytes!("logs/texts.keys"), include_bytes!("logs/texts.deletes")];

    fn keys(log: &Bytes, field: i64) -> Result<Vec<PrimaryKey>, Unreadable> {
        let mut keys = Vec::new();
        each_key(log, field, |key| keys.push(key))?;
        Ok(keys)
    }

    fn deletes(log: &Bytes) -> Result<Vec<Delete>, Unreadable> {
        let mut deletes = Vec::new();
        each_delete(log, |delete| deletes.push(delete))?;
        Ok(deletes)
    }

    fn numbers(keys: &[i64]) -> Vec<PrimaryKey> {
        keys.iter().map(|key| PrimaryKey::Int(*key)).collect()
    }

    fn texts(keys: &[&str]) -> Vec<PrimaryKey> {
        keys.iter().map(|key| PrimaryKey::Text((*key).to_owned())).collect()
    }

    /// Returns a Parquet file with a column of numbers for each field.
    fn table(columns: &[(Option<i32>, &[i64])]) -> Bytes {
        let field = |id| Type::primitive_type_builder("val", Physical::INT64).with_id(id).build().unwrap();
        let fields: Vec<TypePtr> = columns.iter().map(|(id, _)| Arc::new(field(*id))).collect();
        let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build().unwrap());
        let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
        let mut group = file.next_row_group().unwrap();
        for (_, numbers) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(numbers, Some(&vec![1; numbers.len()]), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        file.into_inner().unwrap().into()
    }

    #[test]
    fn logs_written_by_milvus_are_read() {
        let [keys_log, timestamps_log, deletes_log] = NUMBERS.map(Bytes::from_static);
        assert_eq!(keys(&keys_log, 100).unwrap(), numbers(&[5, -3, 7, i64::MAX, 11]));
        let written = timestamps(&timestamps_log, 1).unwrap();
        assert!(written.len() == 5 && written.iter().all(|timestamp| *timestamp == written[0]));
        let found = deletes(&deletes_log).unwrap();
        assert_eq!(found.iter().map(|delete| delete.key.clone()).collect::<Vec<_>>(), numbers(&[-3, 7]));
        // The deletes were made seconds later; timestamps are hybrid.
        assert!(found.iter().all(|delete| (1..60_000).contains(&((delete.timestamp - written[0]) >> 18))));

        let [keys_log, deletes_log] = TEXTS.map(Bytes::from_static);
        assert_eq!(keys(&keys_log, 100).unwrap(), texts(&["a", "b\"c", "é", "d", "e"]));
        let found: Vec<_> = deletes(&deletes_log).unwrap().into_iter().map(|delete| delete.key).collect();
        assert_eq!(found, texts(&["b\"c", "é"]));
    }

    #[test]
    fn a_field_is_found_among_others_by_its_id_and_deletes_may_have_two_columns() {
        let group = table(&[(Some(0), &[8, 9]), (Some(1), &[70, 71]), (Some(100), &[1, 2])]);
        assert_eq!(keys(&group, 100), Ok(numbers(&[1, 2])));
        assert_eq!(timestamps(&group, 1), Ok(vec![70, 71]));
        assert_eq!(keys(&group, 101), Err(Unreadable::Field(101)));
        let found = deletes(&table(&[(None, &[5, 6]), (None, &[70, 80])])).unwrap();
        let delete = |key, timestamp| Delete { key: PrimaryKey::Int(key), timestamp };
        assert_eq!(found, [delete(5, 70), delete(6, 80)]);
    }

    #[test]
    fn a_delete_is_json_or_a_key_and_a_timestamp_separated_by_a_comma() {
        let number = |key, timestamp| Some(Delete { key: PrimaryKey::Int(key), timestamp });
        assert_eq!(parse_delete(br#"{"pk":-5,"ts":449,"pkType":5}"#), number(-5, 449));
        assert_eq!(parse_delete(b"-5,449"), number(-5, 449));
        let text = Delete { key: PrimaryKey::Text("5".to_owned()), timestamp: 449 };
        assert_eq!(parse_delete(br#"{"pk":"5","ts":449,"pkType":21}"#), Some(text));
        for malformed in [&b"5"[..], b"", b"a,5", b"5,a", b"{}"] {
            assert_eq!(parse_delete(malformed), None);
        }
    }

    /// Returns the log without the position of the event after the second one.
    fn without_next(log: &[u8]) -> Bytes {
        let mut log = log.to_vec();
        let descriptor = u32::from_le_bytes(log[13..17].try_into().unwrap()) as usize;
        let next = 4 + descriptor + 13;
        log[next..next + 4].fill(0xff);
        log.into()
    }

    #[test]
    fn the_end_of_an_event_is_computed_from_its_length() {
        assert_eq!(keys(&without_next(NUMBERS[0]), 100).unwrap(), numbers(&[5, -3, 7, i64::MAX, 11]));
        assert_eq!(deletes(&without_next(NUMBERS[2])).unwrap().len(), 2);
    }

    #[test]
    fn a_truncated_log_is_unreadable() {
        for log in NUMBERS.into_iter().chain(TEXTS).map(Bytes::from_static) {
            for end in 0..log.len() {
                assert!(keys(&log.slice(..end), 100).is_err(), "{end} bytes");
            }
        }
    }
}
