//! A commit is made as a whole or not at all.

use futures::future::join_all;
use milvault_model::{Backup, BackupId, InstanceId};
use milvault_ports::{CatalogError, Expect, Lease, LeasePurpose, Write};

use super::fixture::{CatalogFixture, NOON, idempotency, name, page};
use crate::conformance::{Case, case::cases, samples};

/// The cases.
pub(super) const CASES: &[Case<CatalogFixture>] = cases![
    a_commit_is_all_or_nothing_and_names_the_first_conflict,
    an_empty_commit_succeeds,
    the_largest_commit_has_a_hundred_items,
    two_writes_to_one_record_are_refused,
    of_commits_at_the_same_time_at_one_version_one_is_made,
    a_name_belongs_to_one_backup_until_it_is_released,
    releasing_a_name_never_fails_a_commit,
];

async fn a_commit_is_all_or_nothing_and_names_the_first_conflict(on: &CatalogFixture) {
    let (here, other) = (on.instance(), on.instance());
    let (backup, job) = (on.backup(&here), on.job(&here));
    let restore = samples::restore(&here, &on.restore_id(), &backup.id, NOON);
    let record = idempotency("conformance", backup.id.as_str(), "made");
    let none_held = Lease { instance_id: other.clone(), fence: 1 };
    // An instance is several items in some catalogs: positions count writes.
    let writes = || {
        vec![
            Write::Instance(Box::new(samples::instance(&here, NOON)), Expect::Absent),
            Write::Backup(Box::new(backup.clone()), Expect::Absent),
            Write::ClaimName(here.clone(), backup.name.clone(), backup.id.clone()),
            Write::ClaimJob(job.clone(), NOON),
            Write::LedgerLine(restore.id.clone(), Box::new(samples::ledger_line(0))),
            Write::Restore(Box::new(restore.clone()), Expect::Absent),
            Write::Idempotency(record.clone()),
        ]
    };
    let bad = [
        Write::RemoveInstance(other.clone(), 1),
        Write::Instance(Box::new(samples::instance(&other, NOON)), Expect::Version(1)),
        Write::HoldLease(none_held.clone()),
        Write::ReleaseJob(none_held.clone()),
    ];
    for at in 0..=writes().len() {
        for write in &bad {
            let mut writes = writes();
            writes.insert(at, write.clone());
            // A later second conflict isn't the one to name.
            writes.push(Write::Backup(Box::new(on.backup(&here)), Expect::Version(7)));
            assert_eq!(on.conflict(writes).await, at, "{write:?}");
        }
    }
    assert_eq!(on.catalog.instance(&here).await.unwrap(), None);
    assert_eq!(on.catalog.backup(&here, &backup.id).await.unwrap(), None);
    assert_eq!(on.catalog.backup_named(&here, &backup.name).await.unwrap(), None);
    assert_eq!(on.catalog.job(&here).await.unwrap(), None);
    assert!(on.catalog.ledger(&restore.id, page(None, 1)).await.unwrap().items.is_empty());
    assert_eq!(on.catalog.restore(&here, &restore.id).await.unwrap(), None);
    assert_eq!(on.catalog.idempotency(&record.scope, &record.key).await.unwrap(), None);
    let listed = on.catalog.instances(page(None, 1000)).await.unwrap();
    assert!(listed.items.iter().all(|instance| instance.id != here && instance.id != other));

    on.commit(writes()).await;
    assert_eq!(on.catalog.job(&here).await.unwrap(), Some(job.clone()));
    assert_eq!(on.catalog.backup_named(&here, &backup.name).await.unwrap(), Some(backup.id.clone()));
    assert_eq!(on.conflict(writes()).await, 0);
    let lease = on.acquire(&here, &LeasePurpose::Job(job), NOON).await.unwrap();
    on.commit([Write::ReleaseJob(lease), Write::RemoveInstance(here, 1)]).await;
}

async fn an_empty_commit_succeeds(on: &CatalogFixture) {
    on.commit([]).await;
}

async fn the_largest_commit_has_a_hundred_items(on: &CatalogFixture) {
    let restore = on.restore_id();
    let lines = |count: u32| -> Vec<Write> {
        (0..count).map(|number| Write::LedgerLine(restore.clone(), Box::new(samples::ledger_line(number)))).collect()
    };
    let refused = on.catalog.commit(lines(101)).await;
    assert!(matches!(refused, Err(CatalogError::Unavailable(_))), "{refused:?}");
    assert!(on.catalog.ledger(&restore, page(None, 1)).await.unwrap().items.is_empty());
    on.commit(lines(100)).await;
    assert_eq!(on.catalog.ledger(&restore, page(None, 200)).await.unwrap().items.len(), 100);
}

