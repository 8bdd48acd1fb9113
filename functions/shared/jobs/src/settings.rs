//! The deployment's settings.

use std::{collections::BTreeMap, fmt};

use chrono::TimeDelta;
use milvault_model::{AllowedEndpoints, Prices, Region};
use milvault_ports::Bucket;

use crate::Error;

/// The deployment's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The buckets that snapshots are stored in.
    pub snapshots: SnapshotBuckets,
    /// The servers that may be registered and connected to.
    pub endpoints: AllowedEndpoints,
    /// The key that cursors are signed with.
    pub cursor_key: CursorKey,
    /// The prices of storage, for the usage records.
    pub prices: Prices,
    /// The billed account as the usage files name it: the ARN of the AWS account.
    pub billing_account: String,
    /// How long a worker's lease lasts without renewal. If the worker crashes, the sweep resumes the job after that.
    pub lease: TimeDelta,
    /// How long a job may make no progress before it fails.
    pub stall: TimeDelta,
    /// How long a started import may make no progress before its collection is built again.
    pub import_stall: TimeDelta,
    /// The maximum number of segments that a restore has Milvus import at the same time. The import jobs of 2.3 expire
    /// after 15 minutes, including their wait for the jobs before them.
    pub imports_in_flight: usize,
    /// The maximum number of objects in a page of a backup's plan and manifest.
    pub objects_per_page: usize,
    /// The maximum number of server-side copies that an invocation has in flight.
    pub copies_in_flight: usize,
}

/// The key that cursors are signed with, so that callers can't forge them. Nothing else depends on its secrecy.
#[derive(Clone, PartialEq, Eq)]
pub struct CursorKey(String);

impl CursorKey {
    /// Makes a key from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CursorKey")
    }
}

/// The buckets that snapshots are stored in, at most one per region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotBuckets {
    /// The bucket in the deployment's region.
    home: Bucket,
    /// The buckets in other regions.
    elsewhere: BTreeMap<Region, Bucket>,
}

impl SnapshotBuckets {
    /// Combines the deployment's own bucket with others. Of two buckets in one region, the first is used.
    pub fn new(home: Bucket, others: impl IntoIterator<Item = Bucket>) -> Self {
        let mut elsewhere = BTreeMap::new();
        for bucket in others {
            if bucket.region != home.region {
                elsewhere.entry(bucket.region.clone()).or_insert(bucket);
            }
        }
        Self { home, elsewhere }
    }

    /// Returns the bucket for backups of an instance in this region: the one in that region, or else the deployment's
    /// own.
    pub fn for_instance_in(&self, region: &Region) -> &Bucket {
        self.elsewhere.get(region).unwrap_or(&self.home)
    }

    /// Returns the bucket in this region.
    ///
    /// # Errors
    /// [`Error::NoSnapshotBucket`]. A backup may be in a region whose bucket was removed from the deployment's
    /// settings.
    pub fn in_region(&self, region: &Region) -> Result<&Bucket, Error> {
        self.iter().find(|bucket| bucket.region == *region).ok_or_else(|| Error::NoSnapshotBucket(region.clone()))
    }

    /// Returns the deployment's own bucket.
    pub fn home(&self) -> &Bucket {
        &self.home
    }

    /// Iterates over the deployment's own bucket, then the others by region.
    pub fn iter(&self) -> impl Iterator<Item = &Bucket> {
        [&self.home].into_iter().chain(self.elsewhere.values())
    }
}
