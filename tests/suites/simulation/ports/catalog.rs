//! The catalog of an invocation.

use async_trait::async_trait;
use chrono::TimeDelta;
use milvault_model::{
    Account, AutoBackup, Backup, BackupId, BackupName, CollectionRestore, DueKind, Hour, Instance, InstanceId, JobRef,
    Notice, Region, Restore, RestoreId, Time, UsageExport, UsageRecord,
};
use milvault_ports::{
    Catalog, CatalogError, DueEntry, Idempotency, Lease, LeasePurpose, Page, PageRequest, Versioned, Write,
};

use super::{Port, at_once, title};
use crate::calls::Nature;

fn no_catalog<T>(reason: String) -> Result<T, CatalogError> {
    Err(CatalogError::Unavailable(reason))
}

fn show(write: &Write) -> String {
    match write {
        Write::Backup(backup, expect) => format!("{} {:?} if {expect:?}", backup.id, backup.state),
        other => format!("{other:?}"),
    }
}

impl Port {
    /// Reads from the catalog.
    async fn look<T: Send + 'static>(
        &self,
        name: String,
        read: impl FnOnce(&dyn Catalog) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let catalog = self.catalog.clone();
        let effect = move || read(catalog.as_ref());
        self.network.call(self.outgoing(Nature::Read, name), effect, no_catalog).await
    }
}

#[async_trait]
impl Catalog for Port {
    async fn commit(&self, writes: Vec<Write>) -> Result<(), CatalogError> {
        let name = title!(self, "commit {}", writes.iter().map(show).collect::<Vec<_>>().join("; "));
        let (catalog, audit) = (self.catalog.clone(), self.audit.clone());
        let effect = move || {
            let result = at_once(catalog.commit(writes.clone()));
            if result.is_ok() {
                audit.committed(&writes);
            }
            result
        };
        self.network.call(self.outgoing(Nature::Guarded, name), effect, no_catalog).await
    }

    async fn instance(&self, id: &InstanceId) -> Result<Option<Versioned<Instance>>, CatalogError> {
        let id = id.clone();
        self.look(title!(self, "instance {id}"), move |catalog| at_once(catalog.instance(&id))).await
    }

    async fn instances(&self, page: PageRequest) -> Result<Page<Instance>, CatalogError> {
        self.look("instances".to_owned(), move |catalog| at_once(catalog.instances(page))).await
    }

    async fn job(&self, instance: &InstanceId) -> Result<Option<JobRef>, CatalogError> {
        let instance = instance.clone();
        self.look(title!(self, "job {instance}"), move |catalog| at_once(catalog.job(&instance))).await
    }

    async fn backup(&self, instance: &InstanceId, id: &BackupId) -> Result<Option<Versioned<Backup>>, CatalogError> {
        let (instance, id) = (instance.clone(), id.clone());
        self.look(title!(self, "backup {id}"), move |catalog| at_once(catalog.backup(&instance, &id))).await
    }

    async fn backup_named(&self, instance: &InstanceId, name: &BackupName) -> Result<Option<BackupId>, CatalogError> {
        let (instance, name) = (instance.clone(), name.clone());
        self.look(title!(self, "backup named {name}"), move |catalog| at_once(catalog.backup_named(&instance, &name)))
            .await
    }

