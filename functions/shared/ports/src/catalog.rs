//! The catalog: durable records, changed only by conditional, atomic commits.

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_model::{
    Account, AutoBackup, Backup, BackupId, BackupName, CollectionRestore, DueKind, Hour, Instance, InstanceId, JobRef,
    Notice, Region, Restore, RestoreId, Time, UsageExport, UsageRecord,
};

/// A record with the version that its next change must expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The record.
    pub value: T,
    /// Counts the record's changes, from 1.
    pub version: u64,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// No such record.
    Absent,
    /// The record at this version.
    Version(u64),
}

/// One change of an atomic commit; each names the condition under which it holds.
#[derive(Debug, Clone)]
pub enum Write {
    /// Puts an instance.
    Instance(Box<Instance>, Expect),
    /// Removes an instance at this version.
    RemoveInstance(InstanceId, u64),
    /// Puts a backup.
    Backup(Box<Backup>, Expect),
    /// Puts a restore.
    Restore(Box<Restore>, Expect),
    /// Puts a line of a restore's ledger, whatever is there: what guards a ledger is [`Write::HoldLease`].
    LedgerLine(RestoreId, Box<CollectionRestore>),
    /// Gives a name to a backup; the name must be free.
    ClaimName(InstanceId, BackupName, BackupId),
    /// Frees a backup's name, if it still has it; never fails.
    ReleaseName(InstanceId, BackupName, BackupId),
    /// Makes this the instance's job; it must have none. The sweep drives the job from the given time on, unless a
    /// worker has taken its lease by then.
    ClaimJob(JobRef, Time),
    /// Makes nothing the instance's job, and gives up the lease; the lease must be ours.
    ReleaseJob(Lease),
    /// Requires that the lease is ours.
    HoldLease(Lease),
    /// Remembers the answer to a request; the key must be new.
    Idempotency(Idempotency),
    /// Puts what a backup owns.
    Account(Box<Account>, Expect),
    /// Removes the account of a backup that is gone, at this version.
    RemoveAccount(Box<Account>, u64),
    /// Puts a record of usage; there must be none of its hour and place.
    Usage(Box<UsageRecord>),
    /// Puts how far a region's usage is written out.
    UsageExport(Box<UsageExport>, Expect),
    /// Puts what is known of an instance's automatic backups.
    AutoBackup(Box<AutoBackup>, Expect),
    /// Removes what is known of an instance's automatic backups, at this version.
    RemoveAutoBackup(InstanceId, u64),
    /// Keeps something to tell users, whatever is there: what happened in this commit.
    Notice(Box<Notice>),
    /// Users were told this; never fails.
    Told(InstanceId, String),
}

/// A worker's fenced lease on an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// On which instance.
    pub instance_id: InstanceId,
    /// Grows with every holder: a commit with an old fence fails.
    pub fence: u64,
}

/// What a lease is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeasePurpose {
    /// For working on this job, which must be the instance's.
    Job(JobRef),
    /// For removing a deleted backup's objects: the instance must have no job.
    Garbage,
}

/// A request that was answered with `resource`, under the caller's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// What the key is unique in: the operation and its instance.
    pub scope: String,
    /// The caller's key.
    pub key: String,
    /// Of the request, so that another request under the same key is noticed.
    pub request_hash: String,
    /// The id of what the request made.
    pub resource: String,
    /// When it may be forgotten.
    pub expires_at: Time,
}

/// Which part of a listing to give.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// Begin after this sort key of the listing.
    pub after: Option<String>,
    /// At most so many, at least 1.
    pub limit: usize,
}

/// Part of a listing.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// In the listing's order.
    pub items: Vec<T>,
    /// Whether there may be more after the last of them.
    pub more: bool,
}

/// Something due, as the catalog's index knows it: where to look, not what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DueItem {
    /// A job whose worker's lease ran out.
    Job(InstanceId),
    /// A backup.
    Backup(InstanceId, BackupId),
    /// A restore.
    Restore(InstanceId, RestoreId),
    /// An instance's automatic backups.
    AutoBackup(InstanceId),
    /// Something to tell users, of this instance.
    Notice(InstanceId, String),
}

/// Something due, in a listing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueEntry {
    /// The listing's sort key.
    pub cursor: String,
    /// Since when it is due.
    pub at: Time,
    /// What.
    pub item: DueItem,
}

