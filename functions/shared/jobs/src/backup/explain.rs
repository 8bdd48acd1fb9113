//! Checks that a segment's insert logs explain its rows. An import loads all files in the segment's folders: rows of
//! missing files are lost, and rows that a retried write left behind are loaded twice.
//!
//! [`judge`] checks which logs there are. If a folder has several logs and the server doesn't report which of them
//! count, [`Resolver::resolve`] reads the logs to find copies.

use std::collections::{BTreeMap, BTreeSet};

use milvault_model::{CollectionCapture, FieldCapture, FieldPresence, ObjectKey, SegmentCapture, StorageVersion};
use milvault_ports::{Bucket, InsertLog, ObjectMeta, Objects};
use sha2::{Digest, Sha256};

use crate::{
    Error,
    binlog::{HEADER_BYTES, LogHeader, MAX_LOG_BYTES, TIMESTAMP},
};

/// The id of the field of row ids.
const ROW_ID: i64 = 0;
/// The lowest id of a schema's fields; in storage version 2, lower numbers are groups of columns.
const FIRST_FIELD: i64 = 100;

/// An insert log that was listed.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) key: ObjectKey,
    pub(super) place: InsertLog,
    pub(super) object: ObjectMeta,
}

/// A segment's insert logs by folder, sorted by their ids, which is the order of the writes.
pub(super) type Folders = BTreeMap<i64, Vec<Listed>>;

pub(super) fn folders(logs: Vec<Listed>) -> Folders {
    let mut folders = Folders::new();
    for log in logs {
        folders.entry(log.place.folder).or_default().push(log);
    }
    folders.values_mut().for_each(|logs| logs.sort_by_key(|log| log.place.log));
    folders
}

/// Returns only the logs of row ids.
pub(super) fn row_ids(folders: &Folders) -> Folders {
    folders.get(&ROW_ID).map(|logs| (ROW_ID, logs.clone())).into_iter().collect()
}

/// Returns a field without logs in the segment, which may have been added after the segment was written.
pub(super) fn field_without_logs<'f>(fields: &'f [FieldCapture], folders: &Folders) -> Option<&'f FieldCapture> {
    fields.iter().find(|field| !folders.contains_key(&field.id))
}

/// Whether logs explain a segment's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The logs are of one write, or of several that are all in the server's metadata.
    Explained,
    /// A folder has several logs, some of which may be copies.
    Doubtful,
    /// The logs don't explain the rows, for this reason.
    Inconsistent(String),
}

/// The source of a list of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The server's metadata.
    Metadata,
    /// A listing of the bucket.
    Listing,
}

/// Judges a segment by the folders and numbers of its logs.
pub(super) fn judge(segment: &SegmentCapture, fields: &[FieldCapture], folders: &Folders, source: Source) -> Judgement {
    let most = folders.values().map(Vec::len).max().unwrap_or_default();
    let unequal = folders.iter().find(|(_, logs)| logs.len() != most);
    let is_grouped = segment.storage != StorageVersion::V1;
    let is_known = |folder: i64| {
        let is_system = if is_grouped { folder < FIRST_FIELD } else { [ROW_ID, TIMESTAMP].contains(&folder) };
        is_system || fields.is_empty() || fields.iter().any(|field| field.id == folder)
    };
    if let Some(unknown) = folders.keys().find(|folder| !is_known(**folder)) {
        return Judgement::Inconsistent(format!("it has logs of field {unknown}, which the schema does not have"));
    }
    if !is_grouped {
        for system in [ROW_ID, TIMESTAMP] {
            if !folders.contains_key(&system) {
                return Judgement::Inconsistent(format!("it has no logs of field {system}"));
            }
        }
        let is_missing =
            |field: &&FieldCapture| field.presence == FieldPresence::Always && !folders.contains_key(&field.id);
        if let Some(field) = fields.iter().find(is_missing) {
            return Judgement::Inconsistent(format!("it has no logs of field {} ({})", field.id, field.name));
        }
    }
    match (unequal, source) {
        (Some((folder, logs)), Source::Metadata) => Judgement::Inconsistent(unequal_logs(*folder, logs.len(), most)),
        (Some((folder, logs)), Source::Listing) if is_grouped => {
            Judgement::Inconsistent(unequal_logs(*folder, logs.len(), most))
        }
        (None, Source::Listing) if most > 1 && !is_grouped => Judgement::Doubtful,
        (Some(_), Source::Listing) => Judgement::Doubtful,
        (None, _) => Judgement::Explained,
    }
}

