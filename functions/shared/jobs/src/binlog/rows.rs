//! The primary keys and timestamps of a log's rows, and the deletes of a log.

use bytes::Bytes;
use milvault_model::PrimaryKey;
use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, DataType},
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    schema::types::SchemaDescriptor,
};
use serde::Deserialize;

use super::tables;

/// Why a log can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is no log")]
    Log,
    #[error("it has no field {0}")]
    Field(i64),
    #[error("its column {0} has values of another type")]
    Type(usize),
    #[error("a delete can't be understood")]
    Delete,
    #[error("{0}")]
    Parquet(String),
}

impl From<ParquetError> for Unreadable {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error.to_string())
    }
}

/// A delete: it takes the rows with this primary key that were there at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delete {
    pub(crate) key: PrimaryKey,
    /// A hybrid timestamp.
    pub(crate) timestamp: u64,
}

/// The values of this field, which has primary keys, in the order of the rows.
pub(crate) fn keys(log: &Bytes, field: i64) -> Result<Vec<PrimaryKey>, Unreadable> {
    read(log, |table, keys| table.keys(column_of(table.schema(), field)?, keys))
}

/// The values of this field, which has timestamps, in the order of the rows.
pub(crate) fn timestamps(log: &Bytes, field: i64) -> Result<Vec<u64>, Unreadable> {
    read(log, |table, timestamps| table.timestamps(column_of(table.schema(), field)?, timestamps))
}

/// The deletes of a log.
///
/// A delete is a text in a single column, or a key and a timestamp in a column each
/// (`internal/storage/serde_delta.go` in `milvus-io/milvus`, branch 2.6).
pub(crate) fn deletes(log: &Bytes) -> Result<Vec<Delete>, Unreadable> {
    read(log, |table, deletes| {
        if table.schema().num_columns() > 1 {
            let (mut keys, mut timestamps) = (Vec::new(), Vec::new());
            table.keys(0, &mut keys)?;
            table.timestamps(1, &mut timestamps)?;
            let pairs = keys.into_iter().zip(timestamps);
            deletes.extend(pairs.map(|(key, timestamp)| Delete { key, timestamp }));
            return Ok(());
        }
        for text in table.texts(0)? {
            deletes.push(delete(text.data()).ok_or(Unreadable::Delete)?);
        }
        Ok(())
    })
}

/// JSON, or, from before keys could be texts, a key and a timestamp with a comma between them (`DeleteLog.Parse` in
/// `internal/storage/delta_data.go`, branch 2.5).
fn delete(text: &[u8]) -> Option<Delete> {
    #[derive(Deserialize)]
    struct Told {
        pk: PrimaryKey,
        ts: u64,
    }
    if let Ok(Told { pk, ts }) = serde_json::from_slice(text) {
        return Some(Delete { key: pk, timestamp: ts });
    }
    let (key, timestamp) = std::str::from_utf8(text).ok()?.split_once(',')?;
    Some(Delete { key: PrimaryKey::Int(key.parse().ok()?), timestamp: timestamp.parse().ok()? })
}

/// The column of a field. A log of one field has a column without an id.
fn column_of(schema: &SchemaDescriptor, field: i64) -> Result<usize, Unreadable> {
    if schema.num_columns() == 1 {
        return Ok(0);
    }
    let is_of = |at: &usize| {
        let info = schema.column(*at).self_type().get_basic_info().clone();
        info.has_id() && i64::from(info.id()) == field
    };
    (0..schema.num_columns()).find(is_of).ok_or(Unreadable::Field(field))
}

fn read<T>(
    log: &Bytes,
    mut each: impl FnMut(&Table, &mut Vec<T>) -> Result<(), Unreadable>,
) -> Result<Vec<T>, Unreadable> {
    let mut found = Vec::new();
    for table in tables(log).ok_or(Unreadable::Log)? {
        each(&Table(SerializedFileReader::new(table)?), &mut found)?;
    }
    Ok(found)
}

/// A Parquet file.
struct Table(SerializedFileReader<Bytes>);

impl Table {
    fn schema(&self) -> &SchemaDescriptor {
        self.0.metadata().file_metadata().schema_descr()
    }

