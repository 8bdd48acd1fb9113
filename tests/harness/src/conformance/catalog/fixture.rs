//! The catalog that the promises are tried on, and what the cases share.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta};
use milvault_model::{Backup, BackupId, BackupName, DueKind, InstanceId, JobRef, Region, RestoreId, Time};
use milvault_ports::{
    Catalog, CatalogError, DueEntry, DueItem, IdSource, Idempotency, Lease, LeasePurpose, Page, PageRequest, Write,
};

use crate::{SeededIds, conformance::samples};

/// A catalog to try the promises on. It may hold other records than the run's.
pub struct CatalogFixture {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) ids: SeededIds,
}

/// Every case plays in the year 2100, so that the sweep of a deployed catalog would never find anything due.
pub(super) const NOON: Time = DateTime::from_timestamp_nanos(4_102_488_000_000_000_000);
pub(super) const MINUTE: TimeDelta = TimeDelta::minutes(1);

impl CatalogFixture {
    /// Each run on one catalog needs its own seed, from which the ids of its records are made.
    pub fn new(catalog: Arc<dyn Catalog>, seed: u64) -> Self {
        Self { catalog, ids: SeededIds::new(seed) }
    }

    pub(super) fn instance(&self) -> InstanceId {
        format!("conformance-{}", self.ids.ulid(NOON)).parse().unwrap()
    }

    pub(super) fn backup_id(&self) -> BackupId {
        BackupId::new(self.ids.ulid(NOON))
    }

    /// A region that no other run uses.
    pub(super) fn region(&self) -> Region {
        format!("of-{}-1", self.ids.ulid(NOON).to_string().to_lowercase()).parse().unwrap()
    }

    pub(super) fn restore_id(&self) -> RestoreId {
        RestoreId::new(self.ids.ulid(NOON))
    }

    pub(super) fn backup(&self, instance: &InstanceId) -> Backup {
        samples::backup(instance, &self.backup_id(), &name("nightly"), NOON)
    }

    pub(super) fn job(&self, instance: &InstanceId) -> JobRef {
        JobRef::Backup { instance_id: instance.clone(), backup_id: self.backup_id() }
    }

    pub(super) async fn commit(&self, writes: impl Into<Vec<Write>>) {
        self.catalog.commit(writes.into()).await.unwrap();
    }

    /// Commits, expects a conflict and returns its position.
    pub(super) async fn conflict(&self, writes: impl Into<Vec<Write>>) -> usize {
        match self.catalog.commit(writes.into()).await {
            Err(CatalogError::Conflict(at)) => at,
            other => panic!("a conflict was expected, not {other:?}"),
        }
    }

    pub(super) async fn acquire(&self, instance: &InstanceId, purpose: &LeasePurpose, now: Time) -> Option<Lease> {
        self.catalog.acquire(instance, purpose, now, MINUTE).await.unwrap()
    }

    /// Gives the instance a job and takes its lease.
    pub(super) async fn job_and_lease(&self, instance: &InstanceId) -> (JobRef, Lease) {
        let job = self.job(instance);
        self.commit([Write::ClaimJob(job.clone(), NOON)]).await;
        let lease = self.acquire(instance, &LeasePurpose::Job(job.clone()), NOON).await;
        (job, lease.expect("the lease is free"))
    }

    /// The due entries of an instance, listed in pages of `limit`. The listing may hold entries of other instances.
    pub(super) async fn due_in_pages(
        &self,
        kind: DueKind,
        now: Time,
        instance: &InstanceId,
        limit: usize,
    ) -> Vec<DueEntry> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.catalog.due(kind, now, PageRequest { after: after.clone(), limit }).await.unwrap();
            assert!(page.items.len() <= limit);
            found.extend(page.items);
            if page.next.is_none() {
                break;
            }
            assert!(page.next != after, "a page that says that there is more gets further");
            after = page.next;
        }
        found.retain(|entry| instance_of(&entry.item) == instance);
        found
    }

    /// Waits until exactly these items of an instance are due: the listing may lag behind writes.
    pub(super) async fn expect_due(&self, kind: DueKind, now: Time, instance: &InstanceId, expected: &[DueItem]) {
        let mut found = Vec::new();
        for _ in 0..50 {
            found = self.due_in_pages(kind, now, instance, 100).await.into_iter().map(|entry| entry.item).collect();
            if found == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{kind:?} due by {now}: {found:?}, not {expected:?}");
    }
}

fn instance_of(item: &DueItem) -> &InstanceId {
    match item {
        DueItem::Job(instance)
        | DueItem::Backup(instance, _)
        | DueItem::Restore(instance, _)
        | DueItem::AutoBackup(instance)
        | DueItem::Notice(instance, _) => instance,
    }
}

pub(super) fn name(text: &str) -> BackupName {
    text.parse().unwrap()
}

pub(super) fn page(after: Option<&str>, limit: usize) -> PageRequest {
    PageRequest { after: after.map(str::to_owned), limit }
}

/// A whole listing from `after` on, read in pages of two.
pub(super) async fn all_pages<T, F, K>(after: Option<String>, list: F, key: K) -> Vec<T>
where
    F: AsyncFn(PageRequest) -> Result<Page<T>, CatalogError>,
    K: Fn(&T) -> String,
{
    let mut found: Vec<T> = Vec::new();
    let mut after = after;
    loop {
        let page = list(PageRequest { after: after.clone(), limit: 2 }).await.unwrap();
        assert!(page.items.len() <= 2);
        let (first, last) = (page.items.first().map(&key), page.items.last().map(&key));
        found.extend(page.items);
        if page.next.is_none() {
            return found;
        }
        assert!(last.is_some() && first != after && last != after, "a page that says that there is more gets further");
        assert_eq!(page.next, last, "a listing goes on after its last item");
        after = page.next;
    }
}

pub(super) fn idempotency(scope: &str, key: &str, resource: &str) -> Idempotency {
    Idempotency {
        scope: scope.to_owned(),
        key: key.to_owned(),
        request_hash: "4f53cda1".to_owned(),
        resource: resource.to_owned(),
        // DynamoDB expires records by the second.
        expires_at: NOON,
    }
}

/// Releases the instance's job, so that nothing stays due.
pub(super) async fn release_claimed_job(on: &CatalogFixture, instance: &InstanceId) {
    let job = on.catalog.job(instance).await.unwrap().expect("there is a job");
    let lease = on.acquire(instance, &LeasePurpose::Job(job), NOON + TimeDelta::days(1)).await.expect("it is free");
    on.commit([Write::ReleaseJob(lease)]).await;
}
