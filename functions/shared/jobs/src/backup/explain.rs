//! Whether a segment's insert logs explain its rows: an import loads all that lies in the segment's folders, so what is
//! missing is lost, and what is left from a write that was tried again comes twice.
//!
//! [`judge`] looks at which logs there are. Where there are more than one in a folder and the server can't say which of
//! them count, [`resolve`] reads as much of them as tells copies from the rest.

use std::collections::{BTreeMap, BTreeSet};

use milvault_model::{CollectionCapture, FieldCapture, FieldPresence, ObjectKey, SegmentCapture, StorageVersion};
use sha2::{Digest, Sha256};

use super::binlog::{BEGINNING, Beginning};
use crate::{
    Error,
    ports::{Bucket, InsertLog, ObjectMeta, Objects},
};

/// The row ids.
const ROW_ID: i64 = 0;
/// The timestamps.
const TIMESTAMP: i64 = 1;
/// The first id that a field of a schema can have; in storage version 2, lower numbers are groups of columns.
const FIRST_FIELD: i64 = 100;

/// The largest log that is read to compare it with another. A write has some 16 MB at most by default
/// (`dataNode.segment.insertBufSize`).
const LARGEST: u64 = 64 << 20;

/// An insert log that was listed.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) key: ObjectKey,
    pub(super) place: InsertLog,
    pub(super) object: ObjectMeta,
}

/// A segment's insert logs, each folder's in the order of their ids, which is that of the writes.
pub(super) type Folders = BTreeMap<i64, Vec<Listed>>;

pub(super) fn folders(logs: Vec<Listed>) -> Folders {
    let mut folders = Folders::new();
    for log in logs {
        folders.entry(log.place.folder).or_default().push(log);
    }
    folders.values_mut().for_each(|logs| logs.sort_by_key(|log| log.place.log));
    folders
}

/// What the logs that there are say of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// One write, or several that the server's metadata has all.
    Explained,
    /// Several logs in a folder, some of which may be copies.
    Doubtful,
    /// This is wrong.
    Odd(String),
}

/// Who says which logs there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The server's metadata.
    Metadata,
    /// A listing of the bucket.
    Listing,
}

pub(super) fn judge(segment: &SegmentCapture, fields: &[FieldCapture], folders: &Folders, source: Source) -> Judgement {
    let most = folders.values().map(Vec::len).max().unwrap_or_default();
    let unequal = folders.iter().find(|(_, logs)| logs.len() != most);
    let is_grouped = segment.storage != StorageVersion::V1;
    let is_known = |folder: i64| {
        let is_system = if is_grouped { folder < FIRST_FIELD } else { [ROW_ID, TIMESTAMP].contains(&folder) };
        is_system || fields.is_empty() || fields.iter().any(|field| field.id == folder)
    };
    if let Some(unknown) = folders.keys().find(|folder| !is_known(**folder)) {
        return Judgement::Odd(format!("it has logs of a field {unknown}, which the schema doesn't have"));
    }
    if !is_grouped {
        for system in [ROW_ID, TIMESTAMP] {
            if !folders.contains_key(&system) {
                return Judgement::Odd(format!("it has no logs of field {system}"));
            }
        }
        let is_missing =
            |field: &&FieldCapture| field.presence == FieldPresence::Always && !folders.contains_key(&field.id);
        if let Some(field) = fields.iter().find(is_missing) {
            return Judgement::Odd(format!("it has no logs of field {} ({})", field.id, field.name));
        }
    }
    match (unequal, source) {
        (Some((folder, logs)), Source::Metadata) => Judgement::Odd(unequal_logs(*folder, logs.len(), most)),
        (Some((folder, logs)), Source::Listing) if is_grouped => {
            Judgement::Odd(unequal_logs(*folder, logs.len(), most))
        }
        (None, Source::Listing) if most > 1 && !is_grouped => Judgement::Doubtful,
        (Some(_), Source::Listing) => Judgement::Doubtful,
        (None, _) => Judgement::Explained,
    }
}

fn unequal_logs(folder: i64, logs: usize, most: usize) -> String {
    format!("it has {logs} logs of field {folder} and {most} of another")
}

/// Which of a segment's logs count, where that can be proven.
pub(super) struct Resolver<'a> {
    pub(super) objects: &'a dyn Objects,
    pub(super) bucket: &'a Bucket,
}

/// The logs that don't count, or what can't be explained.
pub(super) type Resolved = Result<BTreeSet<InsertLog>, String>;

