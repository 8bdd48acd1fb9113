//! The server's answers to reads, flushes and loads.

use std::time::Duration;

use chrono::TimeDelta;
use milvault_model::{
    CollectionName, FieldCapture, FieldPresence, IndexCapture, Loaded, PartitionCapture, PrimaryKey, Principal,
    SegmentLevel, StorageVersion, Time, Visibility,
};
use milvault_ports::{CollectionDescription, FlushResult, GarbageHold, MilvusError, Pace, Segment, SegmentFiles};

use super::{Collection, Lie, Server, Stored};
use crate::fields::Field;

impl Server {
    /// The names and ids that it lists.
    pub(crate) fn listed(&mut self) -> Vec<(CollectionName, i64)> {
        let all = self.collections.iter().map(|(name, collection)| (name.clone(), collection.id));
        let ghost = self.ghost.iter().map(|ghost| (ghost.name.clone(), ghost.id));
        let listed: Vec<_> = all.filter(|(_, id)| self.lists(*id)).chain(ghost).collect();
        for (name, id) in &listed {
            self.first_ids.entry(name.clone()).or_insert(*id);
        }
        listed.into_iter().map(|(name, id)| (name.clone(), self.told_id(&name, id))).collect()
    }

    /// The id that the server gives for the collection with this name.
    pub(super) fn told_id(&self, name: &CollectionName, id: i64) -> i64 {
        match self.lie {
            Some(Lie::IdsByName) => self.first_ids.get(name).copied().unwrap_or(id),
            _ => id,
        }
    }

