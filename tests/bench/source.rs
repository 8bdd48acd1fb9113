//! Synthetic data of a Milvus, whose keys are computed from the number of objects instead of being kept.

use std::ops::Range;

use milvault_ports::ObjectMeta;

/// Milvus's root path.
pub const ROOT: &str = "files";
/// An insert log per field and segment.
pub const FIELDS: u64 = 10;
/// The size of every object in bytes.
pub const SIZE: u64 = 1_000_000;
const PARTITION: u64 = 451_000_000_000_000_000;
const SEGMENT: u64 = 452_000_000_000_000_000;

/// The data at one time.
#[derive(Debug, Clone)]
pub struct Source {
    pub collections: u64,
    /// The segments of every collection. Compactions remove the first segments and add others after the last.
    pub segments: Range<u64>,
}

impl Source {
    /// Data of this many objects.
    pub fn of(objects: u64, collections: u64) -> Self {
        Self { collections, segments: 0..objects / collections / FIELDS }
    }

    /// The same with one in `share` segments replaced.
    pub fn changed(&self, share: u64) -> Self {
        let replaced = (self.segments.end - self.segments.start) / share;
        Self { segments: self.segments.start + replaced..self.segments.end + replaced, ..self.clone() }
    }

    pub fn objects(&self) -> u64 {
        self.collections * self.per_collection()
    }

    pub fn per_collection(&self) -> u64 {
        (self.segments.end - self.segments.start) * FIELDS
    }

    pub fn collection_id(number: u64) -> i64 {
        (450_000_000_000_000_000 + number) as i64
    }

    pub fn partition_id() -> i64 {
        PARTITION as i64
    }

    pub fn segment_ids(&self) -> impl Iterator<Item = i64> {
        self.segments.clone().map(|segment| (SEGMENT + segment) as i64)
    }

    /// A collection's insert log at this position.
    pub fn key(&self, collection: u64, place: u64) -> String {
        let (segment, field) = (SEGMENT + self.segments.start + place / FIELDS, 100 + place % FIELDS);
        let id = Self::collection_id(collection);
        format!("{ROOT}/insert_log/{id}/{PARTITION}/{segment}/{field}/{}", segment + field)
    }

    /// The position of a collection's first insert log after `after`, a key or the beginning of one.
    pub fn place_after(&self, prefix: &str, after: Option<&str>) -> u64 {
        let Some(rest) = after.and_then(|after| after.strip_prefix(prefix)) else { return 0 };
        let mut parts = rest.split('/').skip(1).map(|part| part.parse::<u64>().unwrap_or_default());
        let Some(segment) = parts.next() else { return 0 };
        let first = (segment.saturating_sub(SEGMENT)).saturating_sub(self.segments.start) * FIELDS;
        match parts.next() {
            Some(field) => first + field.saturating_sub(100) + 1,
            None => first,
        }
    }

    /// The collection whose insert logs, all or some, a prefix lists.
    pub fn collection_of(&self, prefix: &str) -> Option<u64> {
        let (id, _) = prefix.strip_prefix(ROOT)?.strip_prefix("/insert_log/")?.split_once('/')?;
        let id: u64 = id.parse().ok()?;
        Some(id - Self::collection_id(0) as u64).filter(|number| *number < self.collections)
    }

    /// Whether there is an object with this key.
    pub fn has(&self, key: &str) -> bool {
        let Some(id) = key.split('/').nth(2) else { return false };
        let prefix = format!("{ROOT}/insert_log/{id}/");
        let place = self.place_after(&prefix, Some(key)).checked_sub(1).filter(|place| *place < self.per_collection());
        self.collection_of(&prefix).zip(place).is_some_and(|(collection, place)| self.key(collection, place) == key)
    }

    /// A page of the listing below a collection's prefix, or a segment's, and whether there is more.
    pub fn list(&self, prefix: &str, after: Option<&str>, limit: u64) -> (Vec<ObjectMeta>, bool) {
        let Some(collection) = self.collection_of(prefix) else { return (Vec::new(), false) };
        let whole = format!("{ROOT}/insert_log/{}/", Self::collection_id(collection));
        if prefix != whole {
            let first = self.place_after(&whole, Some(prefix));
            let keys = (first..self.per_collection()).map(|place| self.key(collection, place));
            let found = keys.take_while(|key| key.starts_with(prefix)).take(limit as usize).map(meta).collect();
            return (found, false);
        }
        let first = self.place_after(prefix, after);
        let end = self.per_collection().min(first + limit);
        let objects = (first..end).map(|place| meta(self.key(collection, place))).collect();
        (objects, end < self.per_collection())
    }

    /// Every object in order, for a listing of everything.
    pub fn all(&self, after: Option<&str>, limit: usize) -> (Vec<ObjectMeta>, bool) {
        let places = (0..self.collections).flat_map(|c| (0..self.per_collection()).map(move |place| (c, place)));
        let skipped = after.map_or(0, |after| {
            let collection: u64 = after.split('/').nth(2).and_then(|id| id.parse().ok()).unwrap_or_default();
            let number = collection.saturating_sub(Self::collection_id(0) as u64);
            let prefix = format!("{ROOT}/insert_log/{collection}/");
            number * self.per_collection() + self.place_after(&prefix, Some(after))
        });
        let (first, all) = (skipped as usize, self.objects() as usize);
        let objects = places.skip(first).take(limit).map(|(c, place)| meta(self.key(c, place))).collect();
        (objects, first + limit < all)
    }
}

fn meta(key: String) -> ObjectMeta {
    let etag =
        format!("{:032x}", key.bytes().fold(7_u128, |hash, byte| hash.wrapping_mul(16_777_619) ^ u128::from(byte)));
    ObjectMeta { key, size: SIZE, etag }
}
