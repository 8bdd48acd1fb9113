//! Listings are complete and in order, page by page.

use milvault_model::{BackupId, DueKind, InstanceId, Notice, RestoreId};
use milvault_ports::{Expect, IdSource, Write};

use super::fixture::{CatalogFixture, MINUTE, NOON, all_pages, name, page, release_claimed_job};
use crate::conformance::{Case, case::cases, samples};

/// The cases.
pub(super) const CASES: &[Case<CatalogFixture>] = cases![
    instances_are_listed_by_id_in_pages,
    backups_are_listed_newest_first_in_pages,
    restores_are_listed_newest_first_in_pages,
    a_ledger_is_listed_by_number_in_pages,
    notices_are_listed_until_they_are_delivered,
];

async fn instances_are_listed_by_id_in_pages(on: &CatalogFixture) {
    let group = on.instance();
    // In the order of bytes: digits, capitals, the underscore, small letters.
    let mine: Vec<InstanceId> = ["0", "A", "B", "_", "a"].map(|end| format!("{group}-{end}").parse().unwrap()).into();
    for id in mine.iter().rev() {
        on.commit([Write::Instance(Box::new(samples::instance(id, NOON)), Expect::Absent)]).await;
    }
    let list = async |page| on.catalog.instances(page).await;
    let listed = async |after: Option<String>| -> Vec<InstanceId> {
        let instances = all_pages(after, list, |instance| instance.id.to_string()).await;
        assert!(instances.is_sorted_by_key(|instance| instance.id.clone()));
        instances.into_iter().map(|instance| instance.id).filter(|id| mine.contains(id)).collect()
    };
    assert_eq!(listed(None).await, mine);
    assert_eq!(listed(Some(mine[1].to_string())).await, mine[2..]);
    assert_eq!(listed(Some(format!("{group}-AB"))).await, mine[2..], "no instance needs to have the key");
    let changed = milvault_model::Instance { name: "changed".to_owned(), ..samples::instance(&mine[0], NOON) };
    on.commit([Write::Instance(Box::new(changed.clone()), Expect::Version(1))]).await;
    let all = all_pages(None, list, |instance| instance.id.to_string()).await;
    assert!(all.contains(&changed), "the list shows a change");
    on.commit([Write::RemoveInstance(mine[0].clone(), 2)]).await;
    for id in &mine[1..] {
        on.commit([Write::RemoveInstance(id.clone(), 1)]).await;
    }
    assert_eq!(listed(None).await, []);
}

async fn backups_are_listed_newest_first_in_pages(on: &CatalogFixture) {
    let (here, elsewhere) = (on.instance(), on.instance());
    let mut ids = Vec::new();
    for minute in 0..5 {
        let at = NOON + MINUTE * minute;
        let id = BackupId::new(on.ids.ulid(at));
        let backup = samples::backup(&here, &id, &name("nightly"), at);
        on.commit([Write::Backup(Box::new(backup), Expect::Absent)]).await;
        // Other records of the instance's partition aren't listed.
        on.commit([Write::ClaimName(here.clone(), name(&format!("night {minute}")), id.clone())]).await;
        ids.insert(0, id);
    }
    let restore = samples::restore(&here, &on.restore_id(), &ids[0], NOON);
    on.commit([
        Write::Restore(Box::new(restore), Expect::Absent),
        Write::Backup(Box::new(on.backup(&elsewhere)), Expect::Absent),
        Write::ClaimJob(on.job(&elsewhere), NOON),
    ])
    .await;
    let list = async |page| on.catalog.backups(&here, page).await;
    let listed = async |after: Option<String>| -> Vec<BackupId> {
        let backups = all_pages(after, list, |found| found.value.id.to_string()).await;
        assert!(backups.iter().all(|found| found.version == 1 && found.value.instance_id == here));
        backups.into_iter().map(|found| found.value.id).collect()
    };
    assert_eq!(listed(None).await, ids);
    for at in 0..ids.len() {
        assert_eq!(listed(Some(ids[at].to_string())).await, ids[at + 1..]);
    }
    let between = BackupId::new(ulid::Ulid::from_parts((NOON + MINUTE * 2).timestamp_millis() as u64 - 1, 0));
    assert_eq!(listed(Some(between.to_string())).await, ids[3..], "no backup needs to have the key");
    release_claimed_job(on, &elsewhere).await;
}

