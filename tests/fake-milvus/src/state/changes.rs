//! Changes of collections by tests, and by clients other than the caller.

use std::collections::BTreeMap;

use milvus::proto::schema::{CollectionSchema, DataType, FieldSchema};

use super::{Collection, Event, Index, State};
use crate::{Change, Loading, service};

impl State {
    /// Makes a collection with a primary key `id` and a vector, an index, and these partitions.
    pub(crate) fn make(&mut self, database: &str, name: &str, partitions: &[&str], loading: Loading) {
        let field = |field_id, name: &str, data_type: DataType| FieldSchema {
            field_id,
            name: name.to_owned(),
            data_type: data_type as i32,
            is_primary_key: name == "id",
            ..Default::default()
        };
        let fields = vec![field(100, "id", DataType::Int64), field(101, "vector", DataType::FloatVector)];
        let schema = CollectionSchema { name: name.to_owned(), fields, ..Default::default() };
        let id = self.id();
        let partitions = partitions.iter().map(|name| ((*name).to_owned(), self.id())).collect();
        let mut collection = Collection::new(id, schema, partitions);
        collection.is_loaded = loading == Loading::Loaded;
        let params = service::pairs(&[("index_type", "HNSW"), ("metric_type", "L2")]);
        collection.indexes.push(Index { field: "vector".to_owned(), name: "vector".to_owned(), params });
        self.databases.entry(database.to_owned()).or_default().insert(name.to_owned(), collection);
    }

    /// Drops a collection, whatever aliases it has.
    pub(crate) fn drop_collection(&mut self, database: &str, name: &str) {
        let dropped = self.databases.get_mut(database).and_then(|collections| collections.remove(name));
        if self.line.moves_grants() && dropped.is_some() {
            self.users.move_grants(database, name, None);
        }
        let aliases = dropped.into_iter().flat_map(|collection| collection.aliases);
        if self.line.leaves_aliases() {
            self.dangling.extend(aliases.map(|alias| (database.to_owned(), alias)));
        }
    }

    /// Renames a collection; returns whether it exists.
    pub(crate) fn rename(&mut self, database: &str, from: &str, to: &str) -> bool {
        let collections = self.databases.entry(database.to_owned()).or_default();
        let Some(mut collection) = collections.remove(from) else { return false };
        to.clone_into(&mut collection.schema.name);
        collection.cached_aliases = None;
        collections.insert(to.to_owned(), collection);
        if self.line.moves_grants() {
            self.users.move_grants(database, from, Some(to));
        }
        true
    }

    /// Makes a change by another client.
    pub(crate) fn change(&mut self, database: &str, change: &Change) {
        match change {
            Change::Drop(name) => self.drop_collection(database, name),
            Change::Recreate(name, rows) => {
                self.drop_collection(database, name);
                self.make(database, name, &["_default"], Loading::Released);
                self.insert(database, name, "_default", *rows);
            }
            Change::Rename(from, to) => {
                assert!(self.rename(database, from, to), "the collection exists");
            }
            Change::Alias(alias, name) => self.point_alias(database, alias, name),
            Change::Grant(role, grant) => assert!(self.users.grant(role, grant.clone()), "the role exists"),
            Change::DropDatabase(name) => drop(self.databases.remove(name)),
            Change::Swap(one, other) => {
                for (from, to) in [(one.as_str(), "between"), (other, one), ("between", other)] {
                    assert!(self.rename(database, from, to), "the collection exists");
                }
            }
        }
    }

    /// Points an alias at a collection, whichever had it.
    pub(crate) fn point_alias(&mut self, database: &str, alias: &str, name: &str) {
        for collection in self.databases.get_mut(database).into_iter().flat_map(BTreeMap::values_mut) {
            collection.aliases.remove(alias);
        }
        let collection = self.collection(database, name).expect("the collection exists");
        collection.aliases.insert(alias.to_owned());
    }

    /// Inserts rows in one message with one timestamp; returns their primary keys.
    pub(crate) fn insert(&mut self, database: &str, name: &str, partition: &str, rows: u64) -> Vec<i64> {
        let timestamp = self.timestamp();
        let rows: Vec<Event> = (0..rows).map(|_| Event { key: self.id(), timestamp }).collect();
        let keys = rows.iter().map(|row| row.key).collect();
        let collection = self.collection(database, name).expect("the collection exists");
        collection.grow(collection.partition(partition), rows);
        keys
    }

    /// Deletes rows of a partition, or of all of them, now.
    pub(crate) fn delete(&mut self, database: &str, name: &str, partition: i64, keys: &[i64]) {
        let timestamp = self.timestamp();
        if let Some(collection) = self.collection(database, name) {
            collection.delete(partition, keys, timestamp);
        }
    }
}
