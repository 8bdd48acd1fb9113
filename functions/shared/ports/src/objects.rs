//! Object storage: server-side copies, listings and small documents.

use std::ops::Range;

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_model::{Region, Time};

/// A bucket and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// Its region.
    pub region: Region,
    /// Its name.
    pub name: String,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The whole key.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
}

/// A page of a listing, by key in byte order.
#[derive(Debug, Clone)]
pub struct Listing {
    /// At most 1,000.
    pub objects: Vec<ObjectMeta>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

/// A server-side copy: no byte of it passes through us.
#[derive(Debug, Clone)]
pub struct CopyRequest<'a> {
    /// The source's bucket.
    pub from: &'a Bucket,
    /// The source's key.
    pub from_key: &'a str,
    /// The source must have this ETag.
    pub from_etag: &'a str,
    /// The source's size in bytes, which decides how it is copied.
    pub size: u64,
    /// The destination's bucket.
    pub to: &'a Bucket,
    /// The destination's key.
    pub to_key: &'a str,
    /// Remembered with the copy: for whom it was made.
    pub stored_by: &'a str,
}

/// How a copy ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyOutcome {
    /// Stored anew, with this ETag.
    Copied {
        /// Of the destination.
        etag: String,
    },
    /// The same copy was there already, with this ETag.
    AlreadyThere {
        /// Of the destination.
        etag: String,
        /// For whom it was made, if that was remembered.
        stored_by: Option<String>,
    },
    /// The source is gone or is another object than planned.
    SourceGone,
    /// Another object is at the destination.
    Occupied,
}

/// Whether a put may replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Only where nothing is.
    IfAbsent,
    /// Whatever is there.
    Replace,
}

/// How a put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// Stored.
    Stored,
    /// Something was there, and [`PutMode::IfAbsent`] was asked for.
    Occupied,
}

/// How a bucket keeps new objects from being removed before their time (Amazon S3's Object Lock, default retention).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locking {
    /// From whom.
    pub mode: LockMode,
    /// For how long.
    pub period: TimeDelta,
}

/// From whom locked objects are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// From all who haven't the permission to bypass it.
    Governance,
    /// From everyone.
    Compliance,
}

/// Why object storage didn't do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectsError {
    /// The bucket doesn't exist, or may not be used this way.
    #[error("bucket {bucket}: {reason}")]
    Bucket {
        /// Which.
        bucket: String,
        /// Why.
        reason: String,
    },
    /// It didn't answer, or not usefully, after retries; the call may have taken effect.
    #[error("object storage failed: {0}")]
    Unavailable(String),
}

/// Object storage in any region.
#[async_trait]
pub trait Objects: Send + Sync {
    /// The objects below a prefix, after a key.
    async fn list(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<Listing, ObjectsError>;

    /// Copies an object. Repeating a copy that took effect is [`CopyOutcome::AlreadyThere`].
    async fn copy(&self, request: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError>;

    /// Stores a small document.
    async fn put(&self, bucket: &Bucket, key: &str, body: Vec<u8>, mode: PutMode) -> Result<PutOutcome, ObjectsError>;

    /// Reads a small document; `None` if there is none.
    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, ObjectsError>;

    /// Reads a part of an object; less than that where the object ends before, and `None` if there is no object.
    async fn get_range(&self, bucket: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectsError>;

    /// Removes objects; those that don't exist count as removed. What is locked is only hidden: its version stays.
    async fn delete(&self, bucket: &Bucket, keys: &[String]) -> Result<(), ObjectsError>;

    /// How the bucket locks new objects; `None` if it doesn't.
    async fn locking(&self, bucket: &Bucket) -> Result<Option<Locking>, ObjectsError>;

    /// Locks an object, in a bucket that locks, until then at least; one that isn't there is passed over. One that is
    /// locked already keeps its mode, which the bucket may have had before.
    async fn lock(&self, bucket: &Bucket, key: &str, mode: LockMode, until: Time) -> Result<(), ObjectsError>;
}
