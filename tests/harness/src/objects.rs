//! Buckets in memory.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::{Bound, Range},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use futures::TryStreamExt;
use milvault_model::{Region, Time};
use milvault_ports::{
    Bucket, Clock, CopyOutcome, CopyRequest, LockMode, Locking, ObjectMeta, Objects, ObjectsError, Page, PutMode,
    PutOutcome,
};

use crate::{TestClock, locked};

/// The most objects in one answer of S3.
const LISTING: usize = 1000;

/// Object storage in memory.
///
/// The ETag of a copy never equals that of its source, as in S3 for objects that were uploaded in parts or are encrypted
/// with KMS: code that compares the two always fails here.
#[derive(Debug)]
pub struct MemoryObjects {
    stores: Mutex<BTreeMap<String, Store>>,
    page: usize,
}

#[derive(Debug)]
struct Store {
    region: Region,
    objects: BTreeMap<String, Object>,
    lock: Option<(Locking, Arc<TestClock>)>,
}

#[derive(Debug, Clone)]
struct Object {
    body: Vec<u8>,
    etag: String,
    /// The ETag of its source.
    source_etag: Option<String>,
    /// The backup that it was copied for.
    stored_by: Option<String>,
    /// When its lock ends.
    locked_until: Option<Time>,
}

impl MemoryObjects {
    /// These buckets, empty; any other bucket is refused.
    pub fn new<'a>(buckets: impl IntoIterator<Item = &'a Bucket>) -> Self {
        let store = |bucket: &Bucket| Store { region: bucket.region.clone(), objects: BTreeMap::new(), lock: None };
        let buckets = buckets.into_iter().map(|bucket| (bucket.name.clone(), store(bucket)));
        Self { stores: Mutex::new(buckets.collect()), page: LISTING }
    }

    /// Limits the objects in one answer to a listing, so that few objects already need several answers.
    pub fn with_page(self, page: usize) -> Self {
        Self { page: page.clamp(1, LISTING), ..self }
    }

    /// Has a bucket lock every object that is stored from now on.
    pub fn lock_new(&self, bucket: &Bucket, locking: Locking, clock: Arc<TestClock>) {
        if let Some(store) = self.stores().get_mut(&bucket.name) {
            store.lock = Some((locking, clock));
        }
    }

    /// The end of the lock of every object in a bucket, by key.
    pub fn locks(&self, bucket: &Bucket) -> BTreeMap<String, Option<Time>> {
        let stores = self.stores();
        let objects = stores.get(&bucket.name).into_iter().flat_map(|store| &store.objects);
        objects.map(|(key, object)| (key.clone(), object.locked_until)).collect()
    }

    fn stores(&self) -> MutexGuard<'_, BTreeMap<String, Store>> {
        locked(&self.stores)
    }
}

fn opened<'a>(stores: &'a mut BTreeMap<String, Store>, bucket: &Bucket) -> Result<&'a mut Store, ObjectsError> {
    match stores.get_mut(&bucket.name) {
        None => Err(refused(bucket, "NoSuchBucket".to_owned())),
        Some(store) if store.region != bucket.region => Err(refused(bucket, format!("it is in {}", store.region))),
        Some(store) => Ok(store),
    }
}

fn refused(bucket: &Bucket, reason: String) -> ObjectsError {
    ObjectsError::Bucket { bucket: bucket.name.clone(), reason }
}

impl Store {
    /// The end of the lock of an object that is stored now.
    fn lock_of_new(&self) -> Option<Time> {
        self.lock.as_ref().map(|(locking, clock)| clock.now() + locking.period)
    }
}

/// A hash with the length of an MD5, equal for equal contents.
fn etag_of(body: &[u8]) -> String {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, body).hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

/// Every object whose key begins with a prefix.
pub async fn list_all(objects: &dyn Objects, bucket: &Bucket, prefix: &str) -> Vec<ObjectMeta> {
    milvault_ports::objects(objects, bucket, prefix).try_collect().await.unwrap()
}

