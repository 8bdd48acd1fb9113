//! Import jobs.

use std::collections::{BTreeMap, BTreeSet};

use crate::ports::at_once;
use chrono::TimeDelta;
use milvault_harness::list_all;
use milvault_model::{CollectionName, Time};
use milvault_ports::{ImportStatus, ImportTasks, MilvusError, Objects};

use super::{Columns, Fate, Import, Key, Lie, Line, Mark, Place, Server, lines_of};
use crate::fields::{Field, Values};

/// What an import job is asked for.
pub(crate) struct ImportRequested {
    /// The name of the partition.
    pub(crate) partition: String,
    /// The prefixes of the insert and the delta logs.
    pub(crate) prefixes: [String; 2],
    /// The last timestamp that is imported.
    pub(crate) end: u64,
}

impl Server {
    pub(crate) fn import(
        &mut self,
        name: &CollectionName,
        request: ImportRequested,
        now: Time,
    ) -> Result<i64, MilvusError> {
        let ImportRequested { partition, prefixes: [insert_prefix, delta_prefix], end } = request;
        let collection = self.found(name)?;
        let id = collection.partitions.iter().find(|id| collection.name_of(**id) == partition).copied();
        let partition = id.ok_or_else(|| MilvusError::Refused(format!("{name} has no partition {partition}")))?;
        let collection = collection.id;
        let fate = match self.random.below(100) {
            0..10 => Fate::Fails,
            10..13 => Fate::GetsStuck,
            13..15 => Fate::IsForgotten,
            _ => Fate::Completes,
        };
        let begins = now + TimeDelta::milliseconds(self.random.below(4_000).cast_signed());
        let ends = begins + TimeDelta::milliseconds(self.random.below(20_000).cast_signed());
        let import =
            Import { collection, partition, insert_prefix, delta_prefix, end, begins, ends, fate, outcome: None };
        let task = self.id();
        self.imports.insert(task, import);
        Ok(task)
    }

    /// The lines of the logs below a prefix, by the segment and, of rows, the field.
    pub(super) fn logs_below(&self, prefix: &str) -> Vec<(Vec<String>, Vec<Line>)> {
        let listed = at_once(list_all(self.objects.as_ref(), &self.bucket, prefix));
        let read = |key: &str| {
            let body = at_once(self.objects.get(&self.bucket, key)).expect("the bucket is there");
            let path = key[prefix.len()..].split('/').map(str::to_owned).collect();
            (path, lines_of(&body.expect("it was listed")).expect("a log"))
        };
        listed.iter().map(|object| read(&object.key)).collect()
    }

    /// The columns of the insert logs below a prefix, by segment and field.
    pub(super) fn segments_below(&self, prefix: &str) -> Result<BTreeMap<String, Columns>, String> {
        let mut segments: BTreeMap<String, Columns> = BTreeMap::new();
        for (path, lines) in self.logs_below(prefix) {
            let [segment, field, _] = path.as_slice() else { return Err(format!("{path:?} is no insert log")) };
            let field = field.parse().map_err(|_| format!("{field} is no field"))?;
            let column = segments.entry(segment.clone()).or_default().entry(field).or_default();
            column.extend(lines.iter().map(|line| ((line.key, line.timestamp), line.value)));
        }
        Ok(segments)
    }

    pub(super) fn load_rows(&mut self, import: &Import, now: Time) -> Result<u64, String> {
        let Some(name) = self.name_of(import.collection) else { return Err("the collection was dropped".to_owned()) };
        let fields = self.collections.get(&name).map(|found| found.fields.clone()).unwrap_or_default();
        let mut all: BTreeMap<(Key, u64), Values> = BTreeMap::new();
        for columns in self.segments_below(&import.insert_prefix)?.into_values() {
            let rows: BTreeSet<(Key, u64)> =
                columns.get(&Field::SYSTEM[0].id).map(|column| column.keys().copied().collect()).unwrap_or_default();
            let may_lack = |field: &Field| self.habits.adds_fields && field.may_be_added();
            let is_lacking = |field: &Field| match columns.get(&field.id) {
                Some(column) => !column.keys().eq(&rows),
                None => !may_lack(field),
            };
            if Field::SYSTEM.iter().chain(&fields).any(is_lacking) {
                return Err("some fields lack logs".to_owned());
            }
            // Columns are matched by field id, whatever is in them.
            for row in rows {
                let value = |field: &Field| columns.get(&field.id)?.get(&row).copied();
                let values = fields.iter().filter_map(|field| Some((*field, value(field)?)));
                all.insert(row, Values::from_columns(values));
            }
        }
        if all.is_empty() {
            return Err("there is nothing to import".to_owned());
        }
        let deletes: Vec<Line> =
            self.logs_below(&import.delta_prefix).into_iter().flat_map(|(_, lines)| lines).collect();
        let is_deleted = |key: Key, at: u64| {
            deletes.iter().any(|delete| delete.key == key && delete.timestamp > at && delete.timestamp <= import.end)
        };
        let is_brought = self.lie != Some(Lie::NoImports);
        let rows: Vec<Mark> = all
            .into_iter()
            .filter(|((key, at), _)| is_brought && *at <= import.end && !is_deleted(*key, *at))
            .map(|((key, timestamp), values)| Mark { key, timestamp, values })
            .collect();
        let (count, keys) = (rows.len() as u64, rows.iter().map(|row| row.key).collect());
        let is_kept = self.lie != Some(Lie::Imports);
        for row in rows.iter().filter(|_| is_kept) {
            self.journal.insert(import.collection, *row);
        }
        let place = Place { collection: import.collection, fields: &fields, partition: import.partition };
        let segment = (is_kept && !rows.is_empty()).then(|| self.write_segment(place, rows, now));
        let ripe = now + TimeDelta::milliseconds(self.random.below(16_000).cast_signed());
        if let Some(collection) = self.collections.get_mut(&name) {
            collection.stored.extend(segment);
            collection.ripening.push((ripe, keys));
        }
        Ok(count)
    }

    pub(crate) fn import_tasks(&mut self, name: &CollectionName) -> Result<ImportTasks, MilvusError> {
        let id = self.found(name)?.id;
        let tasks = self.imports.iter().filter(|(_, import)| import.collection == id).map(|(task, _)| *task);
        // Some builds of 2.4 don't name import jobs.
        let names_none = self.habits.has_l0 && !self.habits.tells_files;
        Ok(if names_none { ImportTasks::Unnamed } else { ImportTasks::Named(tasks.collect()) })
    }

    pub(crate) fn import_status(&mut self, task: i64, now: Time) -> Result<ImportStatus, MilvusError> {
        let import = self.imports.get(&task);
        let import = import.ok_or_else(|| MilvusError::Refused(format!("no import job {task}")))?;
        Ok(match &import.outcome {
            Some(Ok(rows)) => ImportStatus::Completed { rows: *rows },
            Some(Err(reason)) => ImportStatus::Failed(reason.clone()),
            None if now < import.begins => ImportStatus::Waiting,
            None => {
                let until = now.min(import.ends);
                ImportStatus::Running { progress: (until - import.begins).num_seconds().cast_unsigned() }
            }
        })
    }
}
