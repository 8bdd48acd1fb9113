//! Records come back as they were written, and change at their version only.

use chrono::TimeDelta;
use milvault_model::{Backup, DueKind, RestoreState};
use milvault_ports::{DueItem, Expect, Idempotency, Lease, Write};

use super::fixture::{CatalogFixture, NOON, all_pages, idempotency, name, page};
use crate::conformance::{Case, case::cases, samples};

/// The cases.
pub(super) const CASES: &[Case<CatalogFixture>] = cases![
    what_does_not_exist_is_not_found,
    an_instance_comes_back_as_it_was_written,
    a_backup_comes_back_as_it_was_written_in_every_state,
    a_restore_comes_back_as_it_was_written_in_every_state,
    a_ledger_line_comes_back_as_it_was_written_in_every_stage,
    a_record_is_made_once_and_changed_at_its_version_only,
    an_instance_is_removed_at_its_version_only,
    an_idempotency_key_is_recorded_once,
    automatic_backups_come_back_as_they_were_written_at_their_version,
];

async fn what_does_not_exist_is_not_found(on: &CatalogFixture) {
    let (instance, backup, restore) = (on.instance(), on.backup_id(), on.restore_id());
    assert_eq!(on.catalog.instance(&instance).await.unwrap(), None);
    assert_eq!(on.catalog.job(&instance).await.unwrap(), None);
    assert_eq!(on.catalog.backup(&instance, &backup).await.unwrap(), None);
    assert_eq!(on.catalog.backup_named(&instance, &name("x")).await.unwrap(), None);
    assert_eq!(on.catalog.restore(&instance, &restore).await.unwrap(), None);
    assert_eq!(on.catalog.idempotency("scope", restore.as_str()).await.unwrap(), None);
    for after in [None, Some(backup.as_str())] {
        let backups = on.catalog.backups(&instance, page(after, 10)).await.unwrap();
        assert!(backups.items.is_empty() && backups.next.is_none());
    }
    let restores = on.catalog.restores(&instance, page(None, 10)).await.unwrap();
    assert!(restores.items.is_empty() && restores.next.is_none());
    let ledger = on.catalog.ledger(&restore, page(None, 10)).await.unwrap();
    assert!(ledger.items.is_empty() && ledger.next.is_none());
    let lease = Lease { instance_id: instance, fence: 1 };
    assert!(!on.catalog.renew(&lease, NOON).await.unwrap());
    on.catalog.release(&lease, NOON).await.unwrap();
    assert_eq!(on.conflict([Write::HoldLease(lease)]).await, 0);
}

async fn an_instance_comes_back_as_it_was_written(on: &CatalogFixture) {
    let instance = samples::instance(&on.instance(), NOON);
    on.commit([Write::Instance(Box::new(instance.clone()), Expect::Absent)]).await;
    let found = on.catalog.instance(&instance.id).await.unwrap().unwrap();
    assert_eq!((found.value, found.version), (instance.clone(), 1));
    on.commit([Write::RemoveInstance(instance.id, 1)]).await;
}

async fn a_backup_comes_back_as_it_was_written_in_every_state(on: &CatalogFixture) {
    let mut backup = on.backup(&on.instance());
    backup.pins = [on.restore_id(), on.restore_id()].into();
    backup.cancel_requested_at = Some(NOON + TimeDelta::milliseconds(1));
    let mut expect = Expect::Absent;
    for (version, state) in (1..).zip(samples::backup_states(NOON)) {
        backup.state = state;
        on.commit([Write::Backup(Box::new(backup.clone()), expect)]).await;
        let found = on.catalog.backup(&backup.instance_id, &backup.id).await.unwrap().unwrap();
        assert_eq!((&found.value, found.version), (&backup, version));
        let listed = on.catalog.backups(&backup.instance_id, page(None, 1)).await.unwrap();
        assert_eq!(listed.items, [found]);
        expect = Expect::Version(version);
    }
}

async fn a_restore_comes_back_as_it_was_written_in_every_state(on: &CatalogFixture) {
    let mut restore = samples::restore(&on.instance(), &on.restore_id(), &on.backup_id(), NOON);
    let mut expect = Expect::Absent;
    for (version, state) in (1..).zip(samples::restore_states(NOON)) {
        restore.state = state;
        on.commit([Write::Restore(Box::new(restore.clone()), expect)]).await;
        let found = on.catalog.restore(&restore.instance_id, &restore.id).await.unwrap().unwrap();
        assert_eq!((&found.value, found.version), (&restore, version));
        let listed = on.catalog.restores(&restore.instance_id, page(None, 1)).await.unwrap();
        assert_eq!(listed.items, [restore.clone()]);
        expect = Expect::Version(version);
    }
    restore.state = RestoreState::Pending;
    on.commit([Write::Restore(Box::new(restore), expect)]).await;
}

