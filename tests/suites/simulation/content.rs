//! Checks that a snapshot brings back the rows of its collections at their points in time, by the rules of an import: rows
//! and deletes after the point in time are cut off, and a delete removes only rows that are older than itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    audit::Breach,
    format::{self, Captured, Stored},
    rules::Rule,
    server::{Key, Line, Server, lines_of},
};

fn whole(what: String) -> Breach {
    Breach::new(Rule::Whole, what)
}

/// Compares a snapshot's contents with the server's journal.
pub(crate) fn compare(stored: &Stored, server: &Server, get: impl Fn(&str) -> Option<Vec<u8>>) -> Result<(), Breach> {
    let mut logs: BTreeMap<i64, Logs> = BTreeMap::new();
    for entry in &stored.entries {
        let source = format::source_key(&entry.key);
        let body = get(&entry.key).ok_or_else(|| whole(format!("{source} can't be read")))?;
        if server.written.get(&source) != Some(&body) {
            return Err(whole(format!("{source} isn't what Milvus wrote")));
        }
        let place = Place::read(&source).ok_or_else(|| whole(format!("{source} is no insert or delete log")))?;
        let lines = lines_of(&body).ok_or_else(|| whole(format!("{source} can't be understood")))?;
        let logs = logs.entry(place.collection).or_default();
        logs.bytes += entry.size;
        logs.partitions.extend(place.field.map(|_| (place.segment, place.partition)));
        match place.field {
            Some(field) => logs.rows.entry(place.segment).or_default().entry(field).or_default().extend(lines),
            None => logs.deletes.extend(lines),
        }
    }
    for captured in &stored.collections {
        let logs = logs.remove(&captured.id).unwrap_or_default();
        logs.are_of(captured, server).map_err(|breach| breach.of(&captured.name))?;
    }
    match logs.into_keys().next() {
        Some(collection) => Err(whole(format!("it has logs of collection {collection}, which it doesn't have"))),
        None => Ok(()),
    }
}

/// The parts of a log's key.
struct Place {
    collection: i64,
    partition: i64,
    segment: i64,
    /// The field of an insert log.
    field: Option<i64>,
}

impl Place {
    fn read(source: &str) -> Option<Self> {
        let parts: Vec<&str> = source.split('/').collect();
        let number = |at: usize| parts.get(at)?.parse().ok();
        let field = match (*parts.first()?, parts.len()) {
            ("insert_log", 6) => Some(number(4)?),
            ("delta_log", 5) => None,
            _ => return None,
        };
        Some(Self { collection: number(1)?, partition: number(2)?, segment: number(3)?, field })
    }
}

/// A collection's logs.
#[derive(Default)]
struct Logs {
    bytes: u64,
    /// By segment and field.
    rows: BTreeMap<i64, BTreeMap<i64, Vec<Line>>>,
    /// The partition of each segment with rows.
    partitions: BTreeMap<i64, i64>,
    deletes: Vec<Line>,
}

impl Logs {
    fn are_of(&self, captured: &Captured, server: &Server) -> Result<(), Breach> {
        if self.bytes != captured.size_bytes {
            return Err(Breach::new(
                Rule::Totals,
                format!("it has {} bytes and claims {}", self.bytes, captured.size_bytes),
            ));
        }
        // Deletes of L0 segments may be in the rows' delta logs when they are copied: only the rows show that.
        let segments: BTreeSet<i64> = self.rows.keys().copied().collect();
        if segments != captured.segments.iter().copied().collect() {
            let what = format!("it has logs of {segments:?} and claims {:?}", captured.segments);
            return Err(Breach::new(Rule::WholeSegments, what));
        }
        let at = captured.flush_timestamp;
        self.are_in_fields(captured, server)?;
        let truth: BTreeSet<Key> = server
            .journal
            .rows_at_flush(captured.id, at)
            .ok_or_else(|| Breach::new(Rule::PointInTime, "it was never flushed then".to_owned()))?
            .into_keys()
            .collect();
        let found = self.at(at)?;
        if found != truth {
            let (lost, risen) = (truth.difference(&found).count(), found.difference(&truth).count());
            let what = format!("of {} rows, {lost} are lost, and {risen} deleted ones are back", truth.len());
            return Err(Breach::new(Rule::PointInTime, what));
        }
        let ((claimed, is_exact), rows) = (captured.rows, truth.len() as u64);
        if claimed < rows || (is_exact && claimed != rows) {
            return Err(Breach::new(Rule::Totals, format!("it has {rows} rows and claims {claimed}")));
        }
        Ok(())
    }

    /// Every segment has a log of each field that Milvus wrote of it, and the schema has these fields, with their ids.
    fn are_in_fields(&self, captured: &Captured, server: &Server) -> Result<(), Breach> {
        let known = server.journal.fields_of(captured.id);
        let is_known = |(id, name): &&(i64, String)| known.iter().any(|field| (field.id, field.name()) == (*id, name));
        if let Some(wrong) = captured.fields.iter().find(|field| !is_known(field)) {
            return Err(Breach::new(Rule::WholeSegments, format!("it never had the field {wrong:?}")));
        }
        for (segment, fields) in &self.rows {
            let partition = self.partitions.get(segment).copied().unwrap_or_default();
            let written = server.fields_written(captured.id, partition, *segment);
            let found: BTreeSet<i64> = fields.keys().copied().collect();
            if found != written {
                let what = format!("segment {segment} has logs of the fields {found:?}, and had of {written:?}");
                return Err(Breach::new(Rule::WholeSegments, what));
            }
            let is_in_schema = |id: &&i64| **id < 100 || captured.fields.iter().any(|(known, _)| known == *id);
            if let Some(unknown) = found.iter().find(|id| !is_in_schema(id)) {
                let what = format!("segment {segment} has logs of field {unknown}, which isn't in the schema");
                return Err(Breach::new(Rule::WholeSegments, what));
            }
        }
        Ok(())
    }

    /// The rows at this timestamp.
    fn at(&self, timestamp: u64) -> Result<BTreeSet<Key>, Breach> {
        let mut rows = BTreeSet::new();
        for (segment, fields) in &self.rows {
            let of_fields: Vec<BTreeSet<(Key, u64)>> =
                fields.values().map(|lines| lines.iter().map(|line| (line.key, line.timestamp)).collect()).collect();
            let Some(first) = of_fields.first() else { continue };
            if of_fields.iter().any(|field| field != first) {
                return Err(Breach::new(Rule::WholeSegments, format!("segment {segment} lacks logs of some fields")));
            }
            rows.extend(first.iter().filter(|(_, written)| *written <= timestamp).map(|(key, _)| *key));
        }
        // No key is ever written twice here, so that a delete can't meet a newer row.
        for delete in self.deletes.iter().filter(|delete| delete.timestamp <= timestamp) {
            rows.remove(&delete.key);
        }
        Ok(rows)
    }
}