    async fn backups(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Versioned<Backup>>, CatalogError> {
        let instance = instance.clone();
        self.look(title!(self, "backups {instance}"), move |catalog| at_once(catalog.backups(&instance, page))).await
    }

    async fn restore(&self, instance: &InstanceId, id: &RestoreId) -> Result<Option<Versioned<Restore>>, CatalogError> {
        let (instance, id) = (instance.clone(), id.clone());
        self.look(title!(self, "restore {id}"), move |catalog| at_once(catalog.restore(&instance, &id))).await
    }

    async fn restores(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Restore>, CatalogError> {
        let instance = instance.clone();
        self.look(title!(self, "restores {instance}"), move |catalog| at_once(catalog.restores(&instance, page))).await
    }

    async fn ledger(&self, restore: &RestoreId, page: PageRequest) -> Result<Page<CollectionRestore>, CatalogError> {
        let restore = restore.clone();
        self.look(title!(self, "ledger {restore}"), move |catalog| at_once(catalog.ledger(&restore, page))).await
    }

    async fn auto_backup(&self, instance: &InstanceId) -> Result<Option<Versioned<AutoBackup>>, CatalogError> {
        let instance = instance.clone();
        self.look(title!(self, "automatic backups {instance}"), move |catalog| at_once(catalog.auto_backup(&instance)))
            .await
    }

    async fn notices(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Notice>, CatalogError> {
        let instance = instance.clone();
        self.look(title!(self, "notices {instance}"), move |catalog| at_once(catalog.notices(&instance, page))).await
    }

    async fn account(
        &self,
        region: &Region,
        instance: &InstanceId,
        backup: &BackupId,
    ) -> Result<Option<Versioned<Account>>, CatalogError> {
        let (region, instance, backup) = (region.clone(), instance.clone(), backup.clone());
        self.look(title!(self, "account {backup}"), move |catalog| {
            at_once(catalog.account(&region, &instance, &backup))
        })
        .await
    }

    async fn accounts(&self, region: &Region, page: PageRequest) -> Result<Page<Versioned<Account>>, CatalogError> {
        let region = region.clone();
        self.look("accounts".to_owned(), move |catalog| at_once(catalog.accounts(&region, page))).await
    }

    async fn usage(
        &self,
        region: &Region,
        hour: Hour,
        instance: Option<&InstanceId>,
        page: PageRequest,
    ) -> Result<Page<UsageRecord>, CatalogError> {
        let (region, instance) = (region.clone(), instance.cloned());
        let look = move |catalog: &dyn Catalog| at_once(catalog.usage(&region, hour, instance.as_ref(), page));
        self.look(title!(self, "usage {hour}"), look).await
    }

    async fn usage_export(&self, region: &Region) -> Result<Option<Versioned<UsageExport>>, CatalogError> {
        let region = region.clone();
        self.look("export".to_owned(), move |catalog| at_once(catalog.usage_export(&region))).await
    }

    async fn idempotency(&self, scope: &str, key: &str) -> Result<Option<Idempotency>, CatalogError> {
        let (scope, key) = (scope.to_owned(), key.to_owned());
        self.look(title!(self, "idempotency {key}"), move |catalog| at_once(catalog.idempotency(&scope, &key))).await
    }

    async fn acquire(
        &self,
        instance: &InstanceId,
        purpose: &LeasePurpose,
        now: Time,
        ttl: TimeDelta,
    ) -> Result<Option<Lease>, CatalogError> {
        let (catalog, audit, worker) = (self.catalog.clone(), self.audit.clone(), self.worker);
        let (instance, purpose) = (instance.clone(), purpose.clone());
        let name = title!(self, "acquire {instance}");
        let effect = move || {
            let result = at_once(catalog.acquire(&instance, &purpose, now, ttl));
            if let Ok(Some(lease)) = &result {
                audit.granted(lease, worker);
            }
            result
        };
        self.network.call(self.outgoing(Nature::Unguarded, name), effect, no_catalog).await
    }

    async fn renew(&self, lease: &Lease, until: Time) -> Result<bool, CatalogError> {
        let (catalog, audit, lease) = (self.catalog.clone(), self.audit.clone(), lease.clone());
        let name = title!(self, "renew {}", lease.fence);
        let effect = move || {
            let result = at_once(catalog.renew(&lease, until));
            if let Ok(true) = &result {
                audit.renewed(&lease);
            }
            result
        };
        self.network.call(self.outgoing(Nature::Unguarded, name), effect, no_catalog).await
    }

    async fn release(&self, lease: &Lease, due: Time) -> Result<(), CatalogError> {
        let (catalog, lease) = (self.catalog.clone(), lease.clone());
        let name = title!(self, "release {}", lease.fence);
        let effect = move || at_once(catalog.release(&lease, due));
        self.network.call(self.outgoing(Nature::Guarded, name), effect, no_catalog).await
    }

    async fn held_until(&self, lease: &Lease) -> Result<Option<Time>, CatalogError> {
        let lease = lease.clone();
        self.look(title!(self, "held until {}", lease.fence), move |catalog| at_once(catalog.held_until(&lease))).await
    }

    async fn due(&self, kind: DueKind, now: Time, page: PageRequest) -> Result<Page<DueEntry>, CatalogError> {
        self.look(title!(self, "due {kind:?}"), move |catalog| at_once(catalog.due(kind, now, page))).await
    }
}
