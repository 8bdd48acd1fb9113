//! Ports with a defect that each breaks one guarantee, to prove that the simulation notices.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_harness::{MemoryCatalog, MemoryObjects, locked};
use milvault_model::{
    Account, AutoBackup, AutoRunState, Backup, BackupId, BackupName, BackupPhase, BackupState, CollectionRestore,
    CollectionStage, DueKind, Hour, Instance, InstanceId, JobRef, Notice, Region, Restore, RestoreId, Snapshot, Time,
    Totals, UsageExport, UsageRecord,
};
use milvault_ports::{
    Bucket, Catalog, CatalogError, CopyOutcome, CopyRequest, DueEntry, Expect, Idempotency, Lease, LeasePurpose,
    LockMode, Locking, ObjectMeta, Objects, ObjectsError, Page, PageRequest, PutMode, PutOutcome, Versioned, Write,
};

use crate::server::{Lie, ROOT};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The garbage rule: the oldest living backup is overlooked.
    OverlooksABackup,
    /// The fence: every request for a lease is granted, and a commit needs none.
    NeedsNoLease,
    /// The order of publishing: a backup is AVAILABLE once everything is planned.
    PublishesThePlan,
    /// The verification: copies that never happened are believed to exist.
    BelievesCopies,
    /// The accounts: objects that a deleted backup leaves have no owner.
    ForgetsHeirs,
    /// The meter: the account isn't updated together with an hour's record.
    MetersWithoutNoting,
    /// The ledger of a swap: renames aren't recorded before they are made.
    SwapsWithoutALedger,
    /// A run's identity: the run isn't recorded together with its backup.
    ForgetsRuns,
    /// Notices: none is recorded.
    TellsNobody,
    /// A failed import: it is repeated without rebuilding its collection.
    ImportsAgainIntoTheSame,
    /// Identity: whatever has a name is taken for the collection first listed with that name.
    TakesNamesForIds,
    /// A listing of the source's files: those of some segments are missing.
    LosesSegments,
    /// The segments after a flush: only those that a flush named.
    TrustsTheFlush,
    /// The survey: some collections are missing, and the user is said to see all.
    SurveysAPart,
    /// A collection is listed that can't be described.
    IsHaunted,
    /// Aliases: they are read from a collection's description.
    BelievesDescriptions,
    /// Fields: all are created at once and believed to have the wanted ids.
    CountsFields,
    /// Grants: none is made, and each is said to exist.
    GrantsNothing,
    /// Imports: they bring no rows, and the rows are said to exist.
    BelievesImports,
    /// Imports: they are said to be completed without a row.
    ImportsNothing,
}

impl Defect {
    /// The lie of a server or its adapter that the defect is.
    pub(crate) fn lie(self) -> Option<Lie> {
        match self {
            Self::TakesNamesForIds => Some(Lie::IdsByName),
            Self::TrustsTheFlush => Some(Lie::OnlyNamedSegments),
            Self::SurveysAPart => Some(Lie::PartForEverything),
            Self::LosesSegments => Some(Lie::LostFiles),
            Self::BelievesDescriptions => Some(Lie::DescribedAliases),
            Self::CountsFields => Some(Lie::FieldsByPlace),
            Self::GrantsNothing => Some(Lie::Grants),
            Self::BelievesImports => Some(Lie::Imports),
            Self::ImportsNothing => Some(Lie::NoImports),
            _ => None,
        }
    }

    /// Whether it shows only where a restore meets users' changes of names, fields and grants.
    pub(crate) fn is_of_restores(self) -> bool {
        matches!(self, Self::BelievesDescriptions | Self::CountsFields | Self::GrantsNothing)
    }

    /// Whether it is a defect of a catalog.
    fn is_of_the_catalog(self) -> bool {
        matches!(
            self,
            Self::OverlooksABackup
                | Self::NeedsNoLease
                | Self::PublishesThePlan
                | Self::ForgetsHeirs
                | Self::MetersWithoutNoting
                | Self::SwapsWithoutALedger
                | Self::ForgetsRuns
                | Self::TellsNobody
        )
    }
}

