//! The object storage of an invocation.

use std::ops::Range;

use async_trait::async_trait;
use milvault_model::Time;
use milvault_ports::{
    Bucket, CopyOutcome, CopyRequest, LockMode, Locking, ObjectMeta, Objects, ObjectsError, Page, PutMode, PutOutcome,
};

use super::{Port, at_once, title};
use crate::calls::Nature;

fn no_objects<T>(reason: String) -> Result<T, ObjectsError> {
    Err(ObjectsError::Unavailable(reason))
}

#[async_trait]
impl Objects for Port {
    async fn list(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<Page<ObjectMeta>, ObjectsError> {
        let (objects, bucket, prefix) = (self.objects.clone(), bucket.clone(), prefix.to_owned());
        let after = after.map(str::to_owned);
        let name = title!(self, "list {} {prefix}", bucket.name);
        let effect = move || at_once(objects.list(&bucket, &prefix, after.as_deref()));
        self.network.call(self.outgoing(Nature::Read, name), effect, no_objects).await
    }

    async fn copy(&self, request: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError> {
        let (objects, audit) = (self.objects.clone(), self.audit.clone());
        let (from, to) = (request.from.clone(), request.to.clone());
        let (from_key, from_etag) = (request.from_key.to_owned(), request.from_etag.to_owned());
        let (to_key, size, stored_by) = (request.to_key.to_owned(), request.size, request.stored_by.to_owned());
        audit.writes(self.worker, &to, &to_key);
        let name = title!(self, "copy {to_key}");
        let effect = move || {
            let request = CopyRequest {
                from: &from,
                from_key: &from_key,
                from_etag: &from_etag,
                size,
                to: &to,
                to_key: &to_key,
                stored_by: &stored_by,
            };
            let result = at_once(objects.copy(request));
            if let Ok(CopyOutcome::Copied { .. }) = &result {
                audit.copied(&to_key, &stored_by);
            }
            audit.touched(&to, std::slice::from_ref(&to_key));
            result
        };
        self.network.call(self.outgoing(Nature::Unguarded, name), effect, no_objects).await
    }

    async fn put(&self, bucket: &Bucket, key: &str, body: Vec<u8>, mode: PutMode) -> Result<PutOutcome, ObjectsError> {
        let (objects, audit) = (self.objects.clone(), self.audit.clone());
        let (bucket, key) = (bucket.clone(), key.to_owned());
        audit.writes(self.worker, &bucket, &key);
        let name = title!(self, "put {key}");
        let effect = move || {
            let result = at_once(objects.put(&bucket, &key, body, mode));
            audit.touched(&bucket, &[key]);
            result
        };
        self.network.call(self.outgoing(Nature::Unguarded, name), effect, no_objects).await
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let (objects, bucket, key) = (self.objects.clone(), bucket.clone(), key.to_owned());
        let name = title!(self, "get {key}");
        let effect = move || at_once(objects.get(&bucket, &key));
        self.network.call(self.outgoing(Nature::Read, name), effect, no_objects).await
    }

    async fn get_range(&self, bucket: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectsError> {
        let (objects, bucket, key) = (self.objects.clone(), bucket.clone(), key.to_owned());
        let name = title!(self, "get {range:?} of {key}");
        let effect = move || at_once(objects.get_range(&bucket, &key, range));
        self.network.call(self.outgoing(Nature::Read, name), effect, no_objects).await
    }

    async fn delete(&self, bucket: &Bucket, keys: &[String]) -> Result<(), ObjectsError> {
        let (objects, audit) = (self.objects.clone(), self.audit.clone());
        let (bucket, keys) = (bucket.clone(), keys.to_vec());
        for key in &keys {
            audit.writes(self.worker, &bucket, key);
        }
        let name = title!(self, "delete {}", keys.join(" "));
        let effect = move || {
            let result = at_once(objects.delete(&bucket, &keys));
            audit.touched(&bucket, &keys);
            result
        };
        self.network.call(self.outgoing(Nature::Unguarded, name), effect, no_objects).await
    }

    async fn locking(&self, bucket: &Bucket) -> Result<Option<Locking>, ObjectsError> {
        let (objects, bucket) = (self.objects.clone(), bucket.clone());
        let name = title!(self, "locking of {}", bucket.name);
        let effect = move || at_once(objects.locking(&bucket));
        self.network.call(self.outgoing(Nature::Read, name), effect, no_objects).await
    }

    async fn lock(&self, bucket: &Bucket, key: &str, mode: LockMode, until: Time) -> Result<(), ObjectsError> {
        let (objects, bucket, key) = (self.objects.clone(), bucket.clone(), key.to_owned());
        let name = title!(self, "lock {key}");
        let effect = move || at_once(objects.lock(&bucket, &key, mode, until));
        self.network.call(self.outgoing(Nature::Unguarded, name), effect, no_objects).await
    }
}
