//! Object storage of names only, for the size of a plan and not for copies. Listings are computed on request, copies are done
//! at once, and only a backup's own documents are kept, on disk.

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::PathBuf,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use milvault_harness::locked;
use milvault_model::{ObjectKey, Time};
use milvault_ports::{
    Bucket, CopyOutcome, CopyRequest, LockMode, Locking, ObjectMeta, Objects, ObjectsError, Page, PutMode, PutOutcome,
};

use crate::{
    engine::{DATA, SNAPSHOTS},
    source::{ROOT, SIZE, Source},
};

const PAGE: usize = 1000;
const ETAG: &str = "copied";

pub struct Names {
    source: Source,
    directory: PathBuf,
    documents: Mutex<BTreeSet<String>>,
}

impl Names {
    /// Keeps documents below `directory`.
    pub fn new(source: Source, directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).unwrap();
        Self { source, directory, documents: Mutex::default() }
    }

    fn documents(&self) -> MutexGuard<'_, BTreeSet<String>> {
        locked(&self.documents)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(key.replace('/', "+"))
    }

    /// The copied objects of one shard.
    fn shard(&self, prefix: &str, after: Option<&str>) -> Page<ObjectMeta> {
        let source = &self.source;
        let shard = usize::from_str_radix(&prefix[prefix.len() - 2..prefix.len() - 1], 16).unwrap();
        let rest = after.and_then(|after| after.strip_prefix(prefix)).unwrap_or_default();
        let mut parts = rest.splitn(3, '/');
        let collection: u64 = parts.next().and_then(|id| id.parse().ok()).unwrap_or_default();
        let number = collection.saturating_sub(Source::collection_id(0) as u64);
        let below = format!("{ROOT}/insert_log/{collection}/");
        let place = match parts.nth(1) {
            Some(rest) => source.place_after(&below, Some(&format!("{below}{rest}"))),
            None => 0,
        };
        let mut objects = Vec::with_capacity(PAGE);
        let mut at = number * source.per_collection() + place;
        while at < source.objects() && objects.len() < PAGE {
            let key = source.key(at / source.per_collection(), at % source.per_collection());
            let key = ObjectKey::from_source(&key[ROOT.len() + 1..]).unwrap();
            if key.shard() == shard {
                objects.push(ObjectMeta { key: format!("{prefix}{key}"), size: SIZE, etag: ETAG.to_owned() });
            }
            at += 1;
        }
        page(objects, at < source.objects())
    }
}

fn page(items: Vec<ObjectMeta>, more: bool) -> Page<ObjectMeta> {
    let next = items.last().filter(|_| more).map(|last| last.key.clone());
    Page { items, next }
}

#[async_trait]
impl Objects for Names {
    async fn list(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<Page<ObjectMeta>, ObjectsError> {
        if bucket.name == DATA {
            let (objects, more) = self.source.list(prefix, after, PAGE as u64);
            return Ok(page(objects, more));
        }
        if prefix.contains("/objects/") && !prefix.contains("/snapshots/") {
            return Ok(self.shard(prefix, after));
        }
        let documents = self.documents();
        let meta = |key: &String| ObjectMeta { key: key.clone(), size: 1, etag: String::new() };
        let listed = documents.iter().filter(|key| key.starts_with(prefix));
        let mut objects: Vec<_> =
            listed.filter(|key| after.is_none_or(|after| key.as_str() > after)).map(meta).collect();
        let more = objects.len() > PAGE;
        objects.truncate(PAGE);
        Ok(page(objects, more))
    }

    async fn copy(&self, _: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError> {
        Ok(CopyOutcome::Copied { etag: ETAG.to_owned() })
    }

    async fn put(&self, bucket: &Bucket, key: &str, body: Vec<u8>, mode: PutMode) -> Result<PutOutcome, ObjectsError> {
        assert_eq!(bucket.name, SNAPSHOTS);
        if !self.documents().insert(key.to_owned()) && mode == PutMode::IfAbsent {
            return Ok(PutOutcome::Occupied);
        }
        fs::write(self.path(key), body).unwrap();
        Ok(PutOutcome::Stored)
    }

    async fn get(&self, _: &Bucket, key: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        Ok(fs::read(self.path(key)).ok())
    }

    async fn get_range(&self, _: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectsError> {
        let body = fs::read(self.path(key)).ok();
        Ok(body
            .map(|body| body.into_iter().skip(range.start as usize).take((range.end - range.start) as usize).collect()))
    }

    async fn delete(&self, _: &Bucket, keys: &[String]) -> Result<(), ObjectsError> {
        for key in keys {
            self.documents().remove(key);
            let _ = fs::remove_file(self.path(key));
        }
        Ok(())
    }

    async fn locking(&self, _: &Bucket) -> Result<Option<Locking>, ObjectsError> {
        Ok(None)
    }

    async fn lock(&self, _: &Bucket, _: &str, _: LockMode, _: Time) -> Result<(), ObjectsError> {
        unreachable!("no bucket locks here")
    }
}