fn unequal_logs(folder: i64, logs: usize, most: usize) -> String {
    format!("it has {logs} logs of field {folder} and {most} of another")
}

/// Determines which of a segment's logs count, if that can be proven.
pub(super) struct Resolver<'a> {
    pub(super) objects: &'a dyn Objects,
    pub(super) bucket: &'a Bucket,
}

/// The logs that don't count, or the reason why the logs don't explain the rows.
pub(super) type Resolved = Result<BTreeSet<InsertLog>, String>;

impl Resolver<'_> {
    /// Finds the copies among a segment's logs. Row ids are unique: if two logs have the same number of rows and the
    /// same row ids, a retried write left one of them behind. The remaining logs must have as many rows as the segment,
    /// and every other field must have as many logs.
    pub(super) async fn resolve(&self, segment: &SegmentCapture, folders: &Folders) -> Result<Resolved, Error> {
        let ids = folders.get(&ROW_ID).map(Vec::as_slice).unwrap_or_default();
        let mut rows = Vec::new();
        for log in ids {
            match self.beginning(segment, log).await? {
                Ok(beginning) => rows.push(beginning.rows_of_64_bits()),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let mut copies: BTreeSet<usize> = BTreeSet::new();
        if rows.iter().sum::<u64>() > segment.rows {
            let mut seen = BTreeSet::new();
            // The last of several attempts is the write that succeeded.
            for place in (0..ids.len()).rev() {
                let is_unique = rows.iter().filter(|other| **other == rows[place]).count() == 1;
                if is_unique {
                    continue;
                }
                match self.payload(segment, &ids[place]).await? {
                    Ok(payload) if !seen.insert((rows[place], payload)) => drop(copies.insert(place)),
                    Ok(_) => {}
                    Err(reason) => return Ok(Err(reason)),
                }
            }
        }
        let kept = |place: &usize| !copies.contains(place);
        let explained: u64 = (0..ids.len()).filter(kept).map(|place| rows[place]).sum();
        if explained != segment.rows {
            let (all, logs) = (rows.iter().sum::<u64>(), ids.len());
            return Ok(Err(format!("its {logs} logs of row ids have {all} rows, but it should have {}", segment.rows)));
        }
        let writes = ids.len() - copies.len();
        let mut left_behind = BTreeSet::new();
        for (folder, logs) in folders {
            if logs.len() == ids.len() {
                left_behind.extend(copies.iter().map(|place| logs[*place].place));
            } else if logs.len() > writes {
                match self.surplus(segment, logs, logs.len() - writes).await? {
                    Ok(surplus) => left_behind.extend(surplus),
                    Err(reason) => return Ok(Err(reason)),
                }
            } else if logs.len() < writes {
                return Ok(Err(unequal_logs(*folder, logs.len(), ids.len())));
            }
        }
        Ok(Ok(left_behind))
    }

    /// Chooses this number of a field's logs that are copies of a later one, if there is only one way to choose them.
    async fn surplus(&self, segment: &SegmentCapture, logs: &[Listed], surplus: usize) -> Result<Resolved, Error> {
        let mut same: BTreeMap<[u8; 32], Vec<&Listed>> = BTreeMap::new();
        for log in logs {
            match self.payload(segment, log).await? {
                Ok(payload) => same.entry(payload).or_default().push(log),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let repeated: Vec<&Vec<&Listed>> = same.values().filter(|logs| logs.len() > 1).collect();
        let copies: usize = repeated.iter().map(|logs| logs.len() - 1).sum();
        let chosen: Vec<&Listed> = match repeated.as_slice() {
            _ if copies == surplus => repeated.iter().flat_map(|logs| &logs[..logs.len() - 1]).copied().collect(),
            [logs] if copies > surplus => logs[..surplus].to_vec(),
            _ => {
                let place = logs[0].place.folder;
                return Ok(Err(format!("it has {surplus} more logs of field {place} than of row ids, and no copies")));
            }
        };
        Ok(Ok(chosen.into_iter().map(|log| log.place).collect()))
    }

    async fn beginning(&self, segment: &SegmentCapture, log: &Listed) -> Result<Result<LogHeader, String>, Error> {
        let end = log.object.size.min(HEADER_BYTES);
        let Some(bytes) = self.objects.get_range(self.bucket, &log.object.key, 0..end).await? else {
            return Ok(Err(format!("its log {} is gone", log.object.key)));
        };
        Ok(beginning(segment, log, &bytes))
    }

    /// Returns a hash of a log's rows: copies differ only in their headers.
    async fn payload(&self, segment: &SegmentCapture, log: &Listed) -> Result<Result<[u8; 32], String>, Error> {
        if log.object.size > MAX_LOG_BYTES {
            return Ok(Err(format!("its log {} is too large to compare with others", log.object.key)));
        }
        let Some(bytes) = self.objects.get_range(self.bucket, &log.object.key, 0..log.object.size).await? else {
            return Ok(Err(format!("its log {} is gone", log.object.key)));
        };
        Ok(beginning(segment, log, &bytes)
            .map(|beginning| Sha256::digest(bytes.get(beginning.payload..).unwrap_or_default()).into()))
    }
}

fn beginning(segment: &SegmentCapture, log: &Listed, bytes: &[u8]) -> Result<LogHeader, String> {
    let key = &log.object.key;
    let beginning = LogHeader::parse(bytes).ok_or_else(|| format!("its log {key} cannot be read"))?;
    match (beginning.segment, beginning.field) == (segment.id, log.place.folder) {
        true => Ok(beginning),
        false => Err(format!("its log {key} is of segment {} and field {}", beginning.segment, beginning.field)),
    }
}

/// The message about a segment whose files don't explain its rows.
pub(super) fn unexplained(collection: &CollectionCapture, segment: &SegmentCapture, reason: &str) -> String {
    let partition = collection.partitions.iter().find(|partition| partition.id == segment.partition_id);
    let partition = partition.map_or_else(|| segment.partition_id.to_string(), |partition| partition.name.clone());
    let SegmentCapture { id, rows, .. } = segment;
    let name = &collection.name;
    format!("the files of segment {id} in partition {partition} of {name} do not explain its {rows} rows: {reason}")
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use async_trait::async_trait;
    use milvault_model::{Region, SegmentLevel, Time, Written};
    use milvault_ports::{CopyOutcome, CopyRequest, LockMode, Locking, ObjectsError, Page, PutMode, PutOutcome};

    use super::*;
    use crate::binlog::tests::log;

    const SEGMENT: i64 = 7;

    fn segment(rows: u64, storage: StorageVersion) -> SegmentCapture {
        let (level, written) = (SegmentLevel::Data, Written::Before);
        SegmentCapture { id: SEGMENT, partition_id: 2, rows, level, storage, written, delta_logs: Vec::new() }
    }

    fn fields() -> Vec<FieldCapture> {
        let field = |id, presence| FieldCapture { id, name: format!("f{id}"), presence };
        vec![field(100, FieldPresence::Always), field(101, FieldPresence::SinceAdded)]
    }

    fn listed(folder: i64, number: i64, size: usize) -> Listed {
        let source = format!("insert_log/1/2/{SEGMENT}/{folder}/{number}");
        let object = ObjectMeta { key: source.clone(), size: size as u64, etag: number.to_string() };
        let key = ObjectKey::from_source(&source).unwrap();
        Listed { key, place: InsertLog { folder, log: number }, object }
    }

    /// Folders with these numbers of logs.
    fn with_counts(counts: &[(i64, i64)]) -> Folders {
        folders(counts.iter().flat_map(|(folder, count)| (0..*count).map(|log| listed(*folder, log, 1))).collect())
    }

    fn judged(counts: &[(i64, i64)], storage: StorageVersion, source: Source) -> Judgement {
        judge(&segment(10, storage), &fields(), &with_counts(counts), source)
    }

    fn inconsistency(judgement: Judgement) -> String {
        match judgement {
            Judgement::Inconsistent(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn as_many_logs_in_every_field_of_the_schema_explain_a_segment() {
        use Source::{Listing, Metadata};
        let (v1, v2) = (StorageVersion::V1, StorageVersion::V2);
        for counts in [&[(0, 1), (1, 1), (100, 1), (101, 1)][..], &[(0, 1), (1, 1), (100, 1)]] {
            assert_eq!(judged(counts, v1, Listing), Judgement::Explained);
        }
        let twice = [(0, 2), (1, 2), (100, 2)];
        assert_eq!(judged(&twice, v1, Metadata), Judgement::Explained);
        assert_eq!(judged(&twice, v1, Listing), Judgement::Doubtful);
        assert_eq!(judged(&[(0, 1), (1, 1), (100, 2)], v1, Listing), Judgement::Doubtful);
        assert_eq!(judged(&[(0, 2), (101, 2)], v2, Listing), Judgement::Explained);
    }

    #[test]
    fn missing_unknown_or_unequal_logs_are_inconsistent_and_named() {
        use Source::{Listing, Metadata};
        let (v1, v2) = (StorageVersion::V1, StorageVersion::V2);
        assert!(inconsistency(judged(&[(0, 1), (1, 1)], v1, Listing)).contains("no logs of field 100 (f100)"));
        assert!(inconsistency(judged(&[(0, 1), (100, 1)], v1, Listing)).contains("no logs of field 1"));
        assert!(inconsistency(judged(&[(0, 1), (1, 1), (100, 1), (105, 1)], v1, Listing)).contains("field 105"));
        assert!(inconsistency(judged(&[(0, 1), (105, 1)], v2, Listing)).contains("field 105"));
        assert!(inconsistency(judged(&[(0, 1), (1, 1), (100, 2)], v1, Metadata)).contains("1 logs of field 0 and 2"));
        assert!(inconsistency(judged(&[(0, 1), (101, 2)], v2, Listing)).contains("1 logs of field 0 and 2"));
    }

    /// A bucket with logs in it.
    #[derive(Default)]
    struct Logs(BTreeMap<String, Vec<u8>>);

    impl Logs {
        /// Writes a log. Row ids have 64 bits; here, so do the values of other fields.
        fn write(&mut self, folder: i64, number: i64, written_at: u64, values: &[u64]) -> &mut Self {
            let payload: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let bytes = log(SEGMENT, folder, payload.len() as u64, written_at, &payload);
            self.0.insert(listed(folder, number, 0).object.key, bytes);
            self
        }

        /// Writes logs with these row ids, in which all values of field 100 are the same.
        fn attempt(&mut self, number: i64, row_ids: &[u64]) -> &mut Self {
            let timestamps: Vec<u64> = row_ids.iter().map(|id| id + 1000).collect();
            let same = vec![1; row_ids.len()];
            let at = u64::try_from(number).unwrap();
            self.write(0, number, at, row_ids).write(1, number, at, &timestamps).write(100, number, at, &same)
        }

        async fn resolve(&self, rows: u64) -> Resolved {
            let logs = self.0.iter().map(|(key, bytes)| {
                let parts: Vec<i64> = key.split('/').skip(1).map(|part| part.parse().unwrap()).collect();
                listed(parts[3], parts[4], bytes.len())
            });
            let bucket = Bucket { region: "eu-west-1".parse::<Region>().unwrap(), name: "data".to_owned() };
            let resolver = Resolver { objects: self, bucket: &bucket };
            resolver.resolve(&segment(rows, StorageVersion::V1), &folders(logs.collect())).await.unwrap()
        }
    }

    fn left_behind(logs: &[(i64, i64)]) -> Resolved {
        Ok(logs.iter().map(|(folder, log)| InsertLog { folder: *folder, log: *log }).collect())
    }

    #[tokio::test]
    async fn writes_that_add_up_to_the_segments_rows_all_count() {
        assert_eq!(Logs::default().attempt(1, &[1, 2]).attempt(2, &[3, 4]).resolve(4).await, left_behind(&[]));
    }

    #[tokio::test]
    async fn only_the_last_attempt_of_a_retried_write_counts() {
        let twice = Logs::default().attempt(1, &[1, 2]).attempt(2, &[1, 2]).attempt(3, &[3, 4]).resolve(4).await;
        assert_eq!(twice, left_behind(&[(0, 1), (1, 1), (100, 1)]));
    }

    #[tokio::test]
    async fn an_attempt_that_wrote_only_some_of_the_fields_leaves_copies_in_those() {
        let mut logs = Logs::default();
        logs.attempt(1, &[1, 2]).attempt(2, &[3, 4]);
        logs.0.remove("insert_log/1/2/7/0/1");
        logs.attempt(3, &[1, 2]).0.remove("insert_log/1/2/7/1/1");
        assert_eq!(logs.resolve(4).await, left_behind(&[(100, 1)]));
    }

    #[tokio::test]
    async fn rows_that_do_not_add_up_are_not_explained() {
        let fewer = Logs::default().attempt(1, &[1, 2]).attempt(2, &[3, 4]).resolve(5).await;
        assert!(fewer.unwrap_err().contains("2 logs of row ids have 4 rows, but it should have 5"));
        // Two logs with the same number of rows but other row ids: it isn't known which of them counts.
        let others = Logs::default().attempt(1, &[1, 2]).attempt(2, &[2, 3]).resolve(2).await;
        assert!(others.unwrap_err().contains("have 4 rows"));
    }

    #[tokio::test]
    async fn a_surplus_log_that_is_no_copy_is_not_explained() {
        let mut logs = Logs::default();
        logs.attempt(1, &[1, 2]).write(100, 2, 9, &[5, 6]);
        assert!(logs.resolve(2).await.unwrap_err().contains("1 more logs of field 100"));
        logs.write(100, 2, 9, &[1, 1]);
        assert_eq!(logs.resolve(2).await, left_behind(&[(100, 1)]));
    }

    #[tokio::test]
    async fn a_log_that_is_missing_or_of_another_segment_is_not_explained() {
        let mut logs = Logs::default();
        logs.attempt(1, &[1, 2]).attempt(2, &[3, 4]).0.remove("insert_log/1/2/7/1/1");
        assert!(logs.resolve(4).await.unwrap_err().contains("1 logs of field 1"));
        let mut logs = Logs::default();
        logs.attempt(1, &[1, 2]).attempt(2, &[1, 2]);
        logs.0.insert("insert_log/1/2/7/0/2".to_owned(), log(8, 0, 16, 1, b""));
        assert!(logs.resolve(2).await.unwrap_err().contains("of segment 8 and field 0"));
    }

    #[async_trait]
    impl Objects for Logs {
        async fn get_range(&self, _: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectsError> {
            Ok(self.0.get(key).map(|bytes| bytes[..usize::try_from(range.end).unwrap()].to_vec()))
        }

        async fn list(&self, _: &Bucket, _: &str, _: Option<&str>) -> Result<Page<ObjectMeta>, ObjectsError> {
            unreachable!("only ranges are read")
        }

        async fn copy(&self, _: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError> {
            unreachable!("only ranges are read")
        }

        async fn put(&self, _: &Bucket, _: &str, _: Vec<u8>, _: PutMode) -> Result<PutOutcome, ObjectsError> {
            unreachable!("only ranges are read")
        }

        async fn get(&self, _: &Bucket, _: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
            unreachable!("only ranges are read")
        }

        async fn delete(&self, _: &Bucket, _: &[String]) -> Result<(), ObjectsError> {
            unreachable!("only ranges are read")
        }

        async fn locking(&self, _: &Bucket) -> Result<Option<Locking>, ObjectsError> {
            unreachable!("only ranges are read")
        }

        async fn lock(&self, _: &Bucket, _: &str, _: LockMode, _: Time) -> Result<(), ObjectsError> {
            unreachable!("only ranges are read")
        }
    }
}
