//! Object storage that records failed requests: such a request may have taken effect, or may still take effect.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use milvault_model::Time;
use milvault_ports::{
    Bucket, Clock, CopyOutcome, CopyRequest, LockMode, Locking, ObjectMeta, Objects, ObjectsError, Page, PutMode,
    PutOutcome,
};

use crate::{Jobs, Ports};

/// Forwards every request, and records when a request that changes something last failed.
pub(crate) struct Watched {
    objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    failed_at: Mutex<Option<Time>>,
}

impl Watched {
    /// Returns `jobs` with watched object storage.
    pub(crate) fn wrap(jobs: &Jobs) -> (Jobs, Arc<Self>) {
        let (objects, clock) = (jobs.ports.objects.clone(), jobs.ports.clock.clone());
        let watched = Arc::new(Self { objects, clock, failed_at: Mutex::default() });
        let ports = Ports { objects: watched.clone(), ..jobs.ports.clone() };
        (Jobs { ports, settings: jobs.settings.clone() }, watched)
    }

    /// Returns when a request last failed. The time is in the future if another invocation's requests may fail until
    /// then.
    pub(crate) fn failed_at(&self) -> Option<Time> {
        *self.last()
    }

    /// Records the failure of a request that was made elsewhere.
    pub(crate) fn record_failure(&self, failed_at: Time) {
        let mut last = self.last();
        *last = (*last).max(Some(failed_at));
    }

    fn last(&self) -> MutexGuard<'_, Option<Time>> {
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch<T>(&self, result: Result<T, ObjectsError>) -> Result<T, ObjectsError> {
        if let Err(ObjectsError::Unavailable(_)) = result {
            self.record_failure(self.clock.now());
        }
        result
    }
}

#[async_trait]
impl Objects for Watched {
    async fn list(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<Page<ObjectMeta>, ObjectsError> {
        self.objects.list(bucket, prefix, after).await
    }

    async fn copy(&self, request: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError> {
        self.watch(self.objects.copy(request).await)
    }

    async fn put(&self, bucket: &Bucket, key: &str, body: Vec<u8>, mode: PutMode) -> Result<PutOutcome, ObjectsError> {
        self.watch(self.objects.put(bucket, key, body, mode).await)
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        self.objects.get(bucket, key).await
    }

    async fn get_range(&self, bucket: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectsError> {
        self.objects.get_range(bucket, key, range).await
    }

    async fn delete(&self, bucket: &Bucket, keys: &[String]) -> Result<(), ObjectsError> {
        self.watch(self.objects.delete(bucket, keys).await)
    }

    async fn locking(&self, bucket: &Bucket) -> Result<Option<Locking>, ObjectsError> {
        self.objects.locking(bucket).await
    }

    async fn lock(&self, bucket: &Bucket, key: &str, mode: LockMode, until: Time) -> Result<(), ObjectsError> {
        self.watch(self.objects.lock(bucket, key, mode, until).await)
    }
}
