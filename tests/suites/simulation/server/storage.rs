//! Segments: how rows and deletes get into object storage and are removed from it.

use std::collections::BTreeSet;

use crate::ports::at_once;
use chrono::TimeDelta;
use milvault_harness::{
    Random,
    binlog::{Column, Nullability, Of, encode, note},
};
use milvault_model::{CollectionName, SegmentLevel, Time};
use milvault_ports::{Objects, PutMode};
use std::fmt::Write;

use super::{BETWEEN_COMPACTIONS, Collection, Doomed, Key, Mark, Place, ROOT, Server, Sorting, Stored};
use crate::fields::{Field, Values};

/// A line of a log: a primary key, when it was written or deleted, and a field's value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) key: Key,
    pub(crate) timestamp: u64,
    pub(crate) value: u32,
}

/// The rows or deletes of a log; `None` if these bytes aren't a log.
pub(crate) fn lines_of(log: &[u8]) -> Option<Vec<Line>> {
    let lines = std::str::from_utf8(note(log)?).ok()?.lines();
    lines
        .map(|line| {
            let mut parts = line.split(' ');
            let (key, timestamp) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(Line { key, timestamp, value: parts.next()?.parse().ok()? })
        })
        .collect()
}

impl Server {
    /// Writes out the growing rows of one partition, as a server does when a segment is full.
    pub(crate) fn seal_by_policy(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        let Some(mut collection) = self.collections.remove(name) else { return };
        let partition = random.pick(&collection.partitions).copied().unwrap_or_default();
        let named_from = now + TimeDelta::milliseconds(random.below(self.habits.hides_sealed_for).cast_signed());
        for segment in self.write_growing(&mut collection, &[partition], now) {
            collection.stored.push(Stored { named_from, ..segment });
        }
        self.collections.insert(name.clone(), collection);
    }

    /// Writes out the rows that grow in these partitions.
    pub(super) fn write_growing(&mut self, collection: &mut Collection, partitions: &[i64], now: Time) -> Vec<Stored> {
        let mut written = Vec::new();
        for partition in partitions {
            let (rows, rest) = std::mem::take(&mut collection.growing).into_iter().partition(|(of, _)| of == partition);
            collection.growing = rest;
            let rows: Vec<(i64, Mark)> = rows;
            if rows.is_empty() {
                continue;
            }
            let rows = rows.into_iter().map(|(_, row)| row).collect();
            let segment = self.write_segment(collection.place(*partition), rows, now);
            if let Some(within) = self.habits.sorts_within {
                let at = now + TimeDelta::milliseconds(self.random.below(within).cast_signed());
                self.sortings.push(Sorting { at, collection: collection.id, segment: segment.id });
            }
            written.push(segment);
        }
        written
    }

    /// Seals and writes the growing rows and the deletes so far; returns the new segments with rows.
    pub(crate) fn seal(&mut self, name: &CollectionName, now: Time) -> Vec<i64> {
        let Some(mut collection) = self.collections.remove(name) else { return Vec::new() };
        let partitions = collection.partitions.clone();
        let segments = self.write_growing(&mut collection, &partitions, now);
        let sealed = segments.iter().map(|segment| segment.id).collect();
        collection.stored.extend(segments);
        let deletes = std::mem::take(&mut collection.buffered_deletes);
        if self.habits.has_l0 {
            if !deletes.is_empty() {
                let segment = self.write_deletes(collection.id, deletes, now);
                collection.stored.push(segment);
            }
        } else {
            self.add_deletes(&mut collection, &deletes, now);
        }
        self.collections.insert(name.clone(), collection);
        sealed
    }

