//! The promises of [`Catalog`].

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta};
use futures::future::join_all;
use milvault_memory::SeededIds;
use milvault_model::{
    Account, Backup, BackupId, BackupName, BackupState, DueKind, Hour, InstanceId, JobRef, Notice, Previous, Region,
    RestoreId, RestoreState, Snapshot, Time, UsageExport, UsageRecord,
};
use milvault_ports::{
    Catalog, CatalogError, DueEntry, DueItem, Expect, IdSource, Idempotency, Lease, LeasePurpose, Page, PageRequest,
    Versioned, Write,
};

use super::{Case, case::cases, samples};

/// A catalog to try the promises on. It may hold other records than the run's.
pub struct CatalogFixture {
    catalog: Arc<dyn Catalog>,
    ids: SeededIds,
}

/// Every promise.
pub const CASES: &[Case<CatalogFixture>] = cases![
    what_does_not_exist_is_not_found,
    an_instance_comes_back_as_it_was_written,
    a_backup_comes_back_as_it_was_written_in_every_state,
    a_restore_comes_back_as_it_was_written_in_every_state,
    a_ledger_line_comes_back_as_it_was_written_in_every_stage,
    a_record_is_made_once_and_changed_at_its_version_only,
    a_commit_is_all_or_nothing_and_names_the_first_conflict,
    a_commit_of_nothing_is_made,
    the_largest_commit_has_a_hundred_items,
    two_writes_to_one_record_are_refused,
    of_commits_at_the_same_time_at_one_version_one_is_made,
    an_instance_is_removed_at_its_version_only,
    instances_are_listed_by_id_in_pages,
    a_name_is_one_backups_until_that_one_releases_it,
    releasing_a_name_never_fails_a_commit,
    backups_are_listed_newest_first_in_pages,
    restores_are_listed_newest_first_in_pages,
    a_ledger_is_listed_by_number_in_pages,
    a_request_is_remembered_once_under_its_key,
    automatic_backups_come_back_as_they_were_written_at_their_version,
    what_is_to_be_told_is_listed_until_it_was_told,
    accounts_come_back_as_they_were_written_at_their_version,
    usage_is_written_once_and_listed_by_hour_and_instance_in_pages,
    how_far_usage_is_written_out_comes_back_at_its_version,
    an_instance_has_one_job_at_a_time,
    a_lease_is_taken_for_the_instances_job_or_for_garbage_without_one,
    a_lease_is_free_from_its_expiry_on,
    of_workers_at_the_same_time_one_gets_the_lease,
    an_old_fence_opens_nothing,
    an_expired_lease_is_ours_until_someone_takes_it,
    a_released_lease_keeps_the_job_and_is_no_longer_ours,
    releasing_the_job_gives_up_the_lease,
    a_job_claimed_while_garbage_is_removed_waits_for_the_lease,
    the_fence_outlives_the_instance,
    renewing_and_committing_under_one_lease_do_not_get_in_each_others_way,
    an_expiry_is_due_from_its_time_on_until_it_is_dealt_with,
    every_kind_of_due_is_listed_apart,
    a_job_is_due_when_no_worker_drives_it,
    what_is_due_is_listed_longest_due_first_in_pages,
];

/// All of the cases play in the year 2100: were this catalog a deployed one, its sweep would never see anything due.
const NOON: Time = DateTime::from_timestamp_nanos(4_102_488_000_000_000_000);
const MINUTE: TimeDelta = TimeDelta::minutes(1);

impl CatalogFixture {
    /// Every run on one catalog needs a seed of its own, which its records' ids are made of.
    pub fn new(catalog: Arc<dyn Catalog>, seed: u64) -> Self {
        Self { catalog, ids: SeededIds::new(seed) }
    }

    fn instance(&self) -> InstanceId {
        format!("conformance-{}", self.ids.ulid(NOON)).parse().unwrap()
    }

    fn backup_id(&self) -> BackupId {
        BackupId::new(self.ids.ulid(NOON))
    }

    /// One that no other run knows.
    fn region(&self) -> Region {
        format!("of-{}-1", self.ids.ulid(NOON).to_string().to_lowercase()).parse().unwrap()
    }

