//! Due work is listed until it is handled.

use chrono::TimeDelta;
use milvault_model::{Backup, BackupState, DueKind, Previous, RestoreState, Snapshot, Time};
use milvault_ports::{DueItem, Expect, LeasePurpose, Write};

use super::fixture::{CatalogFixture, MINUTE, NOON, release_claimed_job};
use crate::conformance::{Case, case::cases, samples};

/// The cases.
pub(super) const CASES: &[Case<CatalogFixture>] = cases![
    an_expiry_is_due_from_its_time_until_it_is_handled,
    each_kind_of_due_work_is_listed_separately,
    a_job_is_due_when_no_worker_runs_it,
    due_work_is_listed_longest_due_first_in_pages,
];

async fn an_expiry_is_due_from_its_time_until_it_is_handled(on: &CatalogFixture) {
    let mut backup = on.backup(&on.instance());
    backup.state = BackupState::Available(samples::snapshot(NOON));
    backup.expires_at = Some(NOON);
    on.commit([Write::Backup(Box::new(backup.clone()), Expect::Absent)]).await;
    let (instance, item) = (backup.instance_id.clone(), DueItem::Backup(backup.instance_id.clone(), backup.id.clone()));
    let expect = async |now: Time, expected: &[DueItem]| {
        on.expect_due(DueKind::Expiry, now, &instance, expected).await;
    };
    expect(NOON, std::slice::from_ref(&item)).await;
    expect(NOON + TimeDelta::days(3650), std::slice::from_ref(&item)).await;
    expect(NOON - TimeDelta::milliseconds(1), &[]).await;

    backup.expires_at = Some(NOON + MINUTE);
    on.commit([Write::Backup(Box::new(backup.clone()), Expect::Version(1))]).await;
    expect(NOON, &[]).await;
    expect(NOON + MINUTE, std::slice::from_ref(&item)).await;

    // The backup is kept past its expiry.
    backup.kept_until = Some(NOON + MINUTE * 2);
    on.commit([Write::Backup(Box::new(backup.clone()), Expect::Version(2))]).await;
    expect(NOON + MINUTE, &[]).await;
    expect(NOON + MINUTE * 2, &[item]).await;
    assert_eq!(on.catalog.backup(&instance, &backup.id).await.unwrap().unwrap().value, backup);

    backup.expires_at = None;
    on.commit([Write::Backup(Box::new(backup), Expect::Version(3))]).await;
    expect(NOON + MINUTE * 2, &[]).await;
}

async fn each_kind_of_due_work_is_listed_separately(on: &CatalogFixture) {
    let instance = on.instance();
    let mut expiring = on.backup(&instance);
    expiring.state = BackupState::Available(samples::snapshot(NOON));
    expiring.expires_at = Some(NOON);
    let mut deleting = on.backup(&instance);
    deleting.state = BackupState::Deleting { snapshot: samples::snapshot(NOON), since: NOON, after: None };
    let mut verified = on.backup(&instance);
    verified.verification = None;
    let long_ago = NOON - TimeDelta::days(7);
    verified.state = BackupState::Available(Snapshot { completed_at: long_ago, ..samples::snapshot(long_ago) });
    let mut restore = samples::restore(&instance, &on.restore_id(), &expiring.id, NOON);
    let automatic = samples::auto_backups(&instance, &expiring.id, NOON - MINUTE * 5).remove(0);
    let notice = samples::notice(&expiring, NOON).unwrap();
    let previous = Previous::Kept { until: NOON };
    restore.state = RestoreState::Completed { started_at: NOON, completed_at: NOON, previous, leftovers_since: None };
    on.commit([
        Write::Backup(Box::new(expiring.clone()), Expect::Absent),
        Write::Backup(Box::new(deleting.clone()), Expect::Absent),
        Write::Backup(Box::new(verified.clone()), Expect::Absent),
        Write::Restore(Box::new(restore.clone()), Expect::Absent),
        Write::ClaimJob(on.job(&instance), NOON),
        Write::AutoBackup(Box::new(automatic), Expect::Absent),
        Write::Notice(Box::new(notice.clone())),
    ])
    .await;
    for kind in DueKind::ALL {
        let expected = match kind {
            DueKind::Job => DueItem::Job(instance.clone()),
            DueKind::Expiry => DueItem::Backup(instance.clone(), expiring.id.clone()),
            DueKind::Deletion => DueItem::Backup(instance.clone(), deleting.id.clone()),
            DueKind::Verification => DueItem::Backup(instance.clone(), verified.id.clone()),
            DueKind::RestoreLeftovers => DueItem::Restore(instance.clone(), restore.id.clone()),
            DueKind::AutoBackup => DueItem::AutoBackup(instance.clone()),
            DueKind::Notice => DueItem::Notice(instance.clone(), notice.id.clone()),
        };
        on.expect_due(kind, NOON, &instance, &[expected]).await;
    }
    expiring.state = BackupState::Pending;
    deleting.state = BackupState::Deleted { snapshot: samples::snapshot(NOON), deleted_at: NOON };
    verified.state = BackupState::Pending;
    restore.state = RestoreState::Pending;
    on.commit([
        Write::Backup(Box::new(expiring), Expect::Version(1)),
        Write::Backup(Box::new(verified), Expect::Version(1)),
        Write::Backup(Box::new(deleting), Expect::Version(1)),
        Write::Restore(Box::new(restore), Expect::Version(1)),
        Write::RemoveAutoBackup(instance.clone(), 1),
        Write::RemoveNotice(instance.clone(), notice.id),
    ])
    .await;
    release_claimed_job(on, &instance).await;
    for kind in DueKind::ALL {
        on.expect_due(kind, NOON, &instance, &[]).await;
    }
}