    /// Replaces a flushed segment by a sorted one without deleted rows.
    pub(super) fn sort(&mut self, sorting: Sorting) {
        let Some(name) = self.name_of(sorting.collection) else { return };
        let Some(mut collection) = self.collections.remove(&name) else { return };
        if let Some(place) = collection.stored.iter().position(|segment| segment.id == sorting.segment) {
            let at = collection.stored[place].compacted_from;
            if at > sorting.at {
                self.collections.insert(name, collection);
                return self.sortings.push(Sorting { at, ..sorting });
            }
            let unsorted = collection.stored.remove(place);
            let merged = self.merged(&collection, std::slice::from_ref(&unsorted), sorting.at);
            collection.stored.extend(merged);
            self.doom(&[unsorted], sorting.at);
        }
        self.collections.insert(name, collection);
    }

    /// One segment with the rows of these segments, all of one partition, that aren't deleted.
    pub(super) fn merged(&mut self, collection: &Collection, segments: &[Stored], now: Time) -> Option<Stored> {
        let partition = segments.first()?.partition;
        let is_deleted = |row: &Mark| segments.iter().any(|s| s.deletes.iter().any(|delete| delete.key == row.key));
        let rows: Vec<Mark> = segments.iter().flat_map(|s| &s.rows).filter(|row| !is_deleted(row)).copied().collect();
        (!rows.is_empty()).then(|| self.write_segment(collection.place(partition), rows, now))
    }

    /// A segment of deletes in any partition.
    pub(super) fn write_deletes(&mut self, collection: i64, deletes: Vec<Mark>, now: Time) -> Stored {
        let (id, log) = (self.id(), self.id());
        let logs = vec![self.write_log(&format!("delta_log/{collection}/-1/{id}/{log}"), Field::SYSTEM[0], &deletes)];
        Stored {
            id,
            level: SegmentLevel::L0,
            named_from: now,
            compacted_from: now,
            partition: -1,
            rows: Vec::new(),
            deletes,
            logs,
        }
    }

    /// Writes deletes to the segments that have the rows; these segments aren't compacted before that time.
    pub(super) fn add_deletes(&mut self, collection: &mut Collection, deletes: &[Mark], compacted_from: Time) {
        for segment in &mut collection.stored {
            let of_segment: Vec<Mark> =
                deletes.iter().filter(|delete| segment.rows.iter().any(|row| row.key == delete.key)).copied().collect();
            if !of_segment.is_empty() {
                let log = self.id();
                let place = format!("delta_log/{}/{}/{}/{log}", collection.id, segment.partition, segment.id);
                segment.logs.push(self.write_log(&place, Field::SYSTEM[0], &of_segment));
                segment.deletes.extend(of_segment);
                segment.compacted_from = compacted_from;
            }
        }
    }

    pub(super) fn write_segment(&mut self, place: Place<'_>, rows: Vec<Mark>, now: Time) -> Stored {
        let Place { collection, fields, partition } = place;
        let id = self.id();
        let mut logs = Vec::new();
        for field in Field::SYSTEM.iter().chain(fields) {
            for part in rows.chunks(4) {
                let log = self.id();
                let place = format!("insert_log/{collection}/{partition}/{id}/{}/{log}", field.id);
                logs.push(self.write_log(&place, *field, part));
            }
        }
        // Statistics aren't part of a backup.
        let place = format!("stats_log/{collection}/{partition}/{id}/100/1");
        logs.push(self.write_log(&place, Field::SYSTEM[0], &rows));
        Stored {
            id,
            level: SegmentLevel::Data,
            named_from: now,
            compacted_from: now,
            partition,
            rows,
            deletes: Vec::new(),
            logs,
        }
    }