#[async_trait]
impl Objects for MemoryObjects {
    async fn list(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<Page<ObjectMeta>, ObjectsError> {
        let mut stores = self.stores();
        let objects = &mut opened(&mut stores, bucket)?.objects;
        // The listing begins at the later of the two: the prefix itself may be a key.
        let begin = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_owned()),
            _ => Bound::Included(prefix.to_owned()),
        };
        let mut found: Vec<ObjectMeta> = objects
            .range((begin, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(self.page + 1)
            .map(|(key, object)| ObjectMeta {
                key: key.clone(),
                size: object.body.len() as u64,
                etag: object.etag.clone(),
            })
            .collect();
        let more = found.len() > self.page;
        found.truncate(self.page);
        let next = found.last().filter(|_| more).map(|last| last.key.clone());
        Ok(Page { items: found, next })
    }

    async fn copy(&self, request: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError> {
        let mut stores = self.stores();
        let source = opened(&mut stores, request.from)?.objects.get(request.from_key).cloned();
        let destination = opened(&mut stores, request.to)?;
        // S3 checks the source first; it doesn't say which of two conditions failed.
        let Some(source) = source else { return Ok(CopyOutcome::SourceGone) };
        if let Some(there) = destination.objects.get(request.to_key) {
            let is_same = there.body.len() as u64 == request.size
                && (there.source_etag.as_deref() == Some(request.from_etag) || there.etag == request.from_etag);
            let etag = there.etag.clone();
            let stored_by = there.stored_by.clone();
            return Ok(if is_same { CopyOutcome::AlreadyThere { etag, stored_by } } else { CopyOutcome::Occupied });
        }
        if source.etag != request.from_etag {
            return Ok(CopyOutcome::SourceGone);
        }
        let etag = format!("{}-1", source.etag);
        let copy = Object {
            body: source.body,
            etag: etag.clone(),
            source_etag: Some(source.etag),
            stored_by: Some(request.stored_by.to_owned()),
            locked_until: destination.lock_of_new(),
        };
        destination.objects.insert(request.to_key.to_owned(), copy);
        Ok(CopyOutcome::Copied { etag })
    }

    async fn put(&self, bucket: &Bucket, key: &str, body: Vec<u8>, mode: PutMode) -> Result<PutOutcome, ObjectsError> {
        let mut stores = self.stores();
        let store = opened(&mut stores, bucket)?;
        if mode == PutMode::IfAbsent && store.objects.contains_key(key) {
            return Ok(PutOutcome::Occupied);
        }
        let (etag, locked_until) = (etag_of(&body), store.lock_of_new());
        store.objects.insert(key.to_owned(), Object { body, etag, source_etag: None, stored_by: None, locked_until });
        Ok(PutOutcome::Stored)
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let mut stores = self.stores();
        Ok(opened(&mut stores, bucket)?.objects.get(key).map(|object| object.body.clone()))
    }

    async fn get_range(&self, bucket: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectsError> {
        let body = self.get(bucket, key).await?;
        Ok(body.map(|body| {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
            body[place(range.start)..place(range.end).max(place(range.start))].to_vec()
        }))
    }

    async fn delete(&self, bucket: &Bucket, keys: &[String]) -> Result<(), ObjectsError> {
        let mut stores = self.stores();
        let objects = &mut opened(&mut stores, bucket)?.objects;
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }

    async fn locking(&self, bucket: &Bucket) -> Result<Option<Locking>, ObjectsError> {
        Ok(opened(&mut self.stores(), bucket)?.lock.as_ref().map(|(locking, _)| *locking))
    }

    async fn lock(&self, bucket: &Bucket, key: &str, _: LockMode, until: Time) -> Result<(), ObjectsError> {
        let mut stores = self.stores();
        let store = opened(&mut stores, bucket)?;
        if store.lock.is_none() {
            return Err(refused(bucket, "InvalidRequest".to_owned()));
        }
        if let Some(object) = store.objects.get_mut(key) {
            object.locked_until = object.locked_until.max(Some(until));
        }
        Ok(())
    }
}