/// The catalog, with the defect if it is a defect of a catalog.
pub(crate) fn catalog(defect: Option<Defect>, sound: Arc<MemoryCatalog>) -> Arc<dyn Catalog> {
    match defect {
        Some(defect) if defect.is_of_the_catalog() => Arc::new(BrokenCatalog { sound, defect }),
        _ => sound,
    }
}

/// Object storage, with the defect if it is a defect of object storage.
pub(crate) fn objects(defect: Option<Defect>, sound: Arc<MemoryObjects>) -> Arc<dyn Objects> {
    match defect {
        Some(Defect::BelievesCopies) => {
            Arc::new(BrokenObjects { sound, defect: ObjectsDefect::BelievesCopies(Mutex::default()) })
        }
        Some(Defect::LosesSegments) => Arc::new(BrokenObjects { sound, defect: ObjectsDefect::LosesSegments }),
        _ => sound,
    }
}

struct BrokenCatalog {
    sound: Arc<MemoryCatalog>,
    defect: Defect,
}

impl BrokenCatalog {
    fn publishes(mut backup: Box<Backup>) -> Box<Backup> {
        if let BackupState::Running(run) = &backup.state
            && matches!(run.phase, BackupPhase::Copy(_))
        {
            let at = run.started_at;
            let snapshot = Snapshot {
                started_at: at,
                completed_at: at,
                point_in_time: at,
                totals: Totals::default(),
                completeness: Default::default(),
                captured_as: None,
            };
            backup.state = BackupState::Available(snapshot);
        }
        backup
    }
}

#[async_trait]
impl Catalog for BrokenCatalog {
    async fn commit(&self, writes: Vec<Write>) -> Result<(), CatalogError> {
        match self.defect {
            Defect::NeedsNoLease => {
                let (held, rest): (Vec<Write>, Vec<Write>) =
                    writes.into_iter().partition(|write| matches!(write, Write::HoldLease(_)));
                self.sound.commit(rest).await.map_err(|error| match error {
                    CatalogError::Conflict(place) => CatalogError::Conflict(place + held.len()),
                    other => other,
                })
            }
            Defect::PublishesThePlan => {
                let publish = |write| match write {
                    Write::Backup(backup, expect) => Write::Backup(Self::publishes(backup), expect),
                    other => other,
                };
                self.sound.commit(writes.into_iter().map(publish).collect()).await
            }
            Defect::SwapsWithoutALedger => {
                let is_of_a_swap = |write: &Write| match write {
                    Write::LedgerLine(_, line) => matches!(line.stage, CollectionStage::Swapping(_)),
                    _ => false,
                };
                self.sound.commit(writes.into_iter().filter(|write| !is_of_a_swap(write)).collect()).await
            }
            Defect::ForgetsHeirs => {
                let is_an_heirs = |write: &Write| matches!(write, Write::Account(_, Expect::Version(_)));
                let is_a_step = |write: &Write| match write {
                    Write::Backup(backup, _) => matches!(backup.state, BackupState::Deleting { after: Some(_), .. }),
                    _ => false,
                };
                let steps = writes.iter().any(is_a_step);
                // The first account of a step is the deleted backup's own.
                let mut own = 0..;
                let keep = |write: &Write| !steps || !is_an_heirs(write) || own.next().is_some_and(|place| place == 0);
                self.sound.commit(writes.into_iter().filter(keep).collect()).await
            }
            Defect::MetersWithoutNoting => {
                let is_metering = writes.iter().any(|write| matches!(write, Write::Usage(_)));
                let keep = |write: &Write| !is_metering || !matches!(write, Write::Account(..));
                self.sound.commit(writes.into_iter().filter(keep).collect()).await
            }
            Defect::ForgetsRuns => {
                let is_of_a_run = |write: &Write| match write {
                    Write::AutoBackup(record, _) => {
                        let last = record.last_run.as_ref().map(|run| &run.state);
                        matches!(last, Some(AutoRunState::Started { .. }))
                    }
                    _ => false,
                };
                self.sound.commit(writes.into_iter().filter(|write| !is_of_a_run(write)).collect()).await
            }
            Defect::TellsNobody => {
                let told = writes.into_iter().filter(|write| !matches!(write, Write::Notice(_)));
                self.sound.commit(told.collect()).await
            }
            _ => self.sound.commit(writes).await,
        }
    }

