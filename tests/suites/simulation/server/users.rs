//! What users do with their collections.

use chrono::TimeDelta;
use milvault_harness::Random;
use milvault_model::{CollectionName, Time};
use milvault_ports::MilvusError;

use super::{Collection, Ghost, Key, Mark, Server, Wanted};
use crate::{
    belongings::Right,
    fields::{self, Values},
};

impl Server {
    pub(crate) fn create(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        if self.collections.contains_key(name) {
            return;
        }
        let id = self.id();
        let partitions = (0..random.between(1, 2)).map(|_| self.id()).collect();
        let fields = fields::by_place(if random.permille(500) { &fields::WITH_DYNAMIC } else { &fields::LEAST });
        self.journal.begin(id, name, now);
        self.journal.has_fields(id, &fields);
        let is_loaded = random.permille(600);
        let collection = Collection { partitions, is_loaded, ..Collection::new(id, fields, now) };
        self.believed.insert(name.clone(), id);
        self.collections.insert(name.clone(), collection);
    }

    /// A user drops a collection.
    pub(crate) fn drop_believed(&mut self, name: &CollectionName, now: Time) {
        self.believed.remove(name);
        self.touch(name);
        self.drop_collection(name, now);
    }

    /// A user renames a collection; if the new name is taken, the two swap names.
    pub(crate) fn rename_believed(&mut self, from: &CollectionName, to: &CollectionName, now: Time) {
        let is_an_alias = self.aliases.contains_key(&to.collection);
        if is_an_alias || from == to || !self.collections.contains_key(from) {
            return;
        }
        self.touch(from);
        self.touch(to);
        let other = self.collections.remove(to);
        self.believed.remove(to);
        // The swap goes through a third name.
        let aside = CollectionName::new(&to.database, "aside");
        if other.is_some() {
            self.move_rights(to, &aside);
        }
        self.move_believed(from, to, now);
        if let Some(other) = other {
            self.collections.insert(from.clone(), other);
            self.move_believed(from, from, now);
        }
        self.move_rights(&aside, from);
    }

    pub(super) fn move_believed(&mut self, from: &CollectionName, to: &CollectionName, now: Time) {
        let Some(collection) = self.collections.remove(from) else { return };
        self.believed.remove(from);
        self.believed.insert(to.clone(), collection.id);
        self.journal.rename(collection.id, to, now);
        self.collections.insert(to.clone(), collection);
        self.move_rights(from, to);
    }

    /// Restarts the server: for a while it doesn't answer. One whose lists name every collection, as 2.3.5 does, then finds
    /// one collection after the other.
    pub(crate) fn restart(&mut self, random: &mut Random, now: Time) {
        let mut later = |from: Time, most: u64| from + TimeDelta::milliseconds(random.below(most).cast_signed());
        self.starts.push(now);
        self.down_until = later(now, 4_000);
        let ids = self.collections.values().filter(|_| self.habits.shows_all).map(|of| of.id);
        self.hidden = ids.map(|id| (id, later(self.down_until, 6_000))).collect();
    }

    /// Adds a collection that can't be described.
    pub(crate) fn haunt(&mut self, name: CollectionName, random: &mut Random) {
        let error = match random.permille(500) {
            true => MilvusError::NotReady("no such collection with this alias".to_owned()),
            false => MilvusError::Refused("no such collection with this alias".to_owned()),
        };
        self.ghost = Some(Ghost { name, id: self.id(), error });
    }

    pub(crate) fn insert(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        for _ in 0..random.between(1, 6) {
            let timestamp = self.timestamp(now);
            let key = self.next_key;
            self.next_key += 1;
            let Some(collection) = self.collections.get_mut(name) else { return };
            let partition = random.pick(&collection.partitions).copied().unwrap_or_default();
            let row = Mark { key, timestamp, values: Values::of(&collection.fields) };
            collection.growing.push((partition, row));
            collection.live.insert(key);
            self.journal.insert(collection.id, row);
        }
    }

    pub(crate) fn delete(&mut self, name: &CollectionName, random: &mut Random, now: Time) {
        for _ in 0..random.between(1, 3) {
            let timestamp = self.timestamp(now);
            let Some(collection) = self.collections.get_mut(name) else { return };
            let live: Vec<Key> = collection.live.iter().copied().collect();
            let Some(key) = random.pick(&live).copied() else { return };
            let delete = Mark { key, timestamp, values: Values::default() };
            collection.live.remove(&key);
            collection.buffered_deletes.push(delete);
            self.journal.delete(collection.id, delete);
        }
    }

    /// A user adds a field that the collection doesn't have yet, if there is one.
    pub(crate) fn add_another_field(&mut self, name: &CollectionName) -> Result<(), MilvusError> {
        let collection = self.found(name)?;
        let is_new = |place: &usize| !collection.fields.iter().any(|field| field.place == *place);
        match fields::ADDED.into_iter().find(is_new) {
            Some(place) => self.add_field(name, place),
            None => Ok(()),
        }
    }

    /// Records that what belongs to a name may change.
    pub(super) fn touch(&mut self, name: &CollectionName) {
        let id = self.id_of(name);
        for (alias, _) in self.aliases.iter().filter(|(_, of)| Some(**of) == id) {
            self.changes.of_alias(alias);
        }
        if self.habits.moves_grants {
            Right::all_on(name).for_each(|right| self.changes.of_right(right, Wanted::Open));
        }
    }

    /// Moves grants with a collection, on servers that do.
    pub(super) fn move_rights(&mut self, from: &CollectionName, to: &CollectionName) {
        if self.habits.moves_grants && from != to {
            let moved: Vec<Right> = self.rights.extract_if(.., |right| right.name == from.collection).collect();
            self.rights.extend(moved.into_iter().map(|right| Right { name: to.collection.clone(), ..right }));
        }
    }
}
