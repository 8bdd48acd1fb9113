//! Object storage: server-side copies, listings and small documents.

use std::ops::Range;

use async_trait::async_trait;
use chrono::TimeDelta;
use futures::Stream;
use milvault_model::{Instance, Region, Storage, Time};

use crate::page::{Page, items, pages};

/// A bucket and its region.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// The bucket's region.
    pub region: Region,
    /// The bucket's name.
    pub name: String,
}

impl Bucket {
    /// Returns the bucket that Milvus keeps the instance's data in, with the instance's storage.
    ///
    /// # Errors
    /// [`ObjectsError::NoStorage`].
    pub fn of_data(instance: &Instance) -> Result<(Self, &Storage), ObjectsError> {
        let storage = instance.storage.as_ref().ok_or(ObjectsError::NoStorage)?;
        Ok((Self { region: instance.region.clone(), name: storage.bucket.clone() }, storage))
    }
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The full key.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
    /// The ETag without quotes.
    pub etag: String,
}

/// A server-side copy: none of its bytes pass through this service.
#[derive(Debug, Clone)]
pub struct CopyRequest<'a> {
    /// The source's bucket.
    pub from: &'a Bucket,
    /// The source's key.
    pub from_key: &'a str,
    /// The ETag that the source must have.
    pub from_etag: &'a str,
    /// The source's size in bytes, which decides how it is copied.
    pub size: u64,
    /// The destination's bucket.
    pub to: &'a Bucket,
    /// The destination's key.
    pub to_key: &'a str,
    /// The backup that the copy is made for, stored with the object.
    pub stored_by: &'a str,
}

/// The result of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyOutcome {
    /// The object was copied.
    Copied {
        /// The ETag of the destination.
        etag: String,
    },
    /// The same copy existed already.
    AlreadyThere {
        /// The ETag of the destination.
        etag: String,
        /// The backup that the copy was made for, if that was stored with it.
        stored_by: Option<String>,
    },
    /// The source is gone, or is another object than planned.
    SourceGone,
    /// Another object is at the destination.
    Occupied,
}

/// Whether a put may replace an existing object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Store the object only if there is none.
    IfAbsent,
    /// Store the object, whether or not there is one.
    Replace,
}

/// The result of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is stored.
    Stored,
    /// With [`PutMode::IfAbsent`]: an object existed already.
    Occupied,
}

/// A bucket's default retention for new objects (Amazon S3 Object Lock).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locking {
    /// The mode of the lock.
    pub mode: LockMode,
    /// How long new objects are locked.
    pub period: TimeDelta,
}

/// The mode of an object's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Users with a special permission can bypass the lock.
    Governance,
    /// Nobody can bypass the lock.
    Compliance,
}

/// The reason why a call to object storage failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectsError {
    /// The bucket doesn't exist, or can't be used this way.
    #[error("bucket {bucket}: {reason}")]
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The instance is registered without its object storage.
    #[error("the instance is registered without its object storage: register it with 'storage'")]
    NoStorage,
    /// Object storage gave no usable answer after retries. The call may have taken effect.
    #[error("object storage failed: {0}")]
    Unavailable(String),
}

/// Object storage in any region.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Lists the objects below a prefix, after a key.
    async fn list(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<Page<ObjectMeta>, ObjectsError>;

    /// Copies an object. Repeating a copy that took effect returns [`CopyOutcome::AlreadyThere`].
    async fn copy(&self, request: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError>;

    /// Stores a small document.
    async fn put(&self, bucket: &Bucket, key: &str, body: Vec<u8>, mode: PutMode) -> Result<PutOutcome, ObjectsError>;

    /// Reads a small document; `None` if it doesn't exist.
    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, ObjectsError>;

    /// Reads a range of an object. The result is shorter if the object ends earlier, and `None` if it doesn't exist.
    async fn get_range(&self, bucket: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectsError>;

    /// Removes objects. Objects that don't exist count as removed. A locked object is only hidden: its version stays.
    async fn delete(&self, bucket: &Bucket, keys: &[String]) -> Result<(), ObjectsError>;

    /// The bucket's default lock for new objects; `None` if it has none.
    async fn locking(&self, bucket: &Bucket) -> Result<Option<Locking>, ObjectsError>;

    /// Locks an object at least until this time, in a bucket with Object Lock. Does nothing if the object doesn't
    /// exist. An object that is already locked keeps its mode, which may come from an earlier setting of the bucket.
    async fn lock(&self, bucket: &Bucket, key: &str, mode: LockMode, until: Time) -> Result<(), ObjectsError>;
}

/// The objects below a prefix, a thousand of them at a time.
pub fn object_pages<'a>(
    objects: &'a dyn Objects,
    bucket: &'a Bucket,
    prefix: &'a str,
) -> impl Stream<Item = Result<Vec<ObjectMeta>, ObjectsError>> + 'a {
    pages(1_000, move |page| async move { objects.list(bucket, prefix, page.after.as_deref()).await })
}

/// The objects below a prefix, of which a thousand are in memory at a time.
pub fn objects<'a>(
    objects: &'a dyn Objects,
    bucket: &'a Bucket,
    prefix: &'a str,
) -> impl Stream<Item = Result<ObjectMeta, ObjectsError>> + 'a {
    items(1_000, move |page| async move { objects.list(bucket, prefix, page.after.as_deref()).await })
}