/// Why the catalog didn't do it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The condition of the write at this place in the commit didn't hold. Nothing was written.
    #[error("the condition of write {0} didn't hold")]
    Conflict(usize),
    /// The catalog couldn't be asked, or its answer not be read. The commit may have taken effect.
    #[error("the catalog failed: {0}")]
    Unavailable(String),
}

/// The catalog's records.
///
/// Reads are strongly consistent, [`Catalog::due`] excepted. A commit is all or nothing.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Carries out all of the writes, or none.
    ///
    /// # Errors
    /// [`CatalogError::Conflict`] with the first write whose condition didn't hold. A commit that was repeated after an
    /// answer got lost reports the conflict with its own first effect.
    async fn commit(&self, writes: Vec<Write>) -> Result<(), CatalogError>;

    /// An instance.
    async fn instance(&self, id: &InstanceId) -> Result<Option<Versioned<Instance>>, CatalogError>;

    /// Instances by id; the sort key is the id.
    async fn instances(&self, page: PageRequest) -> Result<Page<Instance>, CatalogError>;

    /// The instance's job, if it has one.
    async fn job(&self, instance: &InstanceId) -> Result<Option<JobRef>, CatalogError>;

    /// A backup.
    async fn backup(&self, instance: &InstanceId, id: &BackupId) -> Result<Option<Versioned<Backup>>, CatalogError>;

    /// The backup that holds this name.
    async fn backup_named(&self, instance: &InstanceId, name: &BackupName) -> Result<Option<BackupId>, CatalogError>;

    /// An instance's backups, newest first; the sort key is the backup's id.
    async fn backups(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Versioned<Backup>>, CatalogError>;

    /// A restore.
    async fn restore(&self, instance: &InstanceId, id: &RestoreId) -> Result<Option<Versioned<Restore>>, CatalogError>;

    /// An instance's restores, newest first; the sort key is the restore's id.
    async fn restores(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Restore>, CatalogError>;

    /// A restore's ledger by number; the sort key is the number with ten digits.
    async fn ledger(&self, restore: &RestoreId, page: PageRequest) -> Result<Page<CollectionRestore>, CatalogError>;

    /// What is known of an instance's automatic backups.
    async fn auto_backup(&self, instance: &InstanceId) -> Result<Option<Versioned<AutoBackup>>, CatalogError>;

    /// What users haven't been told yet of an instance, by id, which is the sort key.
    async fn notices(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Notice>, CatalogError>;

    /// What a backup owns.
    async fn account(
        &self,
        region: &Region,
        instance: &InstanceId,
        backup: &BackupId,
    ) -> Result<Option<Versioned<Account>>, CatalogError>;

    /// A region's accounts; the sort key is `{instance}#{backup}`.
    async fn accounts(&self, region: &Region, page: PageRequest) -> Result<Page<Versioned<Account>>, CatalogError>;

    /// A region's records of usage of an hour, of one instance or of all, by [`UsageRecord::place`], which is the sort
    /// key.
    async fn usage(
        &self,
        region: &Region,
        hour: Hour,
        instance: Option<&InstanceId>,
        page: PageRequest,
    ) -> Result<Page<UsageRecord>, CatalogError>;

    /// How far a region's usage is written out.
    async fn usage_export(&self, region: &Region) -> Result<Option<Versioned<UsageExport>>, CatalogError>;

    /// What was remembered under a key.
    async fn idempotency(&self, scope: &str, key: &str) -> Result<Option<Idempotency>, CatalogError>;

    /// Takes the instance's lease for `ttl` if no one holds it and its job is as `purpose` says; `None` otherwise.
    async fn acquire(
        &self,
        instance: &InstanceId,
        purpose: &LeasePurpose,
        now: Time,
        ttl: TimeDelta,
    ) -> Result<Option<Lease>, CatalogError>;

    /// Makes our lease last until `until`; `false` if it is no longer ours.
    async fn renew(&self, lease: &Lease, until: Time) -> Result<bool, CatalogError>;

    /// Until when a lease lasts; `None` if it is over.
    async fn held_until(&self, lease: &Lease) -> Result<Option<Time>, CatalogError>;

    /// Gives our lease up, keeping the job, which the sweep drives from `due` on; nothing happens if it isn't ours.
    async fn release(&self, lease: &Lease, due: Time) -> Result<(), CatalogError>;

    /// What is due by `now`, the longest due first. May miss what was written a moment ago.
    async fn due(&self, kind: DueKind, now: Time, page: PageRequest) -> Result<Page<DueEntry>, CatalogError>;
}
