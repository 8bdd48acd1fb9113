//! Buckets in memory.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use milvault_jobs::ports::{
    Bucket, CopyOutcome, CopyRequest, Listing, ObjectMeta, Objects, ObjectsError, PutMode, PutOutcome,
};
use milvault_model::Region;

/// S3's most objects in one answer.
const LISTING: usize = 1000;

/// Object storage in memory.
///
/// The ETag of a copy is never that of its source, as S3's isn't for objects that came in parts or are encrypted with
/// KMS: who compares the two is wrong, here always.
#[derive(Debug)]
pub struct MemoryObjects {
    stores: Mutex<BTreeMap<String, Store>>,
    page: usize,
}

#[derive(Debug)]
struct Store {
    region: Region,
    objects: BTreeMap<String, Object>,
}

#[derive(Debug, Clone)]
struct Object {
    body: Vec<u8>,
    etag: String,
    /// Of what it was copied from.
    source_etag: Option<String>,
    /// For whom it was copied.
    stored_by: Option<String>,
}

impl MemoryObjects {
    /// These buckets, empty. Any other is refused.
    pub fn new<'a>(buckets: impl IntoIterator<Item = &'a Bucket>) -> Self {
        let store = |bucket: &Bucket| Store { region: bucket.region.clone(), objects: BTreeMap::new() };
        let buckets = buckets.into_iter().map(|bucket| (bucket.name.clone(), store(bucket)));
        Self { stores: Mutex::new(buckets.collect()), page: LISTING }
    }

    /// The same with fewer objects in an answer to a listing, so that few objects already take several.
    pub fn with_page(self, page: usize) -> Self {
        Self { page: page.clamp(1, LISTING), ..self }
    }

    fn stores(&self) -> MutexGuard<'_, BTreeMap<String, Store>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn opened<'a>(
    stores: &'a mut BTreeMap<String, Store>,
    bucket: &Bucket,
) -> Result<&'a mut BTreeMap<String, Object>, ObjectsError> {
    let refused = |reason: String| ObjectsError::Bucket { bucket: bucket.name.clone(), reason };
    match stores.get_mut(&bucket.name) {
        None => Err(refused("NoSuchBucket".to_owned())),
        Some(store) if store.region != bucket.region => Err(refused(format!("it is in {}", store.region))),
        Some(store) => Ok(&mut store.objects),
    }
}

/// Equal for equal contents, as an MD5 is, and of its length.
fn etag_of(body: &[u8]) -> String {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, body).hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

#[async_trait]
impl Objects for MemoryObjects {
    async fn list(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<Listing, ObjectsError> {
        let mut stores = self.stores();
        let objects = opened(&mut stores, bucket)?;
        // Whichever comes later: the prefix's first key may be the prefix itself.
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
        Ok(Listing { objects: found, more })
    }

    async fn copy(&self, request: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError> {
        let mut stores = self.stores();
        let source = opened(&mut stores, request.from)?.get(request.from_key).cloned();
        let destination = opened(&mut stores, request.to)?;
        // A source that isn't there is what S3 notices first; which of two conditions failed, it doesn't say.
        let Some(source) = source else { return Ok(CopyOutcome::SourceGone) };
        if let Some(there) = destination.get(request.to_key) {
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
        };
        destination.insert(request.to_key.to_owned(), copy);
        Ok(CopyOutcome::Copied { etag })
    }

    async fn put(&self, bucket: &Bucket, key: &str, body: Vec<u8>, mode: PutMode) -> Result<PutOutcome, ObjectsError> {
        let mut stores = self.stores();
        let objects = opened(&mut stores, bucket)?;
        if mode == PutMode::IfAbsent && objects.contains_key(key) {
            return Ok(PutOutcome::Occupied);
        }
        let etag = etag_of(&body);
        objects.insert(key.to_owned(), Object { body, etag, source_etag: None, stored_by: None });
        Ok(PutOutcome::Stored)
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let mut stores = self.stores();
        Ok(opened(&mut stores, bucket)?.get(key).map(|object| object.body.clone()))
    }

    async fn delete(&self, bucket: &Bucket, keys: &[String]) -> Result<(), ObjectsError> {
        let mut stores = self.stores();
        let objects = opened(&mut stores, bucket)?;
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }
}
