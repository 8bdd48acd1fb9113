//! The true history of every collection, by id: its names, rows and flushes.

use std::collections::{BTreeMap, BTreeSet};

use milvault_model::{CollectionName, Time};

use crate::{
    fields::{Field, Values},
    server::{Key, Mark},
};

/// Every collection that there ever was on a server, by its id.
#[derive(Default)]
pub(crate) struct Journal(BTreeMap<i64, Life>);

/// A collection's life.
pub(crate) struct Life {
    /// Its names, each with the time from which it had it.
    names: Vec<(Time, CollectionName)>,
    dropped_at: Option<Time>,
    /// When each row was written, when it was deleted, and what is in it.
    rows: BTreeMap<Key, (u64, Option<u64>, Values)>,
    fields: Vec<Field>,
    flushes: BTreeSet<u64>,
}

/// A span of time, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: Time,
    pub(crate) until: Time,
}

/// How long a name stood for a collection: until a time, or until now.
struct Held<'a> {
    name: &'a CollectionName,
    id: i64,
    from: Time,
    until: Option<Time>,
}

impl Held<'_> {
    fn was_in(&self, span: Span) -> bool {
        self.from <= span.until && self.until.is_none_or(|until| until >= span.from)
    }
}

impl Journal {
    pub(crate) fn begin(&mut self, id: i64, name: &CollectionName, now: Time) {
        let names = vec![(now, name.clone())];
        let (rows, fields, flushes) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        self.0.insert(id, Life { names, dropped_at: None, rows, fields, flushes });
    }

    pub(crate) fn has_fields(&mut self, id: i64, fields: &[Field]) {
        if let Some(life) = self.0.get_mut(&id) {
            life.fields = fields.to_vec();
        }
    }

    /// The fields that a collection has, or had last.
    pub(crate) fn fields_of(&self, id: i64) -> &[Field] {
        self.0.get(&id).map(|life| life.fields.as_slice()).unwrap_or_default()
    }

    pub(crate) fn rename(&mut self, id: i64, name: &CollectionName, now: Time) {
        if let Some(life) = self.0.get_mut(&id) {
            life.names.push((now, name.clone()));
        }
    }

    pub(crate) fn end(&mut self, id: i64, now: Time) {
        if let Some(life) = self.0.get_mut(&id) {
            life.dropped_at = Some(now);
        }
    }

    pub(crate) fn insert(&mut self, id: i64, row: Mark) {
        if let Some(life) = self.0.get_mut(&id) {
            life.rows.insert(row.key, (row.timestamp, None, row.values));
        }
    }

    pub(crate) fn delete(&mut self, id: i64, delete: Mark) {
        if let Some((_, deleted, _)) = self.0.get_mut(&id).and_then(|life| life.rows.get_mut(&delete.key)) {
            deleted.get_or_insert(delete.timestamp);
        }
    }

    pub(crate) fn flush(&mut self, id: i64, timestamp: u64) {
        if let Some(life) = self.0.get_mut(&id) {
            life.flushes.insert(timestamp);
        }
    }

    /// The rows that a collection had at the timestamp of one of its flushes.
    pub(crate) fn rows_at_flush(&self, id: i64, timestamp: u64) -> Option<BTreeMap<Key, Values>> {
        let life = self.0.get(&id).filter(|life| life.flushes.contains(&timestamp))?;
        let was_there = |(written, deleted, _): &(u64, Option<u64>, Values)| {
            *written <= timestamp && deleted.is_none_or(|deleted| deleted > timestamp)
        };
        Some(life.rows.iter().filter(|(_, row)| was_there(row)).map(|(key, (_, _, values))| (*key, *values)).collect())
    }

    /// Every collection that existed throughout a span, with the names that it had.
    pub(crate) fn all_the_while(&self, span: Span) -> impl Iterator<Item = (i64, Vec<&CollectionName>)> {
        let existed = move |life: &Life| {
            life.names.first().is_some_and(|(from, _)| *from < span.from)
                && life.dropped_at.is_none_or(|dropped| dropped > span.until)
        };
        self.0.iter().filter(move |(_, life)| existed(life)).map(move |(id, _)| (*id, self.names_of(*id, span)))
    }

    /// The names that a collection had in a span; none if it didn't exist in it.
    pub(crate) fn names_of(&self, id: i64, span: Span) -> Vec<&CollectionName> {
        self.held_by(id).into_iter().filter(|held| held.was_in(span)).map(|held| held.name).collect()
    }

    /// Since when a collection has had its present name.
    pub(crate) fn named_since(&self, id: i64) -> Option<Time> {
        self.0.get(&id).and_then(|life| life.names.last()).map(|(from, _)| *from)
    }

    /// Whether a collection with this name was dropped in a span.
    pub(crate) fn was_dropped(&self, name: &CollectionName, span: Span) -> bool {
        self.holders_of(name, span).iter().any(|held| {
            let life = self.0.get(&held.id);
            life.and_then(|life| life.dropped_at).is_some_and(|dropped| dropped <= span.until)
        })
    }

    /// The ids of what had this name in a span.
    pub(crate) fn ids_of(&self, name: &CollectionName, span: Span) -> BTreeSet<i64> {
        self.holders_of(name, span).iter().map(|held| held.id).collect()
    }

    /// The names that stood for some collection throughout a span.
    pub(crate) fn names_all_the_while(&self, span: Span) -> Vec<&CollectionName> {
        let names: BTreeSet<&CollectionName> =
            self.0.values().flat_map(|life| life.names.iter().map(|(_, n)| n)).collect();
        let is_covered = |name: &&CollectionName| {
            let mut held = self.holders_of(name, span);
            held.sort_by_key(|held| held.from);
            let mut covered = None;
            for held in held {
                let continues = covered.map_or(held.from < span.from, |until| held.from <= until);
                if !continues {
                    return false;
                }
                match held.until {
                    Some(until) if until <= span.until => covered = covered.max(Some(until)),
                    _ => return true,
                }
            }
            false
        };
        names.into_iter().filter(is_covered).collect()
    }

    fn holders_of(&self, name: &CollectionName, span: Span) -> Vec<Held<'_>> {
        let held = self.0.keys().flat_map(|id| self.held_by(*id));
        held.filter(|held| held.name == name && held.was_in(span)).collect()
    }

    fn held_by(&self, id: i64) -> Vec<Held<'_>> {
        let Some(life) = self.0.get(&id) else { return Vec::new() };
        let ends = life.names.iter().skip(1).map(|(from, _)| Some(*from)).chain([life.dropped_at]);
        life.names.iter().zip(ends).map(|((from, name), until)| Held { name, id, from: *from, until }).collect()
    }
}