    pub(super) fn write_log(&mut self, place: &str, field: Field, marks: &[Mark]) -> String {
        let number = |at: usize| place.split('/').nth(at).and_then(|part| part.parse().ok()).unwrap_or_default();
        let of = Of { collection: number(1), partition: number(2), segment: number(3), field: field.id };
        let nullability = if self.habits.has_l0 { Nullability::Told } else { Nullability::Untold };
        let times: Vec<u64> = marks.iter().map(|mark| mark.timestamp).collect();
        let mut lines = String::new();
        for Mark { key, timestamp, values } in marks {
            let _ = writeln!(lines, "{key} {timestamp} {}", field.value_in(*values));
        }
        let rows: Vec<(i64, u64)> = marks.iter().map(|mark| (mark.key.cast_signed(), mark.timestamp)).collect();
        let column = match place.starts_with("delta_log/") {
            true => Column::of_deletes(&rows),
            false => Column::of_field(field.id, &rows),
        };
        let body = encode(of, nullability, &times, &[(None, column)], lines.as_bytes());
        let key = format!("{ROOT}/{place}");
        let put = at_once(self.objects.put(&self.bucket, &key, body.clone(), PutMode::IfAbsent));
        assert!(put.is_ok(), "{put:?}");
        self.written.insert(place.to_owned(), body);
        key
    }

    /// Merges segments of a partition into a new one without deleted rows.
    pub(crate) fn compact(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        let Some(mut collection) = self.collections.remove(name) else { return };
        // Deletes in L0 segments first move to the segments that have the rows.
        let (l0, rest): (Vec<Stored>, Vec<Stored>) =
            std::mem::take(&mut collection.stored).into_iter().partition(|segment| segment.level == SegmentLevel::L0);
        if !l0.is_empty() && random.permille(600) {
            collection.stored = rest;
            for segment in &l0 {
                self.add_deletes(&mut collection, &segment.deletes, now + BETWEEN_COMPACTIONS);
            }
            self.doom(&l0, now);
        } else {
            let partition = random.pick(&collection.partitions).copied().unwrap_or_default();
            let is_source = |segment: &Stored| segment.partition == partition && segment.compacted_from <= now;
            let (sources, kept): (Vec<Stored>, Vec<Stored>) = rest.into_iter().partition(is_source);
            let merged = self.merged(&collection, &sources, now);
            collection.stored.extend(kept.into_iter().chain(l0).chain(merged));
            self.doom(&sources, now);
        }
        self.collections.insert(name.clone(), collection);
    }

    /// Marks the logs of dropped segments for removal, one by one in random order.
    pub(super) fn doom(&mut self, segments: &[Stored], now: Time) {
        let begins = now + self.habits.gc_tolerance;
        for key in segments.iter().flat_map(|segment| &segment.logs) {
            let at = begins + TimeDelta::milliseconds(self.random.below(20_000).cast_signed());
            self.doomed.push((at, key.clone()));
        }
    }

    /// The objects that garbage collection is to remove, each returned once.
    pub(crate) fn take_doomed(&mut self) -> Vec<Doomed> {
        std::mem::take(&mut self.doomed)
    }

    /// When the server next replaces a segment by a sorted one.
    pub(crate) fn next_sorting(&self) -> Option<Time> {
        self.sortings.iter().map(|sorting| sorting.at).min()
    }

    /// The fields that were ever written for a segment's rows.
    pub(crate) fn fields_written(&self, collection: i64, partition: i64, segment: i64) -> BTreeSet<i64> {
        let prefix = format!("insert_log/{collection}/{partition}/{segment}/");
        let logs = self.written.range(prefix.clone()..).map(|(log, _)| log);
        let logs = logs.map_while(|log| log.strip_prefix(prefix.as_str()));
        logs.filter_map(|rest| rest.split('/').next()?.parse().ok()).collect()
    }

    /// Every stored row of a collection, repeated ones too, whether or not queries find it yet.
    pub(crate) fn all_rows(&self, id: i64) -> Option<Vec<(Key, Values)>> {
        let collection = self.collections.values().find(|collection| collection.id == id)?;
        let rows = collection.stored.iter().flat_map(|segment| &segment.rows);
        let mut rows: Vec<(Key, Values)> = rows.map(|row| (row.key, row.values)).collect();
        rows.sort_unstable();
        Some(rows)
    }
}