async fn a_ledger_line_comes_back_as_it_was_written_in_every_stage(on: &CatalogFixture) {
    let restore = on.restore_id();
    let mut line = samples::ledger_line(u32::MAX);
    for stage in samples::collection_stages() {
        line.stage = stage;
        // Every line is written twice, because a write replaces whatever is there.
        for _ in 0..2 {
            on.commit([Write::LedgerLine(restore.clone(), Box::new(line.clone()))]).await;
        }
        let ledger = on.catalog.ledger(&restore, page(None, 10)).await.unwrap();
        assert_eq!(ledger.items, [line.clone()]);
    }
}

async fn a_record_is_made_once_and_changed_at_its_version_only(on: &CatalogFixture) {
    let mut backup = on.backup(&on.instance());
    let put = |backup: &Backup, expect| [Write::Backup(Box::new(backup.clone()), expect)];
    assert_eq!(on.conflict(put(&backup, Expect::Version(1))).await, 0);
    on.commit(put(&backup, Expect::Absent)).await;
    assert_eq!(on.conflict(put(&backup, Expect::Absent)).await, 0, "a repeated commit conflicts with itself");
    backup.engine_version = "2.6.1".to_owned();
    for wrong in [0, 2, u64::MAX - 1] {
        assert_eq!(on.conflict(put(&backup, Expect::Version(wrong))).await, 0);
    }
    on.commit(put(&backup, Expect::Version(1))).await;
    assert_eq!(on.conflict(put(&backup, Expect::Version(1))).await, 0);
    let found = on.catalog.backup(&backup.instance_id, &backup.id).await.unwrap().unwrap();
    assert_eq!((found.value, found.version), (backup, 2));
}

async fn an_instance_is_removed_at_its_version_only(on: &CatalogFixture) {
    let instance = samples::instance(&on.instance(), NOON);
    let put = |expect| [Write::Instance(Box::new(instance.clone()), expect)];
    let is_listed = async || {
        let list = async |page| on.catalog.instances(page).await;
        let listed = all_pages(None, list, |instance| instance.id.to_string()).await;
        listed.iter().any(|listed| listed.id == instance.id)
    };
    assert_eq!(on.conflict([Write::RemoveInstance(instance.id.clone(), 1)]).await, 0);
    for _ in 0..2 {
        on.commit(put(Expect::Absent)).await;
        on.commit(put(Expect::Version(1))).await;
        assert!(is_listed().await);
        assert_eq!(on.conflict([Write::RemoveInstance(instance.id.clone(), 1)]).await, 0);
        assert!(is_listed().await);
        on.commit([Write::RemoveInstance(instance.id.clone(), 2)]).await;
        assert!(!is_listed().await);
        assert_eq!(on.catalog.instance(&instance.id).await.unwrap(), None);
    }
}

async fn an_idempotency_key_is_recorded_once(on: &CatalogFixture) {
    let unique = on.backup_id();
    // Pairs that a careless joining of scope and key would confuse.
    let pairs = [("a", "b#c"), ("a#b", "c"), ("a%23b", "c"), ("a", "b%23c"), ("a", "b"), ("b", "a")];
    let keys = pairs.map(|(scope, key)| (format!("{unique}/{scope}"), key.to_owned()));
    for (number, (scope, key)) in keys.iter().enumerate() {
        let record = idempotency(scope, key, &number.to_string());
        on.commit([Write::Idempotency(record.clone())]).await;
        let again = Idempotency { resource: "other".to_owned(), ..record };
        assert_eq!(on.conflict([Write::Idempotency(again)]).await, 0);
    }
    for (number, (scope, key)) in keys.iter().enumerate() {
        let found = on.catalog.idempotency(scope, key).await.unwrap();
        assert_eq!(found, Some(idempotency(scope, key, &number.to_string())));
    }
}

async fn automatic_backups_come_back_as_they_were_written_at_their_version(on: &CatalogFixture) {
    let instance = on.instance();
    assert_eq!(on.catalog.auto_backup(&instance).await.unwrap(), None);
    let mut version = 0;
    for record in samples::auto_backups(&instance, &on.backup_id(), NOON) {
        let expect = if version == 0 { Expect::Absent } else { Expect::Version(version) };
        let put = Write::AutoBackup(Box::new(record.clone()), expect);
        on.commit([put.clone()]).await;
        version += 1;
        let found = on.catalog.auto_backup(&instance).await.unwrap().unwrap();
        assert_eq!((&found.value, found.version), (&record, version));
        assert_eq!(on.conflict([put]).await, 0);
        let due: Vec<DueItem> = record.due().iter().map(|_| DueItem::AutoBackup(instance.clone())).collect();
        on.expect_due(DueKind::AutoBackup, NOON + TimeDelta::days(10), &instance, &due).await;
    }
    assert_eq!(on.conflict([Write::RemoveAutoBackup(instance.clone(), version - 1)]).await, 0);
    on.commit([Write::RemoveAutoBackup(instance.clone(), version)]).await;
    assert_eq!(on.catalog.auto_backup(&instance).await.unwrap(), None);
    on.expect_due(DueKind::AutoBackup, NOON + TimeDelta::days(10), &instance, &[]).await;
}
