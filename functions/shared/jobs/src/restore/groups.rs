//! Groups the segments that are imported together, and assigns their logs to staging keys.
//!
//! An import job reads everything below two prefixes, so that each group of segments has its own prefixes:
//!
//! ```text
//! {staging}{group}/insert_log/{collection}/{partition}/{segment}/…
//! {staging}{group}/delta_log/{collection}/{partition}/{segment}/…
//! ```
//!
//! From 2.4 on, an import applies to a segment's rows only the deletes below the segment's own ID
//! (`ListBinlogsAndGroupBySegment` in `internal/datacoord/import_util.go`), up to the job's end timestamp
//! (`internal/util/importutilv2/binlog/reader.go`). So the deletes of an L0 segment are staged for every segment whose
//! rows they may delete. The newest servers refuse an import of L0 segments alone.

use std::collections::{BTreeMap, HashMap};

use milvault_model::{CollectionCapture, FailureCode, ObjectKey, SegmentLevel, StorageVersion};

use crate::{
    backup::logs::{DELTA, INSERT},
    engine::halt::{Step, fatal},
};

/// Segments of one partition and one storage version, imported by one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The partition's name.
    pub(super) partition: String,
    /// The partition's ID in the source.
    pub(super) partition_id: i64,
    /// The storage version of the logs.
    pub(super) storage: StorageVersion,
    /// The IDs of the segments, sorted.
    pub(super) segments: Vec<i64>,
}

impl Group {
    /// Returns the prefixes of the group's staged insert and delta logs.
    pub(super) fn prefixes(&self, staging: &str, number: u32, collection: i64) -> [String; 2] {
        [INSERT, DELTA].map(|kind| format!("{staging}{number}/{kind}/{collection}/{}/", self.partition_id))
    }
}

/// Returns a collection's groups, of at most `max` segments each: always the same, in the same order.
///
/// # Errors
/// [`Halt::Fatal`] if a segment belongs to a partition that the capture doesn't have.
pub(super) fn groups(capture: &CollectionCapture, max: u32) -> Step<Vec<Group>> {
    let mut segments_by: BTreeMap<(&str, i64, StorageVersion), Vec<i64>> = BTreeMap::new();
    for segment in capture.segments.iter().filter(|segment| segment.level == SegmentLevel::Data && segment.rows > 0) {
        let Some(partition) = capture.partitions.iter().find(|partition| partition.id == segment.partition_id) else {
            let message = format!("{}: segment {} belongs to an unknown partition", capture.name, segment.id);
            return Err(fatal(FailureCode::SnapshotDamaged, message));
        };
        segments_by.entry((&partition.name, partition.id, segment.storage)).or_default().push(segment.id);
    }
    let mut groups = Vec::new();
    for ((partition, partition_id, storage), mut segments) in segments_by {
        segments.sort_unstable();
        groups.extend(segments.chunks((max as usize).max(1)).map(|segments| Group {
            partition: partition.to_owned(),
            partition_id,
            storage,
            segments: segments.to_vec(),
        }));
    }
    Ok(groups)
}

/// The staging keys of the logs of many collections' segments.
#[derive(Debug, Default)]
pub(super) struct StagingKeys {
    /// The group of each data segment.
    rows: HashMap<i64, usize>,
    /// The partition to which each L0 segment's deletes apply; `None` for all partitions.
    deletes: HashMap<i64, Option<i64>>,
    /// The groups of each collection with L0 segments.
    deleted_from: HashMap<i64, Vec<Group>>,
}

impl StagingKeys {
    /// Adds the segments of a collection, whose groups have at most `max` segments each.
    pub(super) fn add(&mut self, capture: &CollectionCapture, max: u32) -> Step {
        let groups = groups(capture, max)?;
        for (number, group) in groups.iter().enumerate() {
            self.rows.extend(group.segments.iter().map(|segment| (*segment, number)));
        }
        for segment in capture.segments.iter().filter(|segment| segment.level == SegmentLevel::L0) {
            self.deletes.insert(segment.id, Some(segment.partition_id).filter(|partition| *partition >= 0));
        }
        if capture.segments.iter().any(|segment| segment.level == SegmentLevel::L0) {
            self.deleted_from.insert(capture.id, groups);
        }
        Ok(())
    }

