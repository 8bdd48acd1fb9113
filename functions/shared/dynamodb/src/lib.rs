//! The catalog: the jobs' [`Catalog`](milvault_ports::Catalog) port over one DynamoDB table.
//!
//! A record is stored whole in its item's `record` attribute. Other attributes exist only for conditions and indexes:
//! `version`, and `dueKind`/`dueAt` while the sweep has to handle the record.
#![forbid(unsafe_code)]

mod items;
mod keys;
mod lease;
mod reads;
mod retry;
mod table;
mod writes;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use chrono::TimeDelta;
use milvault_model::{
    Account, AutoBackup, Backup, BackupId, BackupName, CollectionRestore, DueKind, Hour, Instance, InstanceId, JobRef,
    Notice, Region, Restore, RestoreId, Time, UsageExport, UsageRecord,
};
use milvault_ports::{
    Catalog, CatalogError, DueEntry, Idempotency, Lease, LeasePurpose, Page, PageRequest, Versioned, Write,
};

use items::{read_record, read_text, read_versioned, record_of, text};
use keys::{Key, sortable};

pub use table::DynamoCatalog;

#[async_trait]
impl Catalog for DynamoCatalog {
    async fn commit(&self, writes: Vec<Write>) -> Result<(), CatalogError> {
        writes::commit(self, writes).await
    }

    async fn instance(&self, id: &InstanceId) -> Result<Option<Versioned<Instance>>, CatalogError> {
        self.get(&Key::instance(id)).await?.map(read_versioned).transpose()
    }

    async fn instances(&self, page: PageRequest) -> Result<Page<Instance>, CatalogError> {
        self.query("INSTANCES", "", reads::Order::Ascending, page).await?.try_map(|item| read_record(&item))
    }

    async fn job(&self, instance: &InstanceId) -> Result<Option<JobRef>, CatalogError> {
        let item = self.get(&Key::lease(instance)).await?;
        item.filter(|item| item.contains_key("job")).map(|item| items::read_job(&item)).transpose()
    }

    async fn backup(&self, instance: &InstanceId, id: &BackupId) -> Result<Option<Versioned<Backup>>, CatalogError> {
        self.get(&Key::backup(instance, id)).await?.map(read_versioned).transpose()
    }

    async fn backup_named(&self, instance: &InstanceId, name: &BackupName) -> Result<Option<BackupId>, CatalogError> {
        let Some(item) = self.get(&Key::name(instance, name)).await? else { return Ok(None) };
        read_text(&item, "backupId")?.parse().map(Some).map_err(|error| items::bad("backupId", &error))
    }