    async fn backups(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Versioned<Backup>>, CatalogError> {
        let mut found = self.sound.backups(instance, page).await?;
        if self.defect == Defect::OverlooksABackup
            && let Some(oldest) = found.items.iter().rposition(|backup| backup.value.is_living())
        {
            found.items.remove(oldest);
        }
        Ok(found)
    }

    async fn instance(&self, id: &InstanceId) -> Result<Option<Versioned<Instance>>, CatalogError> {
        self.sound.instance(id).await
    }

    async fn instances(&self, page: PageRequest) -> Result<Page<Instance>, CatalogError> {
        self.sound.instances(page).await
    }

    async fn job(&self, instance: &InstanceId) -> Result<Option<JobRef>, CatalogError> {
        self.sound.job(instance).await
    }

    async fn backup(&self, instance: &InstanceId, id: &BackupId) -> Result<Option<Versioned<Backup>>, CatalogError> {
        self.sound.backup(instance, id).await
    }

    async fn backup_named(&self, instance: &InstanceId, name: &BackupName) -> Result<Option<BackupId>, CatalogError> {
        self.sound.backup_named(instance, name).await
    }

    async fn restore(&self, instance: &InstanceId, id: &RestoreId) -> Result<Option<Versioned<Restore>>, CatalogError> {
        self.sound.restore(instance, id).await
    }

    async fn restores(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Restore>, CatalogError> {
        self.sound.restores(instance, page).await
    }

    async fn ledger(&self, restore: &RestoreId, page: PageRequest) -> Result<Page<CollectionRestore>, CatalogError> {
        self.sound.ledger(restore, page).await
    }

    async fn auto_backup(&self, instance: &InstanceId) -> Result<Option<Versioned<AutoBackup>>, CatalogError> {
        self.sound.auto_backup(instance).await
    }

    async fn notices(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Notice>, CatalogError> {
        self.sound.notices(instance, page).await
    }

    async fn account(
        &self,
        region: &Region,
        instance: &InstanceId,
        backup: &BackupId,
    ) -> Result<Option<Versioned<Account>>, CatalogError> {
        self.sound.account(region, instance, backup).await
    }

    async fn accounts(&self, region: &Region, page: PageRequest) -> Result<Page<Versioned<Account>>, CatalogError> {
        self.sound.accounts(region, page).await
    }

    async fn usage(
        &self,
        region: &Region,
        hour: Hour,
        instance: Option<&InstanceId>,
        page: PageRequest,
    ) -> Result<Page<UsageRecord>, CatalogError> {
        self.sound.usage(region, hour, instance, page).await
    }

    async fn usage_export(&self, region: &Region) -> Result<Option<Versioned<UsageExport>>, CatalogError> {
        self.sound.usage_export(region).await
    }

    async fn idempotency(&self, scope: &str, key: &str) -> Result<Option<Idempotency>, CatalogError> {
        self.sound.idempotency(scope, key).await
    }

    async fn acquire(
        &self,
        instance: &InstanceId,
        purpose: &LeasePurpose,
        now: Time,
        ttl: TimeDelta,
    ) -> Result<Option<Lease>, CatalogError> {
        let granted = self.sound.acquire(instance, purpose, now, ttl).await?;
        if granted.is_some() || self.defect != Defect::NeedsNoLease {
            return Ok(granted);
        }
        // As if the present holder's lease were over.
        let granted = self.sound.acquire(instance, purpose, now + TimeDelta::days(1), ttl).await?;
        if let Some(lease) = &granted {
            self.sound.renew(lease, now + ttl).await?;
        }
        Ok(granted)
    }

    async fn renew(&self, lease: &Lease, until: Time) -> Result<bool, CatalogError> {
        self.sound.renew(lease, until).await
    }

    async fn release(&self, lease: &Lease, due: Time) -> Result<(), CatalogError> {
        self.sound.release(lease, due).await
    }

    async fn held_until(&self, lease: &Lease) -> Result<Option<Time>, CatalogError> {
        self.sound.held_until(lease).await
    }

    async fn due(&self, kind: DueKind, now: Time, page: PageRequest) -> Result<Page<DueEntry>, CatalogError> {
        self.sound.due(kind, now, page).await
    }
}

struct BrokenObjects {
    sound: Arc<MemoryObjects>,
    defect: ObjectsDefect,
}

enum ObjectsDefect {
    /// Says that every fifth copy was made without making it: these.
    BelievesCopies(Mutex<Vec<ObjectMeta>>),
    /// Doesn't list the rows of every fifth segment.
    LosesSegments,
}

/// Whether a key of Milvus is an insert log of a lost segment.
fn is_lost(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    let is_of_rows = parts.first() == Some(&ROOT) && parts.get(1) == Some(&"insert_log");
    is_of_rows && parts.get(4).is_some_and(|segment| segment.ends_with(['0', '5']))
}

#[async_trait]
impl Objects for BrokenObjects {
    async fn list(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<Page<ObjectMeta>, ObjectsError> {
        let mut listing = self.sound.list(bucket, prefix, after).await?;
        let is_asked_for = |object: &ObjectMeta| {
            object.key.starts_with(prefix) && after.is_none_or(|after| object.key.as_str() > after)
        };
        match &self.defect {
            ObjectsDefect::BelievesCopies(believed) => {
                listing.items.extend(locked(believed).clone().into_iter().filter(is_asked_for));
                listing.items.sort_by(|a, b| a.key.cmp(&b.key));
            }
            ObjectsDefect::LosesSegments => loop {
                let last = listing.items.last().map(|object| object.key.clone());
                listing.items.retain(|object| !is_lost(&object.key));
                // An empty page would be read as the end.
                if !listing.items.is_empty() || listing.next.is_none() {
                    break;
                }
                listing = self.sound.list(bucket, prefix, last.as_deref()).await?;
            },
        }
        Ok(listing)
    }

    async fn copy(&self, request: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError> {
        let ObjectsDefect::BelievesCopies(believed) = &self.defect else { return self.sound.copy(request).await };
        if !request.from_etag.ends_with(['0', '5', 'a']) {
            return self.sound.copy(request).await;
        }
        let etag = format!("{}-1", request.from_etag);
        locked(believed).push(ObjectMeta { key: request.to_key.to_owned(), size: request.size, etag: etag.clone() });
        Ok(CopyOutcome::Copied { etag })
    }

    async fn put(&self, bucket: &Bucket, key: &str, body: Vec<u8>, mode: PutMode) -> Result<PutOutcome, ObjectsError> {
        self.sound.put(bucket, key, body, mode).await
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        self.sound.get(bucket, key).await
    }

    async fn get_range(&self, bucket: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectsError> {
        self.sound.get_range(bucket, key, range).await
    }

    async fn delete(&self, bucket: &Bucket, keys: &[String]) -> Result<(), ObjectsError> {
        self.sound.delete(bucket, keys).await
    }

    async fn locking(&self, bucket: &Bucket) -> Result<Option<Locking>, ObjectsError> {
        self.sound.locking(bucket).await
    }

    async fn lock(&self, bucket: &Bucket, key: &str, mode: LockMode, until: Time) -> Result<(), ObjectsError> {
        self.sound.lock(bucket, key, mode, until).await
    }
}
