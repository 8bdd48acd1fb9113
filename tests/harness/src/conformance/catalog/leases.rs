//! An instance has one job, and one worker at a time.

use chrono::TimeDelta;
use futures::future::join_all;
use milvault_model::JobRef;
use milvault_ports::{Expect, Lease, LeasePurpose, Write};

use super::fixture::{CatalogFixture, MINUTE, NOON, page, release_claimed_job};
use crate::conformance::{Case, case::cases, samples};

/// The cases.
pub(super) const CASES: &[Case<CatalogFixture>] = cases![
    an_instance_has_one_job_at_a_time,
    a_lease_is_taken_for_the_instances_job_or_for_garbage_without_one,
    a_lease_is_free_from_its_expiry_on,
    of_workers_at_the_same_time_one_gets_the_lease,
    an_old_fence_gives_no_access,
    an_expired_lease_stays_with_its_holder_until_another_worker_takes_it,
    a_released_lease_keeps_the_job_and_loses_its_holder,
    releasing_the_job_gives_up_the_lease,
    a_job_claimed_while_garbage_is_removed_waits_for_the_lease,
    the_fence_outlives_the_instance,
    renewals_and_commits_under_one_lease_do_not_conflict,
];

async fn an_instance_has_one_job_at_a_time(on: &CatalogFixture) {
    let (here, elsewhere) = (on.instance(), on.instance());
    let backup = on.job(&here);
    let restore = JobRef::Restore { instance_id: here.clone(), restore_id: on.restore_id() };
    for job in [&backup, &restore, &backup] {
        on.commit([Write::ClaimJob(job.clone(), NOON)]).await;
        assert_eq!(on.catalog.job(&here).await.unwrap().as_ref(), Some(job));
        for other in [&backup, &restore] {
            assert_eq!(on.conflict([Write::ClaimJob(other.clone(), NOON)]).await, 0);
        }
        release_claimed_job(on, &here).await;
        assert_eq!(on.catalog.job(&here).await.unwrap(), None);
    }
    on.commit([Write::ClaimJob(on.job(&elsewhere), NOON)]).await;
    assert_eq!(on.catalog.job(&here).await.unwrap(), None);
    release_claimed_job(on, &elsewhere).await;
}

async fn a_lease_is_taken_for_the_instances_job_or_for_garbage_without_one(on: &CatalogFixture) {
    let instance = on.instance();
    let (job, other) = (on.job(&instance), on.job(&instance));
    let garbage = on.acquire(&instance, &LeasePurpose::Garbage, NOON).await.expect("there is no job");
    assert_eq!(on.acquire(&instance, &LeasePurpose::Garbage, NOON).await, None, "it is held");
    on.catalog.release(&garbage, NOON).await.unwrap();
    assert_eq!(on.acquire(&instance, &LeasePurpose::Job(job.clone()), NOON).await, None, "it isn't the job yet");
    on.commit([Write::ClaimJob(job.clone(), NOON)]).await;
    assert_eq!(on.acquire(&instance, &LeasePurpose::Garbage, NOON).await, None, "there is a job");
    assert_eq!(on.acquire(&instance, &LeasePurpose::Job(other), NOON).await, None, "it isn't the job");
    let held = on.acquire(&instance, &LeasePurpose::Job(job.clone()), NOON).await.expect("it is the job");
    assert_eq!(held.instance_id, instance);
    assert!(held.fence > garbage.fence);
    assert_eq!(on.acquire(&instance, &LeasePurpose::Job(job), NOON).await, None, "it is held");
    on.commit([Write::HoldLease(held.clone()), Write::Backup(Box::new(on.backup(&instance)), Expect::Absent)]).await;
    on.commit([Write::ReleaseJob(held)]).await;
}

