//! Accounts and usage.

use milvault_model::{Account, Hour, UsageExport, UsageRecord};
use milvault_ports::{Expect, Versioned, Write};

use super::fixture::{CatalogFixture, NOON, all_pages, page};
use crate::conformance::{Case, case::cases, samples};

/// The cases.
pub(super) const CASES: &[Case<CatalogFixture>] = cases![
    accounts_come_back_as_they_were_written_at_their_version,
    usage_is_written_once_and_listed_by_hour_and_instance_in_pages,
    the_progress_of_an_export_comes_back_at_its_version,
];

async fn accounts_come_back_as_they_were_written_at_their_version(on: &CatalogFixture) {
    let (region, instance) = (on.region(), on.instance());
    let mut accounts: Vec<Account> = (0..3).map(|_| samples::account(&region, &on.backup(&instance))).collect();
    accounts.sort_by(|one, other| one.backup_id.cmp(&other.backup_id));
    let put = |account: &Account, expect| Write::Account(Box::new(account.clone()), expect);
    assert_eq!(on.catalog.account(&region, &instance, &accounts[0].backup_id).await.unwrap(), None);
    for account in &accounts {
        on.commit([put(account, Expect::Absent)]).await;
        assert_eq!(on.conflict([put(account, Expect::Absent)]).await, 0);
    }
    let list = async |page| on.catalog.accounts(&region, page).await;
    let key = |found: &Versioned<Account>| format!("{}#{}", found.value.instance_id, found.value.backup_id);
    let listed = all_pages(None, list, key).await;
    assert_eq!(
        listed.iter().map(|found| (&found.value, found.version)).collect::<Vec<_>>(),
        [(&accounts[0], 1), (&accounts[1], 1), (&accounts[2], 1),]
    );
    assert_eq!(on.catalog.account(&region, &instance, &accounts[1].backup_id).await.unwrap(), Some(listed[1].clone()));

    let mut changed = accounts[1].clone();
    changed.lose(changed.open_hour().next(), 1).unwrap();
    on.commit([put(&changed, Expect::Version(1))]).await;
    assert_eq!(on.conflict([put(&changed, Expect::Version(1))]).await, 0);
    let found = on.catalog.account(&region, &instance, &changed.backup_id).await.unwrap().unwrap();
    assert_eq!((&found.value, found.version), (&changed, 2));

    assert_eq!(on.conflict([Write::RemoveAccount(Box::new(changed.clone()), 1)]).await, 0);
    for (account, version) in accounts.into_iter().zip([1, 2, 1]) {
        on.commit([Write::RemoveAccount(Box::new(account), version)]).await;
    }
    assert!(on.catalog.accounts(&region, page(None, 10)).await.unwrap().items.is_empty());
}

async fn usage_is_written_once_and_listed_by_hour_and_instance_in_pages(on: &CatalogFixture) {
    let region = on.region();
    let mut instances = [on.instance(), on.instance()];
    instances.sort();
    // The last hour of a year and the first of the next one.
    let last = Hour::containing("2100-12-31T23:59:59Z".parse().unwrap());
    let mut records = Vec::new();
    for hour in [last, last.next()] {
        for instance in &instances {
            let mut backups = [on.backup(instance), on.backup(instance)];
            backups.sort_by(|one, other| one.id.cmp(&other.id));
            for backup in &backups {
                records.extend(samples::usage(&region, backup, hour));
            }
        }
    }
    for record in &records {
        let put = Write::Usage(Box::new(record.clone()));
        on.commit([put.clone()]).await;
        let again = UsageRecord { byte_hours: 1, ..record.clone() };
        assert_eq!(on.conflict([Write::Usage(Box::new(again))]).await, 0, "what is metered doesn't change");
    }
    for hour in [last, last.next()] {
        for instance in [None, Some(&instances[0]), Some(&instances[1])] {
            let is_listed = |record: &&UsageRecord| {
                record.hour == hour && instance.is_none_or(|instance| record.instance_id == *instance)
            };
            let expected: Vec<&UsageRecord> = records.iter().filter(is_listed).collect();
            let list = async |page| on.catalog.usage(&region, hour, instance, page).await;
            let found = all_pages(None, list, UsageRecord::place).await;
            assert_eq!(found.iter().collect::<Vec<_>>(), expected);
            // Listings also begin after any other place in the hour, even that of another instance.
            for after in records.iter().filter(|record| record.hour == hour).map(UsageRecord::place) {
                let rest: Vec<_> = expected.iter().copied().filter(|record| record.place() > after).collect();
                let found = all_pages(Some(after), list, UsageRecord::place).await;
                assert_eq!(found.iter().collect::<Vec<_>>(), rest);
            }
        }
    }
    let nothing = on.catalog.usage(&region, last.next().next(), None, page(None, 10)).await.unwrap();
    assert!(nothing.items.is_empty() && nothing.next.is_none());
}

async fn the_progress_of_an_export_comes_back_at_its_version(on: &CatalogFixture) {
    let region = on.region();
    assert_eq!(on.catalog.usage_export(&region).await.unwrap(), None);
    let next = NOON.date_naive();
    let export = UsageExport { region: region.clone(), next };
    let put = |next, expect| Write::UsageExport(Box::new(UsageExport { next, ..export.clone() }), expect);
    on.commit([put(next, Expect::Absent)]).await;
    assert_eq!(on.conflict([put(next, Expect::Absent)]).await, 0);
    let later = next.succ_opt().unwrap();
    on.commit([put(later, Expect::Version(1))]).await;
    assert_eq!(on.conflict([put(later, Expect::Version(1))]).await, 0);
    let found = on.catalog.usage_export(&region).await.unwrap().unwrap();
    assert_eq!((found.value.next, found.version), (later, 2));
}