    fn restore_id(&self) -> RestoreId {
        RestoreId::new(self.ids.ulid(NOON))
    }

    fn backup(&self, instance: &InstanceId) -> Backup {
        samples::backup(instance, &self.backup_id(), &name("nightly"), NOON)
    }

    fn job(&self, instance: &InstanceId) -> JobRef {
        JobRef::Backup { instance_id: instance.clone(), backup_id: self.backup_id() }
    }

    async fn commit(&self, writes: impl Into<Vec<Write>>) {
        self.catalog.commit(writes.into()).await.unwrap();
    }

    /// Commits, expects a conflict, and gives its place.
    async fn conflict(&self, writes: impl Into<Vec<Write>>) -> usize {
        match self.catalog.commit(writes.into()).await {
            Err(CatalogError::Conflict(at)) => at,
            other => panic!("a conflict was expected, not {other:?}"),
        }
    }

    async fn acquire(&self, instance: &InstanceId, purpose: &LeasePurpose, now: Time) -> Option<Lease> {
        self.catalog.acquire(instance, purpose, now, MINUTE).await.unwrap()
    }

    /// Gives the instance a job and takes its lease.
    async fn job_and_lease(&self, instance: &InstanceId) -> (JobRef, Lease) {
        let job = self.job(instance);
        self.commit([Write::ClaimJob(job.clone(), NOON)]).await;
        let lease = self.acquire(instance, &LeasePurpose::Job(job.clone()), NOON).await;
        (job, lease.expect("the lease is free"))
    }

    /// What of an instance is due, with the cursors, in pages of `limit`. The listing may hold others' entries.
    async fn due_in_pages(&self, kind: DueKind, now: Time, instance: &InstanceId, limit: usize) -> Vec<DueEntry> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.catalog.due(kind, now, PageRequest { after: after.clone(), limit }).await.unwrap();
            assert!(page.items.len() <= limit);
            let last = page.items.last().map(|entry| entry.cursor.clone());
            found.extend(page.items);
            if !page.more {
                break;
            }
            assert!(last.is_some() && last != after, "a page that says that there is more gets further");
            after = last;
        }
        found.retain(|entry| instance_of(&entry.item) == instance);
        found
    }

    /// Waits until just this of an instance is due: the listing may miss what was written a moment ago.
    async fn expect_due(&self, kind: DueKind, now: Time, instance: &InstanceId, expected: &[DueItem]) {
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

fn name(text: &str) -> BackupName {
    text.parse().unwrap()
}

fn page(after: Option<&str>, limit: usize) -> PageRequest {
    PageRequest { after: after.map(str::to_owned), limit }
}

/// A listing from `after` on, put together from pages of two.
async fn all_pages<T, F, K>(after: Option<String>, list: F, key: K) -> Vec<T>
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
        if !page.more {
            return found;
        }
        assert!(last.is_some() && first != after && last != after, "a page that says that there is more gets further");
        after = last;
    }
}

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
        assert!(backups.items.is_empty() && !backups.more);
    }
    let restores = on.catalog.restores(&instance, page(None, 10)).await.unwrap();
    assert!(restores.items.is_empty() && !restores.more);
    let ledger = on.catalog.ledger(&restore, page(None, 10)).await.unwrap();
    assert!(ledger.items.is_empty() && !ledger.more);
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
        // Twice, because a line is put whatever is there.
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