    async fn backups(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Versioned<Backup>>, CatalogError> {
        let partition = format!("INSTANCE#{instance}");
        self.query(&partition, "BACKUP#", reads::Order::Descending, page).await?.try_map(read_versioned)
    }

    async fn restore(&self, instance: &InstanceId, id: &RestoreId) -> Result<Option<Versioned<Restore>>, CatalogError> {
        self.get(&Key::restore(instance, id)).await?.map(read_versioned).transpose()
    }

    async fn restores(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Restore>, CatalogError> {
        let partition = format!("INSTANCE#{instance}");
        self.query(&partition, "RESTORE#", reads::Order::Descending, page).await?.try_map(|item| read_record(&item))
    }

    async fn ledger(&self, restore: &RestoreId, page: PageRequest) -> Result<Page<CollectionRestore>, CatalogError> {
        let partition = format!("RESTORE#{restore}");
        self.query(&partition, "COLLECTION#", reads::Order::Ascending, page).await?.try_map(|item| read_record(&item))
    }

    async fn auto_backup(&self, instance: &InstanceId) -> Result<Option<Versioned<AutoBackup>>, CatalogError> {
        self.get(&Key::auto_backup(instance)).await?.map(read_versioned).transpose()
    }

    async fn notices(&self, instance: &InstanceId, page: PageRequest) -> Result<Page<Notice>, CatalogError> {
        let partition = format!("INSTANCE#{instance}");
        self.query(&partition, "NOTICE#", reads::Order::Ascending, page).await?.try_map(|item| read_record(&item))
    }

    async fn account(
        &self,
        region: &Region,
        instance: &InstanceId,
        backup: &BackupId,
    ) -> Result<Option<Versioned<Account>>, CatalogError> {
        self.get(&Key::account(region, instance, backup)).await?.map(read_versioned).transpose()
    }

    async fn accounts(&self, region: &Region, page: PageRequest) -> Result<Page<Versioned<Account>>, CatalogError> {
        self.query(&format!("ACCOUNT#{region}"), "", reads::Order::Ascending, page).await?.try_map(read_versioned)
    }

    async fn usage(
        &self,
        region: &Region,
        hour: Hour,
        instance: Option<&InstanceId>,
        mut page: PageRequest,
    ) -> Result<Page<UsageRecord>, CatalogError> {
        let mut prefix = Key::usage_prefix(hour);
        let of_instance = instance.map(|instance| format!("{instance}#")).unwrap_or_default();
        if instance.is_some() {
            page.after = match page.after {
                Some(after) if after < of_instance => None,
                Some(after) => match after.strip_prefix(&of_instance) {
                    Some(after) => Some(after.to_owned()),
                    None => return Ok(Page { items: Vec::new(), next: None }),
                },
                None => None,
            };
            prefix += &of_instance;
        }
        let page = self.query(&Key::usages(region, hour), &prefix, reads::Order::Ascending, page).await?;
        let page = page.try_map(|item| read_record(&item))?;
        Ok(Page { next: page.next.map(|next| format!("{of_instance}{next}")), ..page })
    }

    async fn usage_export(&self, region: &Region) -> Result<Option<Versioned<UsageExport>>, CatalogError> {
        self.get(&Key::usage_export(region)).await?.map(read_versioned).transpose()
    }

    async fn idempotency(&self, scope: &str, key: &str) -> Result<Option<Idempotency>, CatalogError> {
        self.get(&Key::idempotency(scope, key)).await?.map(|item| items::read_idempotency(&item)).transpose()
    }

    async fn acquire(
        &self,
        instance: &InstanceId,
        purpose: &LeasePurpose,
        now: Time,
        ttl: TimeDelta,
    ) -> Result<Option<Lease>, CatalogError> {
        let until = now + ttl;
        let key = Key::lease(instance);
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(keys::PK, text(key.pk))
            .key(keys::SK, text(key.sk))
            .expression_attribute_values(":one", AttributeValue::N("1".into()))
            .expression_attribute_values(":now", text(sortable(now)))
            .expression_attribute_values(":until", text(sortable(until)))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::UpdatedNew);
        let free = "(attribute_not_exists(heldUntil) OR heldUntil <= :now)";
        update = match purpose {
            // The sweep looks at the job again when the lease ends.
            LeasePurpose::Job(job) => update
                .update_expression("SET heldUntil = :until, dueAt = :until ADD fence :one")
                .condition_expression(format!("{free} AND job = :job"))
                .expression_attribute_values(":job", text(record_of(job)?)),
            LeasePurpose::Garbage => update
                .update_expression("SET heldUntil = :until ADD fence :one")
                .condition_expression(format!("{free} AND attribute_not_exists(job)")),
        };
        let Some(updated) = reads::send_update(update).await? else { return Ok(None) };
        let fence = updated.attributes().and_then(|item| item.get("fence"));
        let fence = fence.and_then(|fence| fence.as_n().ok()).and_then(|fence| fence.parse().ok());
        let fence = fence.ok_or_else(|| items::bad("fence", &"missing"))?;
        Ok(Some(Lease { instance_id: instance.clone(), fence }))
    }

    // `dueAt` is changed with the lease even if there is no job, because only `dueKind` puts the item into the index,
    // and `dueKind` is set and removed with the job.
    async fn renew(&self, lease: &Lease, until: Time) -> Result<bool, CatalogError> {
        self.update_lease(lease, "SET heldUntil = :time, dueAt = :time", until).await
    }

    async fn held_until(&self, lease: &Lease) -> Result<Option<Time>, CatalogError> {
        let Some(item) = self.get(&Key::lease(&lease.instance_id)).await? else { return Ok(None) };
        items::read_held_until(&item, lease.fence)
    }

    async fn release(&self, lease: &Lease, due: Time) -> Result<(), CatalogError> {
        self.update_lease(lease, "SET dueAt = :time REMOVE heldUntil", due).await.map(drop)
    }

    async fn due(&self, kind: DueKind, now: Time, page: PageRequest) -> Result<Page<DueEntry>, CatalogError> {
        reads::due(self, kind, now, page).await
    }
}