async fn two_writes_to_one_record_are_refused(on: &CatalogFixture) {
    let backup = on.backup(&on.instance());
    let put = |backup: &Backup| Write::Backup(Box::new(backup.clone()), Expect::Absent);
    let refused = on.catalog.commit(vec![put(&backup), put(&backup)]).await;
    assert!(matches!(refused, Err(CatalogError::Unavailable(_))), "{refused:?}");
    assert_eq!(on.catalog.backup(&backup.instance_id, &backup.id).await.unwrap(), None);
}

async fn of_commits_at_the_same_time_at_one_version_one_is_made(on: &CatalogFixture) {
    let backup = on.backup(&on.instance());
    on.commit([Write::Backup(Box::new(backup.clone()), Expect::Absent)]).await;
    let commits = (0..8).map(|number| {
        let changed = Backup { engine_version: number.to_string(), ..backup.clone() };
        on.catalog.commit(vec![Write::Backup(Box::new(changed), Expect::Version(1))])
    });
    let outcomes = join_all(commits).await;
    let made: Vec<usize> = (0..8).filter(|&commit| outcomes[commit].is_ok()).collect();
    assert_eq!(made.len(), 1, "{outcomes:?}");
    let others = outcomes.iter().filter(|outcome| matches!(outcome, Err(CatalogError::Conflict(0))));
    assert_eq!(others.count(), 7, "{outcomes:?}");
    let found = on.catalog.backup(&backup.instance_id, &backup.id).await.unwrap().unwrap();
    assert_eq!((found.version, found.value.engine_version), (2, made[0].to_string()));
}

async fn a_name_belongs_to_one_backup_until_it_is_released(on: &CatalogFixture) {
    let (here, elsewhere) = (on.instance(), on.instance());
    let (first, second) = (on.backup_id(), on.backup_id());
    let longest = "🛒".repeat(128);
    for text in ["nightly", "Nightly", "vor der Umstellung", "a#b", "注文/2026", longest.as_str()] {
        let name = name(text);
        let claim = |instance: &InstanceId, id: &BackupId| Write::ClaimName(instance.clone(), name.clone(), id.clone());
        let release = |id: &BackupId| [Write::ReleaseName(here.clone(), name.clone(), id.clone())];
        on.commit([claim(&here, &first)]).await;
        assert_eq!(on.conflict([claim(&here, &second)]).await, 0);
        assert_eq!(on.conflict([claim(&here, &first)]).await, 0);
        on.commit([claim(&elsewhere, &second)]).await;
        assert_eq!(on.catalog.backup_named(&here, &name).await.unwrap(), Some(first.clone()));
        assert_eq!(on.catalog.backup_named(&elsewhere, &name).await.unwrap(), Some(second.clone()));
        on.commit(release(&first)).await;
        assert_eq!(on.catalog.backup_named(&here, &name).await.unwrap(), None);
        on.commit([claim(&here, &second)]).await;
        assert_eq!(on.catalog.backup_named(&here, &name).await.unwrap(), Some(second.clone()));
    }
}

async fn releasing_a_name_never_fails_a_commit(on: &CatalogFixture) {
    let instance = on.instance();
    let (owner, other) = (on.backup_id(), on.backup_id());
    let name = name("nightly");
    let release = |id: &BackupId| Write::ReleaseName(instance.clone(), name.clone(), id.clone());
    on.commit([release(&owner)]).await;
    on.commit([Write::ClaimName(instance.clone(), name.clone(), owner.clone())]).await;
    on.commit([release(&other)]).await;
    let backup = on.backup(&instance);
    on.commit([release(&other), Write::Backup(Box::new(backup.clone()), Expect::Absent)]).await;
    assert_eq!(on.catalog.backup_named(&instance, &name).await.unwrap(), Some(owner.clone()));
    assert!(on.catalog.backup(&instance, &backup.id).await.unwrap().is_some(), "the rest is written");
    let again = [release(&other), Write::Backup(Box::new(backup), Expect::Absent)];
    assert_eq!(on.conflict(again).await, 1, "it isn't the conflict either");
    on.commit([release(&owner)]).await;
    on.commit([release(&owner)]).await;
    assert_eq!(on.catalog.backup_named(&instance, &name).await.unwrap(), None);
}
