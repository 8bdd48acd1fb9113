//! Commits, which make all of their writes or none.

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update},
};
use milvault_model::{BackupId, DueKind, JobRef, Time};
use milvault_ports::{CatalogError, Expect, Lease, Write};

use crate::{
    items::{Item, bad, idempotency_item, item, record_item, record_of, text},
    keys::{Key, PK, SK, sortable},
    lease::{OURS, fence},
    retry::{TRIES, unavailable, wait},
    table::DynamoCatalog,
};

/// The maximum number of items in a DynamoDB transaction.
const LARGEST_COMMIT: usize = 100;

/// An action of a transaction.
struct Action {
    /// The index of the write that it belongs to; some writes need two actions.
    owner: usize,
    /// Whether the commit is made without the action if its condition doesn't hold.
    is_optional: bool,
    item: TransactWriteItem,
}

/// The result of a transaction.
enum Transacted {
    Made,
    /// The conditions of the actions at these positions didn't hold.
    Refused(Vec<usize>),
}

pub(crate) async fn commit(catalog: &DynamoCatalog, writes: Vec<Write>) -> Result<(), CatalogError> {
    let mut actions = Vec::new();
    for (owner, write) in writes.into_iter().enumerate() {
        let is_optional = matches!(write, Write::ReleaseName(..));
        let items = actions_of(&catalog.table, write)?;
        actions.extend(items.into_iter().map(|item| Action { owner, is_optional, item }));
    }
    if actions.len() > LARGEST_COMMIT {
        return Err(CatalogError::Unavailable(format!("a commit of {} items is too large", actions.len())));
    }
    while !actions.is_empty() {
        let Transacted::Refused(places) = transact(catalog, &actions).await? else { return Ok(()) };
        let refused = places.iter().filter_map(|place| actions.get(*place)).filter(|action| !action.is_optional);
        if let Some(first) = refused.map(|action| action.owner).min() {
            return Err(CatalogError::Conflict(first));
        }
        // Only names that belong to other backups were refused: there is nothing to free.
        let mut place = 0..;
        actions.retain(|_| place.next().is_none_or(|place| !places.contains(&place)));
    }
    Ok(())
}

/// Makes the transaction, and retries it while others conflict with it. The SDK's own retries carry a token, so they
/// take effect once.
async fn transact(catalog: &DynamoCatalog, actions: &[Action]) -> Result<Transacted, CatalogError> {
    let items: Vec<TransactWriteItem> = actions.iter().map(|action| action.item.clone()).collect();
    for attempt in 0.. {
        let sent = catalog.client.transact_write_items().set_transact_items(Some(items.clone())).send().await;
        let error = match sent {
            Ok(_) => return Ok(Transacted::Made),
            Err(error) => error,
        };
        let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) = error.as_service_error() else {
            return Err(unavailable(error));
        };
        let codes: Vec<&str> =
            canceled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or("None")).collect();
        let refused: Vec<usize> = (0..codes.len()).filter(|at| codes[*at] == "ConditionalCheckFailed").collect();
        if !refused.is_empty() {
            return Ok(Transacted::Refused(refused));
        }
        let may_pass = codes.iter().all(|code| {
            matches!(*code, "None" | "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
        });
        if !may_pass || attempt >= TRIES {
            return Err(CatalogError::Unavailable(format!("the commit was cancelled: {}", codes.join(", "))));
        }
        wait(attempt).await;
    }
    Ok(Transacted::Made)
}

/// The actions that make a write.
fn actions_of(table: &str, write: Write) -> Result<Vec<TransactWriteItem>, CatalogError> {
    let one = |action| Ok(vec![action]);
    match write {
        Write::Instance(instance, expect) => {
            let listed = record_item(Key::listed_instance(&instance.id), &*instance, None, None)?;
            Ok(vec![
                put_record(table, Key::instance(&instance.id), expect, |key, version| {
                    record_item(key, &*instance, version, None)
                })?,
                put(table, listed, None)?,
            ])
        }
        Write::RemoveInstance(id, version) => Ok(vec![
            delete(table, Key::instance(&id), Some(at_version(version)))?,
            delete(table, Key::listed_instance(&id), None)?,
        ]),
        Write::Backup(backup, expect) => {
            let key = Key::backup(&backup.instance_id, &backup.id);
            one(put_record(table, key, expect, |key, version| record_item(key, &*backup, version, backup.due()))?)
        }
        Write::Restore(restore, expect) => {
            let key = Key::restore(&restore.instance_id, &restore.id);
            one(put_record(table, key, expect, |key, version| record_item(key, &*restore, version, restore.due()))?)
        }
        Write::LedgerLine(restore, line) => {
            one(put(table, record_item(Key::ledger(&restore, line.number), &*line, None, None)?, None)?)
        }
        Write::ClaimName(instance, name, backup) => one(claim_name(table, Key::name(&instance, &name), &backup)?),
        Write::ReleaseName(instance, name, backup) => one(release_name(table, Key::name(&instance, &name), &backup)?),
        Write::ClaimJob(job, due) => one(claim_job(table, &job, due)?),
        Write::ReleaseJob(lease) => one(release_job(table, &lease)?),
        Write::HoldLease(lease) => one(hold_lease(table, &lease)?),
        Write::RemoveAccount(account, version) => {
            let key = Key::account(&account.region, &account.instance_id, &account.backup_id);
            one(delete(table, key, Some(at_version(version)))?)
        }
        Write::Usage(record) => {
            let item = record_item(Key::usage(&record), &*record, None, None)?;
            one(put(table, item, Some(("attribute_not_exists(PK)", Vec::new())))?)
        }
        Write::UsageExport(record, expect) => {
            let key = Key::usage_export(&record.region);
            one(put_record(table, key, expect, |key, version| record_item(key, &*record, version, None))?)
        }
        Write::AutoBackup(record, expect) => {
            let key = Key::auto_backup(&record.instance_id);
            one(put_record(table, key, expect, |key, version| record_item(key, &*record, version, record.due()))?)
        }
        Write::RemoveAutoBackup(id, version) => one(delete(table, Key::auto_backup(&id), Some(at_version(version)))?),
        Write::Notice(notice) => {
            let key = Key::notice(&notice.instance_id, &notice.id);
            one(put(table, record_item(key, &*notice, None, Some(notice.due()))?, None)?)
        }
        Write::RemoveNotice(instance, id) => one(delete(table, Key::notice(&instance, &id), None)?),
        Write::Account(account, expect) => {
            let key = Key::account(&account.region, &account.instance_id, &account.backup_id);
            one(put_record(table, key, expect, |key, version| record_item(key, &*account, version, None))?)
        }
        Write::Idempotency(record) => {
            one(put(table, idempotency_item(&record), Some(("attribute_not_exists(PK)", Vec::new())))?)
        }
    }
}