async fn a_lease_is_free_from_its_expiry_on(on: &CatalogFixture) {
    let instance = on.instance();
    let (job, first) = on.job_and_lease(&instance).await;
    let purpose = LeasePurpose::Job(job);
    let expiry = NOON + MINUTE;
    assert_eq!(on.acquire(&instance, &purpose, expiry - TimeDelta::milliseconds(1)).await, None);
    let second = on.acquire(&instance, &purpose, expiry).await.expect("it expires at this time");
    assert!(second.fence > first.fence);
    assert_eq!(on.catalog.held_until(&first).await.unwrap(), None, "it is another's");
    assert!(on.catalog.renew(&second, expiry + MINUTE * 10).await.unwrap());
    assert_eq!(on.catalog.held_until(&second).await.unwrap(), Some(expiry + MINUTE * 10));
    assert_eq!(on.acquire(&instance, &purpose, expiry + MINUTE * 9).await, None, "it was renewed");
    let third = on.acquire(&instance, &purpose, expiry + MINUTE * 10).await.expect("it expires at this time");
    assert!(third.fence > second.fence);
    on.commit([Write::ReleaseJob(third)]).await;
}

async fn of_workers_at_the_same_time_one_gets_the_lease(on: &CatalogFixture) {
    let instance = on.instance();
    let job = on.job(&instance);
    on.commit([Write::ClaimJob(job.clone(), NOON)]).await;
    let purpose = LeasePurpose::Job(job);
    let leases: Vec<Lease> =
        join_all((0..8).map(|_| on.acquire(&instance, &purpose, NOON))).await.into_iter().flatten().collect();
    assert_eq!(leases.len(), 1, "{leases:?}");
    on.commit([Write::ReleaseJob(leases[0].clone())]).await;
}

async fn an_old_fence_gives_no_access(on: &CatalogFixture) {
    let instance = on.instance();
    let (job, old) = on.job_and_lease(&instance).await;
    let later = NOON + MINUTE;
    let new = on.acquire(&instance, &LeasePurpose::Job(job.clone()), later).await.expect("the old one expired");
    let backup = on.backup(&instance);
    let put = Write::Backup(Box::new(backup.clone()), Expect::Absent);
    assert_eq!(on.conflict([put.clone(), Write::HoldLease(old.clone())]).await, 1);
    assert_eq!(on.conflict([Write::ReleaseJob(old.clone()), put.clone()]).await, 0);
    assert_eq!(on.catalog.backup(&instance, &backup.id).await.unwrap(), None);
    assert!(!on.catalog.renew(&old, later + MINUTE * 10).await.unwrap());
    on.catalog.release(&old, later).await.unwrap();
    assert_eq!(on.catalog.job(&instance).await.unwrap(), Some(job.clone()));
    assert_eq!(on.acquire(&instance, &LeasePurpose::Job(job), later).await, None, "the new one is held as before");
    on.commit([Write::HoldLease(new.clone()), put]).await;
    on.commit([Write::ReleaseJob(new)]).await;
}

async fn an_expired_lease_stays_with_its_holder_until_another_worker_takes_it(on: &CatalogFixture) {
    let instance = on.instance();
    let (job, lease) = on.job_and_lease(&instance).await;
    // A commit doesn't look at the time: between expiry and the next worker, only the fence decides.
    on.commit([Write::HoldLease(lease.clone())]).await;
    let late = NOON + MINUTE * 5;
    assert!(on.catalog.renew(&lease, late + MINUTE).await.unwrap());
    assert_eq!(on.acquire(&instance, &LeasePurpose::Job(job), late).await, None);
    on.commit([Write::ReleaseJob(lease)]).await;
}

async fn a_released_lease_keeps_the_job_and_loses_its_holder(on: &CatalogFixture) {
    let instance = on.instance();
    let (job, lease) = on.job_and_lease(&instance).await;
    on.catalog.release(&lease, NOON).await.unwrap();
    on.catalog.release(&lease, NOON).await.unwrap();
    assert_eq!(on.catalog.job(&instance).await.unwrap(), Some(job.clone()));
    assert_eq!(on.conflict([Write::HoldLease(lease.clone())]).await, 0);
    assert_eq!(on.conflict([Write::ReleaseJob(lease.clone())]).await, 0);
    assert!(!on.catalog.renew(&lease, NOON + MINUTE).await.unwrap());
    let next = on.acquire(&instance, &LeasePurpose::Job(job), NOON).await.expect("it is free at once");
    assert!(next.fence > lease.fence);
    on.commit([Write::ReleaseJob(next)]).await;
}