async fn restores_are_listed_newest_first_in_pages(on: &CatalogFixture) {
    let (here, backup) = (on.instance(), on.backup_id());
    let mut ids = Vec::new();
    for minute in 0..5 {
        let at = NOON + MINUTE * minute;
        let id = RestoreId::new(on.ids.ulid(at));
        let restore = samples::restore(&here, &id, &backup, at);
        on.commit([Write::Restore(Box::new(restore), Expect::Absent)]).await;
        ids.insert(0, id);
    }
    on.commit([Write::Backup(Box::new(on.backup(&here)), Expect::Absent)]).await;
    let list = async |page| on.catalog.restores(&here, page).await;
    let listed = async |after: Option<String>| -> Vec<RestoreId> {
        let restores = all_pages(after, list, |restore| restore.id.to_string()).await;
        restores.into_iter().map(|restore| restore.id).collect()
    };
    assert_eq!(listed(None).await, ids);
    for at in 0..ids.len() {
        assert_eq!(listed(Some(ids[at].to_string())).await, ids[at + 1..]);
    }
}

async fn a_ledger_is_listed_by_number_in_pages(on: &CatalogFixture) {
    let (restore, other) = (on.restore_id(), on.restore_id());
    let numbers = [0, 1, 2, 9, 10, 99, 100, 1_000_000_000, u32::MAX];
    for number in numbers.into_iter().rev() {
        on.commit([Write::LedgerLine(restore.clone(), Box::new(samples::ledger_line(number)))]).await;
    }
    on.commit([Write::LedgerLine(other.clone(), Box::new(samples::ledger_line(5)))]).await;
    let list = async |page| on.catalog.ledger(&restore, page).await;
    let listed = async |after: Option<String>| -> Vec<u32> {
        let lines = all_pages(after, list, |line| format!("{:010}", line.number)).await;
        lines.into_iter().map(|line| line.number).collect()
    };
    assert_eq!(listed(None).await, numbers);
    assert_eq!(listed(Some("0000000009".to_owned())).await, numbers[4..]);
    assert_eq!(listed(Some("0000000050".to_owned())).await, numbers[5..]);
}

async fn notices_are_listed_until_they_are_delivered(on: &CatalogFixture) {
    let (instance, other) = (on.instance(), on.instance());
    let mut notices: Vec<Notice> = (0..3).filter_map(|_| samples::notice(&on.backup(&instance), NOON)).collect();
    notices.sort_by(|one, another| one.id.cmp(&another.id));
    let elsewhere = samples::notice(&on.backup(&other), NOON).unwrap();
    for notice in notices.iter().chain([&elsewhere, &notices[0]]) {
        on.commit([Write::Notice(Box::new(notice.clone()))]).await;
    }
    let listed = on.catalog.notices(&instance, page(None, 2)).await.unwrap();
    assert!(listed.next.is_some() && listed.items == notices[..2]);
    let rest = on.catalog.notices(&instance, page(Some(&notices[1].id), 2)).await.unwrap();
    assert!(rest.next.is_none() && rest.items == notices[2..]);
    on.commit([Write::RemoveNotice(instance.clone(), notices[0].id.clone()), Write::RemoveNotice(other, elsewhere.id)])
        .await;
    on.commit([Write::RemoveNotice(instance.clone(), notices[0].id.clone())]).await;
    assert_eq!(on.catalog.notices(&instance, page(None, 100)).await.unwrap().items, notices[1..]);
    let told = notices[1..].iter().map(|notice| Write::RemoveNotice(instance.clone(), notice.id.clone())).collect();
    on.catalog.commit(told).await.unwrap();
    on.expect_due(DueKind::Notice, NOON, &instance, &[]).await;
}