async fn a_commit_is_all_or_nothing_and_names_the_first_conflict(on: &CatalogFixture) {
    let (here, other) = (on.instance(), on.instance());
    let (backup, job) = (on.backup(&here), on.job(&here));
    let restore = samples::restore(&here, &on.restore_id(), &backup.id, NOON);
    let record = idempotency("conformance", backup.id.as_str(), "made");
    let none_held = Lease { instance_id: other.clone(), fence: 1 };
    // An instance is more than one item in some catalogs: places count writes.
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
            // A second conflict after it is not the one to name.
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

async fn a_commit_of_nothing_is_made(on: &CatalogFixture) {
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

async fn a_name_is_one_backups_until_that_one_releases_it(on: &CatalogFixture) {
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

async fn backups_are_listed_newest_first_in_pages(on: &CatalogFixture) {
    let (here, elsewhere) = (on.instance(), on.instance());
    let mut ids = Vec::new();
    for minute in 0..5 {
        let at = NOON + MINUTE * minute;
        let id = BackupId::new(on.ids.ulid(at));
        let backup = samples::backup(&here, &id, &name("nightly"), at);
        on.commit([Write::Backup(Box::new(backup), Expect::Absent)]).await;
        // What else is in the instance's partition stays out.
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

fn idempotency(scope: &str, key: &str, resource: &str) -> Idempotency {
    Idempotency {
        scope: scope.to_owned(),
        key: key.to_owned(),
        request_hash: "4f53cda1".to_owned(),
        resource: resource.to_owned(),
        // DynamoDB forgets by the second.
        expires_at: NOON,
    }
}

async fn a_request_is_remembered_once_under_its_key(on: &CatalogFixture) {
    let unique = on.backup_id();
    // Pairs that a careless spelling of scope and key together would take for one.
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

/// Leaves nothing due behind.
async fn release_claimed_job(on: &CatalogFixture, instance: &InstanceId) {
    let job = on.catalog.job(instance).await.unwrap().expect("there is a job");
    let lease = on.acquire(instance, &LeasePurpose::Job(job), NOON + TimeDelta::days(1)).await.expect("it is free");
    on.commit([Write::ReleaseJob(lease)]).await;
}

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

async fn an_old_fence_opens_nothing(on: &CatalogFixture) {
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

async fn an_expired_lease_is_ours_until_someone_takes_it(on: &CatalogFixture) {
    let instance = on.instance();
    let (job, lease) = on.job_and_lease(&instance).await;
    // The commit knows no time: between expiry and the next worker, the fence alone decides.
    on.commit([Write::HoldLease(lease.clone())]).await;
    let late = NOON + MINUTE * 5;
    assert!(on.catalog.renew(&lease, late + MINUTE).await.unwrap());
    assert_eq!(on.acquire(&instance, &LeasePurpose::Job(job), late).await, None);
    on.commit([Write::ReleaseJob(lease)]).await;
}

async fn a_released_lease_keeps_the_job_and_is_no_longer_ours(on: &CatalogFixture) {
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

async fn renewing_and_committing_under_one_lease_do_not_get_in_each_others_way(on: &CatalogFixture) {
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

async fn an_expiry_is_due_from_its_time_on_until_it_is_dealt_with(on: &CatalogFixture) {
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

    // Kept past its expiry.
    backup.kept_until = Some(NOON + MINUTE * 2);
    on.commit([Write::Backup(Box::new(backup.clone()), Expect::Version(2))]).await;
    expect(NOON + MINUTE, &[]).await;
    expect(NOON + MINUTE * 2, &[item]).await;
    assert_eq!(on.catalog.backup(&instance, &backup.id).await.unwrap().unwrap().value, backup);

    backup.expires_at = None;
    on.commit([Write::Backup(Box::new(backup), Expect::Version(3))]).await;
    expect(NOON + MINUTE * 2, &[]).await;
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
    let last = Hour::of("2100-12-31T23:59:59Z".parse().unwrap());
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
            // From every place in the hour on, also one of another instance.
            for after in records.iter().filter(|record| record.hour == hour).map(UsageRecord::place) {
                let rest: Vec<_> = expected.iter().copied().filter(|record| record.place() > after).collect();
                let found = all_pages(Some(after), list, UsageRecord::place).await;
                assert_eq!(found.iter().collect::<Vec<_>>(), rest);
            }
        }
    }
    let nothing = on.catalog.usage(&region, last.next().next(), None, page(None, 10)).await.unwrap();
    assert!(nothing.items.is_empty() && !nothing.more);
}

async fn how_far_usage_is_written_out_comes_back_at_its_version(on: &CatalogFixture) {
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

async fn what_is_to_be_told_is_listed_until_it_was_told(on: &CatalogFixture) {
    let (instance, other) = (on.instance(), on.instance());
    let mut notices: Vec<Notice> = (0..3).filter_map(|_| samples::notice(&on.backup(&instance), NOON)).collect();
    notices.sort_by(|one, another| one.id.cmp(&another.id));
    let elsewhere = samples::notice(&on.backup(&other), NOON).unwrap();
    for notice in notices.iter().chain([&elsewhere, &notices[0]]) {
        on.commit([Write::Notice(Box::new(notice.clone()))]).await;
    }
    let listed = on.catalog.notices(&instance, page(None, 2)).await.unwrap();
    assert!(listed.more && listed.items == notices[..2]);
    let rest = on.catalog.notices(&instance, page(Some(&notices[1].id), 2)).await.unwrap();
    assert!(!rest.more && rest.items == notices[2..]);
    on.commit([Write::Told(instance.clone(), notices[0].id.clone()), Write::Told(other, elsewhere.id)]).await;
    on.commit([Write::Told(instance.clone(), notices[0].id.clone())]).await;
    assert_eq!(on.catalog.notices(&instance, page(None, 100)).await.unwrap().items, notices[1..]);
    let told = notices[1..].iter().map(|notice| Write::Told(instance.clone(), notice.id.clone())).collect();
    on.catalog.commit(told).await.unwrap();
    on.expect_due(DueKind::Notice, NOON, &instance, &[]).await;
}

async fn every_kind_of_due_is_listed_apart(on: &CatalogFixture) {
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
        Write::Told(instance.clone(), notice.id),
    ])
    .await;
    release_claimed_job(on, &instance).await;
    for kind in DueKind::ALL {
        on.expect_due(kind, NOON, &instance, &[]).await;
    }
}

async fn a_job_is_due_when_no_worker_drives_it(on: &CatalogFixture) {
    let instance = on.instance();
    let (job, item) = (on.job(&instance), DueItem::Job(instance.clone()));
    let due = async |from: Time| {
        on.expect_due(DueKind::Job, from, &instance, std::slice::from_ref(&item)).await;
        on.expect_due(DueKind::Job, from - TimeDelta::milliseconds(1), &instance, &[]).await;
    };
    // Accepted: from the time that was given on.
    on.commit([Write::ClaimJob(job.clone(), NOON)]).await;
    due(NOON).await;
    // Driven: once the lease runs out.
    let lease = on.acquire(&instance, &LeasePurpose::Job(job.clone()), NOON).await.unwrap();
    due(NOON + MINUTE).await;
    assert!(on.catalog.renew(&lease, NOON + MINUTE * 3).await.unwrap());
    due(NOON + MINUTE * 3).await;
    // Handed over: from the time that was given on.
    on.catalog.release(&lease, NOON + MINUTE * 2).await.unwrap();
    due(NOON + MINUTE * 2).await;
    let lease = on.acquire(&instance, &LeasePurpose::Job(job.clone()), NOON + MINUTE * 2).await.unwrap();
    on.commit([Write::ReleaseJob(lease)]).await;
    on.expect_due(DueKind::Job, NOON + TimeDelta::days(1), &instance, &[]).await;

    // Removing garbage is no job: another sweep takes that up by itself.
    let lease = on.acquire(&instance, &LeasePurpose::Garbage, NOON).await.unwrap();
    assert!(on.catalog.renew(&lease, NOON + MINUTE).await.unwrap());
    on.expect_due(DueKind::Job, NOON + TimeDelta::days(1), &instance, &[]).await;
    // Unless a job comes meanwhile: it is due at the latest when the lease ends.
    on.commit([Write::ClaimJob(job, NOON)]).await;
    due(NOON).await;
    assert!(on.catalog.renew(&lease, NOON + MINUTE * 2).await.unwrap());
    on.expect_due(DueKind::Job, NOON + MINUTE * 2, &instance, std::slice::from_ref(&item)).await;
    on.catalog.release(&lease, NOON + MINUTE * 5).await.unwrap();
    due(NOON + MINUTE * 5).await;
    release_claimed_job(on, &instance).await;
    on.expect_due(DueKind::Job, NOON + TimeDelta::days(2), &instance, &[]).await;
}

async fn what_is_due_is_listed_longest_due_first_in_pages(on: &CatalogFixture) {
    let instance = on.instance();
    let mut backups = Vec::new();
    // Two at the same time, too: a page may end between them.
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