impl Resolver<'_> {
    /// Of two logs of one field with the same number of rows and the very same row ids, one is what a write left behind
    /// that was tried again: the row ids are unique. What is left must have as many rows as the segment, and every other
    /// field as many logs.
    pub(super) async fn resolve(&self, segment: &SegmentCapture, folders: &Folders) -> Result<Resolved, Error> {
        let ids = folders.get(&ROW_ID).map(Vec::as_slice).unwrap_or_default();
        let mut rows = Vec::new();
        for log in ids {
            match self.beginning(segment, log).await? {
                Ok(beginning) => rows.push(beginning.rows_of_64_bits()),
                Err(odd) => return Ok(Err(odd)),
            }
        }
        let mut copies: BTreeSet<usize> = BTreeSet::new();
        if rows.iter().sum::<u64>() > segment.rows {
            let mut seen = BTreeSet::new();
            // The last write is the one that succeeded.
            for place in (0..ids.len()).rev() {
                let is_alone = rows.iter().filter(|other| **other == rows[place]).count() == 1;
                if is_alone {
                    continue;
                }
                match self.payload(segment, &ids[place]).await? {
                    Ok(payload) if !seen.insert((rows[place], payload)) => drop(copies.insert(place)),
                    Ok(_) => {}
                    Err(odd) => return Ok(Err(odd)),
                }
            }
        }
        let kept = |place: &usize| !copies.contains(place);
        let explained: u64 = (0..ids.len()).filter(kept).map(|place| rows[place]).sum();
        if explained != segment.rows {
            let (all, logs) = (rows.iter().sum::<u64>(), ids.len());
            return Ok(Err(format!("its {logs} logs of row ids have {all} rows, and it should have {}", segment.rows)));
        }
        let writes = ids.len() - copies.len();
        let mut left = BTreeSet::new();
        for (folder, logs) in folders {
            if logs.len() == ids.len() {
                left.extend(copies.iter().map(|place| logs[*place].place));
            } else if logs.len() > writes {
                match self.surplus(segment, logs, logs.len() - writes).await? {
                    Ok(surplus) => left.extend(surplus),
                    Err(odd) => return Ok(Err(odd)),
                }
            } else if logs.len() < writes {
                return Ok(Err(unequal_logs(*folder, logs.len(), ids.len())));
            }
        }
        Ok(Ok(left))
    }

    /// So many of a field's logs that are the same as a later one, if there is only one way to choose them.
    async fn surplus(&self, segment: &SegmentCapture, logs: &[Listed], surplus: usize) -> Result<Resolved, Error> {
        let mut same: BTreeMap<[u8; 32], Vec<&Listed>> = BTreeMap::new();
        for log in logs {
            match self.payload(segment, log).await? {
                Ok(payload) => same.entry(payload).or_default().push(log),
                Err(odd) => return Ok(Err(odd)),
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

    async fn beginning(&self, segment: &SegmentCapture, log: &Listed) -> Result<Result<Beginning, String>, Error> {
        let end = log.object.size.min(BEGINNING);
        let Some(bytes) = self.objects.get_range(self.bucket, &log.object.key, 0..end).await? else {
            return Ok(Err(format!("its log {} is gone", log.object.key)));
        };
        Ok(beginning(segment, log, &bytes))
    }

    /// A hash of the rows in a log, which differs from copy to copy only in its header.
    async fn payload(&self, segment: &SegmentCapture, log: &Listed) -> Result<Result<[u8; 32], String>, Error> {
        if log.object.size > LARGEST {
            return Ok(Err(format!("its log {} is too large to be compared with others", log.object.key)));
        }
        let Some(bytes) = self.objects.get_range(self.bucket, &log.object.key, 0..log.object.size).await? else {
            return Ok(Err(format!("its log {} is gone", log.object.key)));
        };
        Ok(beginning(segment, log, &bytes)
            .map(|beginning| Sha256::digest(bytes.get(beginning.payload..).unwrap_or_default()).into()))
    }
}

fn beginning(segment: &SegmentCapture, log: &Listed, bytes: &[u8]) -> Result<Beginning, String> {
    let key = &log.object.key;
    let beginning = Beginning::read(bytes).ok_or_else(|| format!("its log {key} can't be read"))?;
    match (beginning.segment, beginning.field) == (segment.id, log.place.folder) {
        true => Ok(beginning),
        false => Err(format!("its log {key} is of segment {} and field {}", beginning.segment, beginning.field)),
    }
}

/// What to say of a segment that can't be explained.
pub(super) fn told(collection: &CollectionCapture, segment: &SegmentCapture, odd: &str) -> String {
    let partition = collection.partitions.iter().find(|partition| partition.id == segment.partition_id);
    let partition = partition.map_or_else(|| segment.partition_id.to_string(), |partition| partition.name.clone());
    format!(
        "the files of segment {} in partition {partition} don't explain its {} rows: {odd}",
        segment.id, segment.rows
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholder() {}
}