    /// The version that the server reports.
    pub(crate) fn version(&self) -> &'static str {
        if self.habits.has_l0 { "2.5.4-0.1.1_3.2" } else { "2.3.5-lite" }
    }

    /// The user whose credentials are used, and what that user sees.
    pub(crate) fn principal(&self) -> Principal {
        let visibility = match self.habits.shows_all {
            true => Visibility::Everything,
            false => Visibility::Unsure { reason: "it may not describe everything".to_owned() },
        };
        Principal { user: Some("backup".to_owned()), visibility }
    }

    /// Whether the user sees this collection.
    pub(crate) fn lists(&self, id: i64) -> bool {
        let shows_all = self.habits.shows_all && self.lie != Some(Lie::PartForEverything);
        shows_all || id % 3 != 0
    }

    /// Whether the user sees every collection, or is said to.
    pub(crate) fn shows_all(&self) -> bool {
        self.habits.shows_all
    }

    pub(crate) fn describe(&mut self, name: &CollectionName) -> Result<CollectionDescription, MilvusError> {
        let id = self.found(name)?.id;
        let told_id = self.told_id(name, id);
        let aliases = self.described_aliases(name, id);
        let wanted_fields = self.wanted_fields.get(&id).cloned();
        let adds_fields = self.habits.adds_fields;
        let collection = self.found(name)?;
        let index = IndexCapture { name: "vector".to_owned(), field: "vector".to_owned(), params: Vec::new() };
        let partitions = collection.partitions.iter();
        Ok(CollectionDescription {
            id: told_id,
            name: name.clone(),
            schema: format!("schema of {name}, made at {}", collection.created_at).into_bytes(),
            primary_key: "id".to_owned(),
            fields: wanted_fields.unwrap_or_else(|| {
                let presence = |field: &Field| match adds_fields && field.may_be_added() {
                    true => FieldPresence::SinceAdded,
                    false => FieldPresence::Always,
                };
                let capture = |field: &Field| FieldCapture {
                    id: field.id,
                    name: field.name().to_owned(),
                    presence: presence(field),
                };
                collection.fields.iter().map(capture).collect()
            }),
            shards: 1,
            consistency_level: 2,
            properties: Vec::new(),
            partitions: partitions.map(|id| PartitionCapture { name: collection.name_of(*id), id: *id }).collect(),
            has_partition_key: false,
            indexes: vec![index],
            aliases,
            loaded: if collection.is_loaded { Loaded::Whole { replicas: 1 } } else { Loaded::No },
        })
    }

    pub(crate) fn flush(&mut self, name: &CollectionName, now: Time) -> Result<FlushResult, MilvusError> {
        self.found(name)?;
        let sealed = self.seal(name, now);
        let timestamp = self.timestamp(now);
        let names_flushed = self.habits.names_flushed;
        let collection = self.found(name)?;
        let data = collection.stored.iter().filter(|segment| segment.level == SegmentLevel::Data);
        let named = data.filter(|segment| sealed.contains(&segment.id) || (names_flushed && segment.named_from <= now));
        let (id, segments) = (collection.id, named.map(|segment| segment.id).collect::<Vec<_>>());
        self.journal.flush(id, timestamp);
        self.named.extend(&segments);
        let (sealed, flushed) = segments.into_iter().partition(|id| sealed.contains(id));
        Ok(FlushResult { timestamp, sealed, flushed })
    }

    /// Whether a flush is over: some are at once, others take up to a second.
    pub(crate) fn is_flushed(&mut self, name: &CollectionName, timestamp: u64, now: Time) -> Result<bool, MilvusError> {
        self.found(name)?;
        let flushed_at = i64::try_from(timestamp >> 18).expect("times are small");
        Ok(now.timestamp_millis() - flushed_at >= flushed_at % 4 * 300)
    }

    pub(crate) fn segments(&mut self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError> {
        let (lie, named) = (self.lie, self.named.clone());
        let is_listed = |segment: &&Stored| {
            lie != Some(Lie::OnlyNamedSegments) || named.contains(&segment.id) || segment.rows.is_empty()
        };
        let id = self.found(name)?.id;
        let collection_id = self.told_id(name, id);
        let segments = self.found(name)?.stored.iter().filter(is_listed);
        Ok(segments
            .map(|segment| Segment {
                id: segment.id,
                collection_id,
                partition_id: segment.partition,
                rows: segment.rows.len() as u64,
                is_flushed: true,
                is_sorted: false,
                level: segment.level,
                storage: StorageVersion::V1,
            })
            .collect())
    }

    /// The logs of segments that aren't dropped; `None` on a server that doesn't list files.
    pub(crate) fn segment_files(
        &mut self,
        collection: i64,
        wanted: &[i64],
    ) -> Result<Option<Vec<SegmentFiles>>, MilvusError> {
        if !self.habits.tells_files {
            return Ok(None);
        }
        let Some(name) = self.name_of(collection) else { return Ok(Some(Vec::new())) };
        let stored = self.found(&name)?.stored.iter().filter(|segment| wanted.contains(&segment.id));
        Ok(Some(stored.map(Stored::files).collect()))
    }

    pub(crate) fn hold_garbage(&mut self, duration: Duration, now: Time) -> GarbageHold {
        if !self.habits.can_hold {
            return GarbageHold::NotOffered;
        }
        self.held_until = now + TimeDelta::from_std(duration).unwrap_or_default();
        GarbageHold::Held { ticket: None }
    }

    pub(crate) fn count(&mut self, name: &CollectionName) -> Result<u64, MilvusError> {
        Ok(self.loaded(name)?.live.len() as u64)
    }

    pub(super) fn loaded(&mut self, name: &CollectionName) -> Result<&Collection, MilvusError> {
        let collection = self.found(name)?;
        match collection.is_loaded {
            true => Ok(collection),
            false => Err(MilvusError::Refused(format!("{name} isn't loaded"))),
        }
    }

    pub(crate) fn find_keys(
        &mut self,
        name: &CollectionName,
        sought: &[PrimaryKey],
    ) -> Result<Vec<PrimaryKey>, MilvusError> {
        let live = &self.loaded(name)?.live;
        let is_there = |key: &&PrimaryKey| match key {
            PrimaryKey::Int(key) => live.contains(&key.cast_unsigned()),
            PrimaryKey::Text(_) => false,
        };
        Ok(sought.iter().filter(is_there).cloned().collect())
    }

    pub(crate) fn some_keys(&mut self, name: &CollectionName, limit: usize) -> Result<Vec<PrimaryKey>, MilvusError> {
        Ok(self.found(name)?.live.iter().take(limit).map(|key| PrimaryKey::Int(i64::try_from(*key).unwrap())).collect())
    }

    pub(crate) fn load(&mut self, name: &CollectionName, now: Time) -> Result<(), MilvusError> {
        let takes = TimeDelta::milliseconds(self.random.below(5_000).cast_signed());
        let collection = self.found(name)?;
        if !collection.is_loaded {
            collection.loaded_at = now + takes;
        }
        collection.is_loaded = true;
        Ok(())
    }

    pub(crate) fn loading(&mut self, name: &CollectionName, now: Time) -> Result<Pace, MilvusError> {
        let collection = self.found(name)?;
        Ok(match collection.is_loaded && collection.loaded_at <= now {
            true => Pace::Done,
            false => Pace::At(0),
        })
    }

    pub(crate) fn release(&mut self, name: &CollectionName) -> Result<(), MilvusError> {
        self.found(name)?.is_loaded = false;
        Ok(())
    }
}
