//! How restores make, rename and drop collections.

use std::collections::BTreeMap;

use milvault_model::{CollectionCapture, CollectionName, Time};
use milvault_ports::MilvusError;

use super::{Collection, Lie, Server};
use crate::fields::{self, Field};

impl Server {
    /// Makes a collection with these fields, which get their ids by position.
    pub(crate) fn make(
        &mut self,
        name: &CollectionName,
        capture: &CollectionCapture,
        fields: &[usize],
        now: Time,
    ) -> Result<(), MilvusError> {
        if self.collections.contains_key(name) {
            return match self.keeps_what_it_is_to_drop {
                true => Ok(()),
                false => Err(MilvusError::Refused(format!("{name} exists"))),
            };
        }
        let id = self.id();
        let partition_names: BTreeMap<i64, String> =
            capture.partitions.iter().map(|partition| (self.id(), partition.name.clone())).collect();
        let fields = fields::by_place(fields);
        self.journal.begin(id, name, now);
        self.journal.has_fields(id, &fields);
        if self.lie == Some(Lie::FieldsByPlace) {
            self.wanted_fields.insert(id, capture.fields.clone());
        }
        let partitions = partition_names.keys().copied().collect();
        let collection = Collection { partitions, partition_names, ..Collection::new(id, fields, now) };
        self.collections.insert(name.clone(), collection);
        Ok(())
    }

    /// Adds a field with the next id.
    pub(crate) fn add_field(&mut self, name: &CollectionName, field: usize) -> Result<(), MilvusError> {
        if !self.habits.adds_fields {
            return Err(MilvusError::Refused("fields can't be added".to_owned()));
        }
        let collection = self.found(name)?;
        if collection.fields.iter().any(|other| other.place == field) {
            return Err(MilvusError::Refused(format!("{name} has that field")));
        }
        let last = collection.fields.iter().map(|field| field.id).max().unwrap_or_default();
        collection.fields.push(Field { id: last + 1, place: field });
        let (id, fields) = (collection.id, collection.fields.clone());
        self.journal.has_fields(id, &fields);
        self.described_aliases.remove(&id);
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &CollectionName, to: &str, now: Time) -> Result<(), MilvusError> {
        let to = CollectionName::new(&from.database, to);
        self.found(from)?;
        if self.collections.contains_key(&to) || self.aliases.contains_key(&to.collection) {
            return Err(MilvusError::Refused(format!("{to} exists")));
        }
        let Some(collection) = self.collections.remove(from) else { return Ok(()) };
        self.journal.rename(collection.id, &to, now);
        self.move_rights(from, &to);
        self.collections.insert(to, collection);
        Ok(())
    }

    pub(crate) fn drop_collection(&mut self, name: &CollectionName, now: Time) {
        let Some(collection) = self.collections.remove(name) else { return };
        self.journal.end(collection.id, now);
        self.aliases.retain(|_, of| *of != collection.id);
        if self.habits.moves_grants {
            self.rights.retain(|right| right.name != name.collection);
        }
        self.doom(&collection.stored, now);
    }
}
