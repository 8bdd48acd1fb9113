//! The deployment's settings.

use std::{collections::BTreeMap, fmt};

use chrono::TimeDelta;
use milvault_model::{AllowedEndpoints, Prices, Region};
use milvault_ports::Bucket;

use crate::Error;

/// The deployment's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where snapshots are kept.
    pub snapshots: SnapshotBuckets,
    /// Which servers may be registered and connected to.
    pub endpoints: AllowedEndpoints,
    /// What cursors are signed with.
    pub cursor_key: CursorKey,
    /// What storage costs, for the records of usage.
    pub prices: Prices,
    /// Who is billed, as files of usage name it: the ARN of the AWS account.
    pub billing_account: String,
    /// How long a worker's lease lasts without being renewed: after a crash, the sweep drives the job on from then.
    pub lease: TimeDelta,
    /// How long a job may go without getting any further before it is failed.
    pub stall: TimeDelta,
    /// How long a started import may go without getting any further before its collection is built again.
    pub import_stall: TimeDelta,
    /// How many segments a restore has Milvus import at once at most. The import jobs of 2.3 expire after 15 minutes, their
    /// wait for the ones before them included.
    pub imports_in_flight: usize,
    /// How many objects are in a page of a backup's plan and manifest at most.
    pub objects_per_page: usize,
    /// How many server-side copies an invocation has in flight at most.
    pub copies_in_flight: usize,
}

/// What cursors are signed with, so that callers can't make any up. Nothing else depends on its being secret.
#[derive(Clone, PartialEq, Eq)]
pub struct CursorKey(String);

impl CursorKey {
    /// The key of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CursorKey")
    }
}

/// The buckets with snapshots, one in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotBuckets {
    /// The deployment's own.
    home: Bucket,
    /// Those in other regions.
    elsewhere: BTreeMap<Region, Bucket>,
}

impl SnapshotBuckets {
    /// The deployment's own bucket, and others; of two in one region, the first counts.
    pub fn new(home: Bucket, others: impl IntoIterator<Item = Bucket>) -> Self {
        let mut elsewhere = BTreeMap::new();
        for bucket in others {
            if bucket.region != home.region {
                elsewhere.entry(bucket.region.clone()).or_insert(bucket);
            }
        }
        Self { home, elsewhere }
    }

    /// Where an instance in this region is backed up to: there, or else where the deployment is.
    pub fn for_instance_in(&self, region: &Region) -> &Bucket {
        self.elsewhere.get(region).unwrap_or(&self.home)
    }

    /// The one in this region.
    ///
    /// # Errors
    /// [`Error::NoSnapshotBucket`]; a backup may be in a region of which the deployment isn't told any more.
    pub fn in_region(&self, region: &Region) -> Result<&Bucket, Error> {
        self.iter().find(|bucket| bucket.region == *region).ok_or_else(|| Error::NoSnapshotBucket(region.clone()))
    }

    /// The deployment's own.
    pub fn home(&self) -> &Bucket {
        &self.home
    }

    /// The deployment's own, then the others by region.
    pub fn iter(&self) -> impl Iterator<Item = &Bucket> {
        [&self.home].into_iter().chain(self.elsewhere.values())
    }
}