/// Gives a name to a backup if it is free.
fn claim_name(table: &str, name: Key, backup: &BackupId) -> Result<TransactWriteItem, CatalogError> {
    let mut item = item(name);
    item.insert("backupId".to_owned(), text(backup.as_str()));
    put(table, item, Some(("attribute_not_exists(PK)", Vec::new())))
}

/// Frees a name if it is the backup's.
fn release_name(table: &str, name: Key, backup: &BackupId) -> Result<TransactWriteItem, CatalogError> {
    // A backup holds its name until the commit that frees it, so another backup can have the name only if it was freed
    // before. In that case this action is dropped, because freeing a name never fails a commit.
    let condition = ("attribute_not_exists(PK) OR backupId = :backup", vec![(":backup", text(backup.as_str()))]);
    delete(table, name, Some(condition))
}

/// Makes this the instance's job if it has none.
fn claim_job(table: &str, job: &JobRef, due: Time) -> Result<TransactWriteItem, CatalogError> {
    update(
        table,
        Key::lease(job.instance_id()),
        "SET job = :job, dueKind = :kind, dueAt = :due",
        "attribute_not_exists(job)",
        vec![(":job", text(record_of(job)?)), (":kind", text(DueKind::Job.as_str())), (":due", text(sortable(due)))],
    )
}

/// Ends the instance's job and gives up the lease, if it is ours.
fn release_job(table: &str, lease: &Lease) -> Result<TransactWriteItem, CatalogError> {
    update(
        table,
        Key::lease(&lease.instance_id),
        "REMOVE job, heldUntil, dueKind, dueAt",
        OURS,
        vec![(":fence", fence(lease))],
    )
}

/// Requires that the lease is ours.
fn hold_lease(table: &str, lease: &Lease) -> Result<TransactWriteItem, CatalogError> {
    let key = Key::lease(&lease.instance_id);
    let check = ConditionCheck::builder()
        .table_name(table)
        .key(PK, text(key.pk))
        .key(SK, text(key.sk))
        .condition_expression(OURS)
        .expression_attribute_values(":fence", fence(lease))
        .build()
        .map_err(|error| bad("lease", &error))?;
    Ok(TransactWriteItem::builder().condition_check(check).build())
}

type Condition<'a> = (&'a str, Vec<(&'a str, AttributeValue)>);

/// The condition that a record is at this version.
fn at_version(version: u64) -> Condition<'static> {
    ("version = :version", vec![(":version", AttributeValue::N(version.to_string()))])
}

/// Puts a versioned record under the condition that it expects.
fn put_record(
    table: &str,
    key: Key,
    expect: Expect,
    item: impl FnOnce(Key, Option<u64>) -> Result<Item, CatalogError>,
) -> Result<TransactWriteItem, CatalogError> {
    match expect {
        Expect::Absent => put(table, item(key, Some(1))?, Some(("attribute_not_exists(PK)", Vec::new()))),
        Expect::Version(version) => put(table, item(key, Some(version + 1))?, Some(at_version(version))),
    }
}

fn put(table: &str, item: Item, condition: Option<Condition<'_>>) -> Result<TransactWriteItem, CatalogError> {
    let mut put = Put::builder().table_name(table).set_item(Some(item));
    if let Some((condition, values)) = condition {
        put = put.condition_expression(condition);
        for (name, value) in values {
            put = put.expression_attribute_values(name, value);
        }
    }
    Ok(TransactWriteItem::builder().put(put.build().map_err(|error| bad("put", &error))?).build())
}

fn delete(table: &str, key: Key, condition: Option<Condition<'_>>) -> Result<TransactWriteItem, CatalogError> {
    let mut delete = Delete::builder().table_name(table).key(PK, text(key.pk)).key(SK, text(key.sk));
    if let Some((condition, values)) = condition {
        delete = delete.condition_expression(condition);
        for (name, value) in values {
            delete = delete.expression_attribute_values(name, value);
        }
    }
    Ok(TransactWriteItem::builder().delete(delete.build().map_err(|error| bad("delete", &error))?).build())
}

fn update(
    table: &str,
    key: Key,
    expression: &str,
    condition: &str,
    values: Vec<(&str, AttributeValue)>,
) -> Result<TransactWriteItem, CatalogError> {
    let mut update = Update::builder()
        .table_name(table)
        .key(PK, text(key.pk))
        .key(SK, text(key.sk))
        .update_expression(expression)
        .condition_expression(condition);
    for (name, value) in values {
        update = update.expression_attribute_values(name, value);
    }
    Ok(TransactWriteItem::builder().update(update.build().map_err(|error| bad("update", &error))?).build())
}
