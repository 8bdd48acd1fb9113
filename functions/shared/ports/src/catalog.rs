//! The catalog: durable records, changed only by conditional, atomic commits.

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_model::{
    Account, AutoBackup, Backup, BackupId, BackupName, CollectionRestore, DueKind, Hour, Instance, InstanceId, JobRef,
    Notice, Region, Restore, RestoreId, Time, UsageExport, UsageRecord,
};

use crate::page::{Page, PageRequest};

/// A record and the version that its next change has to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The record.
    pub value: T,
    /// The number of the record's changes, from 1.
    pub version: u64,
}

/// The state of a record that a write expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The record doesn't exist.
    Absent,
    /// The record exists at this version.
    Version(u64),
}

/// One change of an atomic commit, with the condition under which it is made.
#[derive(Debug, Clone)]
pub enum Write {
    /// Stores an instance.
    Instance(Box<Instance>, Expect),
    /// Removes an instance that is at this version.
    RemoveInstance(InstanceId, u64),
    /// Stores a backup.
    Backup(Box<Backup>, Expect),
    /// Stores a restore.
    Restore(Box<Restore>, Expect),
    /// Stores a line of a restore's ledger unconditionally. The ledger is guarded by [`Write::HoldLease`].
    LedgerLine(RestoreId, Box<CollectionRestore>),
    /// Gives a name to a backup. The name must be free.
    ClaimName(InstanceId, BackupName, BackupId),
    /// Frees a backup's name if the backup still has it. Never fails.
    ReleaseName(InstanceId, BackupName, BackupId),
    /// Makes this the instance's job. The instance must have no job. The sweep resumes the job from the given time on,
    /// unless a worker has taken its lease before that time.
    ClaimJob(JobRef, Time),
    /// Ends the instance's job and gives up the lease, which must be held.
    ReleaseJob(Lease),
    /// Requires that the lease is held.
    HoldLease(Lease),
    /// Stores the answer to a request. The key must be new.
    Idempotency(Idempotency),
    /// Stores a backup's account.
    Account(Box<Account>, Expect),
    /// Removes the account of a removed backup. The account must be at this version.
    RemoveAccount(Box<Account>, u64),
    /// Stores a record of usage. There must be none for its hour and place.
    Usage(Box<UsageRecord>),
    /// Stores how far a region's usage has been exported.
    UsageExport(Box<UsageExport>, Expect),
    /// Stores an instance's record of automatic backups.
    AutoBackup(Box<AutoBackup>, Expect),
    /// Removes an instance's record of automatic backups that is at this version.
    RemoveAutoBackup(InstanceId, u64),
    /// Stores, unconditionally, a notice of what this commit changes.
    Notice(Box<Notice>),
    /// Removes a published notice. Never fails.
    RemoveNotice(InstanceId, String),
}

/// A worker's fenced lease on an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The instance that the lease is on.
    pub instance_id: InstanceId,
    /// The fence, which grows with every holder: a commit with an old fence fails.
    pub fence: u64,
}

/// The purpose that a lease is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeasePurpose {
    /// Work on this job, which must be the instance's job.
    Job(JobRef),
    /// Removing the objects of deleted backups. The instance must have no job.
    Garbage,
}

/// A request that was answered with `resource`, stored under the caller's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The scope in which the key is unique: the operation and its instance.
    pub scope: String,
    /// The caller's key.
    pub key: String,
    /// A hash of the request, which reveals another request under the same key.
    pub request_hash: String,
    /// The id of the resource that the request created.
    pub resource: String,
    /// When the record may be removed.
    pub expires_at: Time,
}

/// A reference to a record that is due, as the catalog's index has it, without the record itself.
#[derive(Debug, Clone, PartialEq, Eq, strum::Display)]
pub enum DueItem {
    /// A job whose worker's lease ran out.
    #[strum(to_string = "the job of {0}")]
    Job(InstanceId),
    /// A backup.
    #[strum(to_string = "backup {1} of {0}")]
    Backup(InstanceId, BackupId),
    /// A restore.
    #[strum(to_string = "restore {1} of {0}")]
    Restore(InstanceId, RestoreId),
    /// An instance's automatic backups.
    #[strum(to_string = "the automatic backups of {0}")]
    AutoBackup(InstanceId),
    /// A notice for the users of this instance.
    #[strum(to_string = "notice {1} of {0}")]
    Notice(InstanceId, String),
}

/// A due record in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueEntry {
    /// When it became due.
    pub at: Time,
    /// The record that is due.
    pub item: DueItem,
}