    fn keys(&self, column: usize, into: &mut Vec<PrimaryKey>) -> Result<(), Unreadable> {
        for group in 0..self.0.num_row_groups() {
            match self.0.get_row_group(group)?.get_column_reader(column)? {
                ColumnReader::Int64ColumnReader(reader) => {
                    into.extend(values(reader)?.into_iter().map(PrimaryKey::Int))
                }
                ColumnReader::ByteArrayColumnReader(reader) => {
                    for text in values(reader)? {
                        into.push(PrimaryKey::Text(text.as_utf8()?.to_owned()));
                    }
                }
                _ => return Err(Unreadable::Type(column)),
            }
        }
        Ok(())
    }

    fn timestamps(&self, column: usize, into: &mut Vec<u64>) -> Result<(), Unreadable> {
        for group in 0..self.0.num_row_groups() {
            let ColumnReader::Int64ColumnReader(reader) = self.0.get_row_group(group)?.get_column_reader(column)?
            else {
                return Err(Unreadable::Type(column));
            };
            into.extend(values(reader)?.into_iter().map(i64::cast_unsigned));
        }
        Ok(())
    }

    fn texts(&self, column: usize) -> Result<Vec<ByteArray>, Unreadable> {
        let mut texts = Vec::new();
        for group in 0..self.0.num_row_groups() {
            let ColumnReader::ByteArrayColumnReader(reader) = self.0.get_row_group(group)?.get_column_reader(column)?
            else {
                return Err(Unreadable::Type(column));
            };
            texts.extend(values(reader)?);
        }
        Ok(texts)
    }
}

/// All values of a column in a group of rows. None of those that are read here may be null.
fn values<T: DataType>(mut reader: ColumnReaderImpl<T>) -> Result<Vec<T::T>, Unreadable> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    while reader.read_records(usize::MAX, Some(&mut levels), None, &mut values)?.0 > 0 {}
    Ok(values)
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

    /// Milvus 2.3.5 wrote these: five rows, and deletes of the second and the third.
    const NUMBERS: [&[u8]; 3] = [
        include_bytes!("logs/numbers.keys"),
        include_bytes!("logs/numbers.timestamps"),
        include_bytes!("logs/numbers.deletes"),
    ];
    const TEXTS: [&[u8]; 2] = [include_bytes!("logs/texts.keys"), include_bytes!("logs/texts.deletes")];

    fn numbers(keys: &[i64]) -> Vec<PrimaryKey> {
        keys.iter().map(|key| PrimaryKey::Int(*key)).collect()
    }

    fn texts(keys: &[&str]) -> Vec<PrimaryKey> {
        keys.iter().map(|key| PrimaryKey::Text((*key).to_owned())).collect()
    }

    /// A file with a column of these numbers for each of these fields.
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
    fn what_milvus_wrote_is_read() {
        let [keys_log, timestamps_log, deletes_log] = NUMBERS.map(Bytes::from_static);
        assert_eq!(keys(&keys_log, 100).unwrap(), numbers(&[5, -3, 7, i64::MAX, 11]));
        let written = timestamps(&timestamps_log, 1).unwrap();
        assert!(written.len() == 5 && written.iter().all(|timestamp| *timestamp == written[0]));
        let found = deletes(&deletes_log).unwrap();
        assert_eq!(found.iter().map(|delete| delete.key.clone()).collect::<Vec<_>>(), numbers(&[-3, 7]));
        // Seconds later, in a hybrid timestamp.
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
    fn a_delete_is_json_or_as_before_keys_could_be_texts() {
        let number = |key, timestamp| Some(Delete { key: PrimaryKey::Int(key), timestamp });
        assert_eq!(delete(br#"{"pk":-5,"ts":449,"pkType":5}"#), number(-5, 449));
        assert_eq!(delete(b"-5,449"), number(-5, 449));
        let text = Delete { key: PrimaryKey::Text("5".to_owned()), timestamp: 449 };
        assert_eq!(delete(br#"{"pk":"5","ts":449,"pkType":21}"#), Some(text));
        for odd in [&b"5"[..], b"", b"a,5", b"5,a", b"{}"] {
            assert_eq!(delete(odd), None);
        }
    }

    #[test]
    fn what_is_cut_off_is_unreadable() {
        let log = Bytes::from_static(NUMBERS[0]);
        for end in 0..log.len() {
            keys(&log.slice(..end), 100).map(|keys| assert!(keys.is_empty(), "{end} bytes")).unwrap_or_default();
        }
    }
}