    /// Returns the keys, below the staging prefix, to which an object of the snapshot is copied.
    pub(super) fn keys_of(&self, key: &ObjectKey) -> Vec<String> {
        let mut parts = key.below(INSERT).or(key.below(DELTA)).unwrap_or_default().splitn(3, '/').skip(1);
        let (segment, log) = (parts.next().and_then(|id| id.parse().ok()).unwrap_or_default(), parts.next());
        if let Some(group) = self.rows.get(&segment) {
            return vec![format!("{group}/{}", key.source())];
        }
        let (Some(log), Some(of)) = (log, self.deletes.get(&segment)) else { return Vec::new() };
        let collection = key.collection();
        let groups = collection.parse().ok().and_then(|id: i64| self.deleted_from.get(&id)).into_iter().flatten();
        groups
            .enumerate()
            .filter(|(_, group)| of.is_none_or(|partition| group.partition_id == partition))
            .flat_map(|(number, group)| group.segments.iter().map(move |rows| (number, group.partition_id, rows)))
            .map(|(number, partition, rows)| format!("{number}/{DELTA}/{collection}/{partition}/{rows}/{log}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use milvault_model::{PartitionCapture, SegmentCapture, Written};

    use super::*;
    use crate::restore::fixture::capture;

    fn segment(id: i64, partition_id: i64, level: SegmentLevel, storage: StorageVersion) -> SegmentCapture {
        let rows = i64::from(level == SegmentLevel::Data).unsigned_abs();
        SegmentCapture { id, partition_id, rows, level, storage, written: Written::Before, delta_logs: Vec::new() }
    }

    fn with_segments(segments: Vec<SegmentCapture>) -> CollectionCapture {
        let partition = |(name, id): (&str, i64)| PartitionCapture { name: name.to_owned(), id };
        let partitions = [("b", 2), ("a", 3)].map(partition).to_vec();
        CollectionCapture { segments, partitions, ..capture() }
    }

    fn staged(keys: &StagingKeys, source: &str) -> Vec<String> {
        keys.keys_of(&ObjectKey::from_source(source).unwrap())
    }

    #[test]
    fn segments_of_a_partition_and_a_storage_version_are_grouped_up_to_a_maximum() {
        let data = |id, partition, storage| segment(id, partition, SegmentLevel::Data, storage);
        let mut segments: Vec<_> = (0..20).rev().map(|id| data(100 + id, 2, StorageVersion::V1)).collect();
        segments.push(data(50, 2, StorageVersion::V2));
        segments.push(data(60, 3, StorageVersion::V1));
        segments.push(segment(70, 2, SegmentLevel::L0, StorageVersion::V1));
        let found: Vec<_> = groups(&with_segments(segments), 16)
            .unwrap()
            .into_iter()
            .map(|g| (g.partition, g.storage, g.segments.len()))
            .collect();
        let name = str::to_owned;
        assert_eq!(
            found,
            [
                (name("a"), StorageVersion::V1, 1),
                (name("b"), StorageVersion::V1, 16),
                (name("b"), StorageVersion::V1, 4),
                (name("b"), StorageVersion::V2, 1),
            ]
        );
    }

    #[test]
    fn deletes_are_staged_for_every_segment_whose_rows_they_may_delete() {
        let v1 = StorageVersion::V1;
        let mut keys = StagingKeys::default();
        keys.add(
            &with_segments(vec![
                segment(10, 3, SegmentLevel::Data, v1),
                segment(11, 2, SegmentLevel::Data, v1),
                segment(12, 2, SegmentLevel::Data, v1),
                segment(20, 2, SegmentLevel::L0, v1),
                segment(21, -1, SegmentLevel::L0, v1),
            ]),
            16,
        )
        .unwrap();
        assert_eq!(staged(&keys, "insert_log/1/2/11/100/5"), ["1/insert_log/1/2/11/100/5"]);
        assert_eq!(staged(&keys, "delta_log/1/3/10/5"), ["0/delta_log/1/3/10/5"]);
        let of_two = ["1/delta_log/1/2/11/5", "1/delta_log/1/2/12/5"];
        assert_eq!(staged(&keys, "delta_log/1/2/20/5"), of_two);
        assert_eq!(staged(&keys, "delta_log/1/-1/21/5"), ["0/delta_log/1/3/10/5", of_two[0], of_two[1]]);
        assert!(staged(&keys, "insert_log/9/2/99/100/5").is_empty());
    }
}