/// The reason why a catalog call failed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The condition of the write at this position in the commit didn't hold. Nothing was written.
    #[error("the condition of write {0} didn't hold")]
    Conflict(usize),
    /// The catalog couldn't be reached, or its answer couldn't be read. The commit may have taken effect.
    #[error("the catalog failed: {0}")]
    Unavailable(String),
}

/// The catalog's records.
///
/// Reads are strongly consistent, except [`Catalog::due`]. A commit is all or nothing.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Makes all of the writes, or none of them.
    ///
    /// # Errors
    /// [`CatalogError::Conflict`] with the first write whose condition didn't hold. A commit that is repeated after its
    /// answer was lost reports the conflict with its own first effect.
    async fn commit(&self, writes: Vec<Write>) -> Result<(), CatalogError>;

    /// Reads an instance.
    async fn instance(&self, id: &InstanceId) -> Result<Option<Versioned<Instance>>, CatalogError>;

    /// Lists instances by id, which is the sort key.
    async fn instances(&self, page: PageRequest) -> Result<Page<Instance>, CatalogError>;

    /// Reads the instance's job; `None` if it has none.
    async fn job(&self, instance: &InstanceId) -> Result<Option<JobRef>, CatalogError>;

    /// Reads a backup.
    async fn backup(&self, instance: &InstanceId, id: &BackupId) -> Result<Option<Versioned<Backup>>, CatalogError>;

    /// Reads the id of the backup that holds this name.
    async fn backup_named(&self, instance: &InstanceId, name: &BackupName) -> Result<Option<BackupId>, CatalogError>;

    /// Lists an instance's backups, newest first; the sort key is the backup's id.
    async fn backups(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Versioned<Backup>>, CatalogError>;

    /// Reads a restore.
    async fn restore(&self, instance: &InstanceId, id: &RestoreId) -> Result<Option<Versioned<Restore>>, CatalogError>;

    /// Lists an instance's restores, newest first; the sort key is the restore's id.
    async fn restores(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Restore>, CatalogError>;

    /// Lists a restore's ledger by number; the sort key is the number, written with ten digits.
    async fn ledger(&self, restore: &RestoreId, page: PageRequest) -> Result<Page<CollectionRestore>, CatalogError>;

    /// Reads an instance's record of automatic backups.
    async fn auto_backup(&self, instance: &InstanceId) -> Result<Option<Versioned<AutoBackup>>, CatalogError>;

    /// Lists an instance's unpublished notices by id, which is the sort key.
    async fn notices(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Notice>, CatalogError>;

    /// Reads a backup's account.
    async fn account(
        &self,
        region: &Region,
        instance: &InstanceId,
        backup: &BackupId,
    ) -> Result<Option<Versioned<Account>>, CatalogError>;

    /// Lists a region's accounts; the sort key is `{instance}#{backup}`.
    async fn accounts(&self, region: &Region, page: PageRequest) -> Result<Page<Versioned<Account>>, CatalogError>;

    /// Lists a region's usage records of an hour, for one instance or for all, by [`UsageRecord::place`], which is the
    /// sort key.
    async fn usage(
        &self,
        region: &Region,
        hour: Hour,
        instance: Option<&InstanceId>,
        page: PageRequest,
    ) -> Result<Page<UsageRecord>, CatalogError>;

    /// Reads how far a region's usage has been exported.
    async fn usage_export(&self, region: &Region) -> Result<Option<Versioned<UsageExport>>, CatalogError>;

    /// Reads the stored answer of a key.
    async fn idempotency(&self, scope: &str, key: &str) -> Result<Option<Idempotency>, CatalogError>;

    /// Takes the instance's lease for `ttl`; `None` if somebody holds it or if the instance's job isn't as `purpose`
    /// requires.
    async fn acquire(
        &self,
        instance: &InstanceId,
        purpose: &LeasePurpose,
        now: Time,
        ttl: TimeDelta,
    ) -> Result<Option<Lease>, CatalogError>;

    /// Extends our lease until `until`; `false` if it is no longer ours.
    async fn renew(&self, lease: &Lease, until: Time) -> Result<bool, CatalogError>;

    /// Reads when a lease ends; `None` if it is over.
    async fn held_until(&self, lease: &Lease) -> Result<Option<Time>, CatalogError>;

    /// Gives our lease up and keeps the job, which the sweep resumes from `due` on. Does nothing if the lease isn't
    /// ours.
    async fn release(&self, lease: &Lease, due: Time) -> Result<(), CatalogError>;

    /// Lists what is due at `now`, the longest due first. It may miss recent writes.
    async fn due(&self, kind: DueKind, now: Time, page: PageRequest) -> Result<Page<DueEntry>, CatalogError>;
}