async fn a_job_is_due_when_no_worker_runs_it(on: &CatalogFixture) {
    let instance = on.instance();
    let (job, item) = (on.job(&instance), DueItem::Job(instance.clone()));
    let due = async |from: Time| {
        on.expect_due(DueKind::Job, from, &instance, std::slice::from_ref(&item)).await;
        on.expect_due(DueKind::Job, from - TimeDelta::milliseconds(1), &instance, &[]).await;
    };
    // An accepted job is due from the given time on.
    on.commit([Write::ClaimJob(job.clone(), NOON)]).await;
    due(NOON).await;
    // A running job is due when its lease ends.
    let lease = on.acquire(&instance, &LeasePurpose::Job(job.clone()), NOON).await.unwrap();
    due(NOON + MINUTE).await;
    assert!(on.catalog.renew(&lease, NOON + MINUTE * 3).await.unwrap());
    due(NOON + MINUTE * 3).await;
    // A job that was handed over is due from the given time on.
    on.catalog.release(&lease, NOON + MINUTE * 2).await.unwrap();
    due(NOON + MINUTE * 2).await;
    let lease = on.acquire(&instance, &LeasePurpose::Job(job.clone()), NOON + MINUTE * 2).await.unwrap();
    on.commit([Write::ReleaseJob(lease)]).await;
    on.expect_due(DueKind::Job, NOON + TimeDelta::days(1), &instance, &[]).await;

    // A garbage lease isn't a job and is never due.
    let lease = on.acquire(&instance, &LeasePurpose::Garbage, NOON).await.unwrap();
    assert!(on.catalog.renew(&lease, NOON + MINUTE).await.unwrap());
    on.expect_due(DueKind::Job, NOON + TimeDelta::days(1), &instance, &[]).await;
    // A job claimed meanwhile is due when that lease ends at the latest.
    on.commit([Write::ClaimJob(job, NOON)]).await;
    due(NOON).await;
    assert!(on.catalog.renew(&lease, NOON + MINUTE * 2).await.unwrap());
    on.expect_due(DueKind::Job, NOON + MINUTE * 2, &instance, std::slice::from_ref(&item)).await;
    on.catalog.release(&lease, NOON + MINUTE * 5).await.unwrap();
    due(NOON + MINUTE * 5).await;
    release_claimed_job(on, &instance).await;
    on.expect_due(DueKind::Job, NOON + TimeDelta::days(2), &instance, &[]).await;
}

async fn due_work_is_listed_longest_due_first_in_pages(on: &CatalogFixture) {
    let instance = on.instance();
    let mut backups = Vec::new();
    // Some are due at the same time, so that a page may end between them.
    for minute in [4, 0, 2, 2, 2, 1, 3] {
        let mut backup = on.backup(&instance);
        backup.state =
            BackupState::Deleting { snapshot: samples::snapshot(NOON), since: NOON + MINUTE * minute, after: None };
        on.commit([Write::Backup(Box::new(backup.clone()), Expect::Absent)]).await;
        backups.push((minute, backup));
    }
    let now = NOON + MINUTE * 3;
    let mut expected: Vec<&(i32, Backup)> = backups.iter().filter(|(minute, _)| *minute <= 3).collect();
    expected.sort_by_key(|(minute, backup)| (*minute, backup.id.clone()));
    let expected: Vec<DueItem> =
        expected.iter().map(|(_, backup)| DueItem::Backup(instance.clone(), backup.id.clone())).collect();
    on.expect_due(DueKind::Deletion, now, &instance, &expected).await;
    for limit in 1..=3 {
        let found = on.due_in_pages(DueKind::Deletion, now, &instance, limit).await;
        assert_eq!(found.into_iter().map(|entry| entry.item).collect::<Vec<_>>(), expected, "in pages of {limit}");
    }
    for (_, mut backup) in backups {
        backup.state = BackupState::Deleted { snapshot: samples::snapshot(NOON), deleted_at: NOON };
        on.commit([Write::Backup(Box::new(backup), Expect::Version(1))]).await;
    }
    on.expect_due(DueKind::Deletion, now, &instance, &[]).await;
}