async fn releasing_the_job_gives_up_the_lease(on: &CatalogFixture) {
    let instance = on.instance();
    let (job, lease) = on.job_and_lease(&instance).await;
    on.commit([Write::ReleaseJob(lease.clone())]).await;
    assert_eq!(on.catalog.job(&instance).await.unwrap(), None);
    assert_eq!(on.conflict([Write::HoldLease(lease.clone())]).await, 0);
    assert_eq!(on.conflict([Write::ReleaseJob(lease.clone())]).await, 0);
    assert!(!on.catalog.renew(&lease, NOON + MINUTE).await.unwrap());
    assert_eq!(on.acquire(&instance, &LeasePurpose::Job(job), NOON).await, None);
    let garbage = on.acquire(&instance, &LeasePurpose::Garbage, NOON).await.expect("it is free at once");
    assert!(garbage.fence > lease.fence);
    on.catalog.release(&garbage, NOON).await.unwrap();
}

async fn a_job_claimed_while_garbage_is_removed_waits_for_the_lease(on: &CatalogFixture) {
    let instance = on.instance();
    let garbage = on.acquire(&instance, &LeasePurpose::Garbage, NOON).await.unwrap();
    let job = on.job(&instance);
    on.commit([Write::ClaimJob(job.clone(), NOON)]).await;
    let purpose = LeasePurpose::Job(job.clone());
    assert_eq!(on.acquire(&instance, &purpose, NOON).await, None);
    on.commit([Write::HoldLease(garbage.clone())]).await;
    assert!(on.catalog.renew(&garbage, NOON + MINUTE * 2).await.unwrap());
    assert_eq!(on.acquire(&instance, &purpose, NOON + MINUTE).await, None);
    on.catalog.release(&garbage, NOON).await.unwrap();
    assert_eq!(on.catalog.job(&instance).await.unwrap(), Some(job));
    assert_eq!(on.acquire(&instance, &LeasePurpose::Garbage, NOON).await, None);
    let lease = on.acquire(&instance, &purpose, NOON).await.expect("it is free at once");
    on.commit([Write::ReleaseJob(lease)]).await;
}

async fn the_fence_outlives_the_instance(on: &CatalogFixture) {
    let instance = samples::instance(&on.instance(), NOON);
    let put = [Write::Instance(Box::new(instance.clone()), Expect::Absent)];
    on.commit(put.clone()).await;
    let old = on.acquire(&instance.id, &LeasePurpose::Garbage, NOON).await.unwrap();
    on.commit([Write::RemoveInstance(instance.id.clone(), 1)]).await;
    on.commit(put).await;
    let new = on.acquire(&instance.id, &LeasePurpose::Garbage, NOON + MINUTE).await.expect("the old one expired");
    assert!(new.fence > old.fence);
    assert_eq!(on.conflict([Write::HoldLease(old)]).await, 0);
    on.catalog.release(&new, NOON).await.unwrap();
    on.commit([Write::RemoveInstance(instance.id, 1)]).await;
}

async fn renewals_and_commits_under_one_lease_do_not_conflict(on: &CatalogFixture) {
    let (instance, restore) = (on.instance(), on.restore_id());
    let (_, lease) = on.job_and_lease(&instance).await;
    let committing = join_all((0..4_u32).map(async |task| {
        for round in 0..5 {
            let line = samples::ledger_line(task * 5 + round);
            let writes = [Write::HoldLease(lease.clone()), Write::LedgerLine(restore.clone(), Box::new(line))];
            on.catalog.commit(writes.into()).await.unwrap();
        }
    }));
    let renewing = async {
        for round in 1..10 {
            assert!(on.catalog.renew(&lease, NOON + MINUTE * round).await.unwrap());
        }
    };
    futures::join!(committing, renewing);
    assert_eq!(on.catalog.ledger(&restore, page(None, 100)).await.unwrap().items.len(), 20);
    on.commit([Write::ReleaseJob(lease)]).await;
}
