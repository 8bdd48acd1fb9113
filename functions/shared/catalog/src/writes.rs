//! Commits: all of their writes or none.

use std::time::Duration;

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update},
};
use milvault_jobs::ports::{CatalogError, Expect, Lease, Write};
use milvault_model::DueKind;

use crate::{
    DynamoCatalog,
    items::{Item, bad, idempotency_item, item, record_item, record_of},
    keys::{Key, PK, SK, sortable},
    text, unavailable,
};

/// The most that DynamoDB commits at once.
const LARGEST_COMMIT: usize = 100;

/// Another transaction had one of the items at the same moment: so often is it tried again, ever later.
const TRIES: u32 = 6;

pub(crate) async fn commit(catalog: &DynamoCatalog, writes: Vec<Write>) -> Result<(), CatalogError> {
    let mut actions = Vec::new();
    // Which write an action belongs to: some writes take two.
    let mut owners = Vec::new();
    for (number, write) in writes.into_iter().enumerate() {
        for action in actions_of(&catalog.table, write)? {
            actions.push(action);
            owners.push(number);
        }
    }
    if actions.len() > LARGEST_COMMIT {
        return Err(CatalogError::Unavailable(format!("a commit of {} items is too large", actions.len())));
    }
    for attempt in 0.. {
        let sent = catalog.client.transact_write_items().set_transact_items(Some(actions.clone())).send().await;
        let error = match sent {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) = error.as_service_error() else {
            return Err(unavailable(error));
        };
        let codes: Vec<&str> =
            canceled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or("None")).collect();
        if let Some(first) = codes.iter().position(|code| *code == "ConditionalCheckFailed") {
            return Err(CatalogError::Conflict(owners.get(first).copied().unwrap_or_default()));
        }
        if attempt >= TRIES {
            return Err(CatalogError::Unavailable(format!("the commit was cancelled: {}", codes.join(", "))));
        }
        tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
    }
    Ok(())
}

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
        Write::RemoveInstance(id, version) => {
            let condition = ("version = :version", vec![(":version", AttributeValue::N(version.to_string()))]);
            Ok(vec![
                delete(table, Key::instance(&id), Some(condition))?,
                delete(table, Key::listed_instance(&id), None)?,
            ])
        }
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
        Write::ClaimName(instance, name, backup) => {
            let mut item = item(Key::name(&instance, &name));
            item.insert("backupId".to_owned(), text(backup.as_str()));
            one(put(table, item, Some(("attribute_not_exists(PK)", Vec::new())))?)
        }
        Write::ReleaseName(instance, name, backup) => {
            // A backup holds its name until the commit that frees it, so this can fail only if that was done before:
            // and then the other conditions of the commit fail too.
            let condition =
                ("attribute_not_exists(PK) OR backupId = :backup", vec![(":backup", text(backup.as_str()))]);
            one(delete(table, Key::name(&instance, &name), Some(condition))?)
        }
        Write::ClaimJob(job, due) => one(update(
            table,
            Key::lease(job.instance_id()),
            "SET job = :job, dueKind = :kind, dueAt = :due",
            "attribute_not_exists(job)",
            vec![
                (":job", text(record_of(&job)?)),
                (":kind", text(DueKind::Job.as_str())),
                (":due", text(sortable(due))),
            ],
        )?),
        Write::ReleaseJob(lease) => one(update(
            table,
            Key::lease(&lease.instance_id),
            "REMOVE job, heldUntil, dueKind, dueAt",
            OURS,
            vec![(":fence", fence(&lease))],
        )?),
        Write::HoldLease(lease) => {
            let key = Key::lease(&lease.instance_id);
            let check = ConditionCheck::builder()
                .table_name(table)
                .key(PK, text(key.pk))
                .key(SK, text(key.sk))
                .condition_expression(OURS)
                .expression_attribute_values(":fence", fence(&lease))
                .build()
                .map_err(|error| bad("lease", &error))?;
            one(TransactWriteItem::builder().condition_check(check).build())
        }
        Write::Idempotency(record) => {
            one(put(table, idempotency_item(&record), Some(("attribute_not_exists(PK)", Vec::new())))?)
        }
    }
}

/// A lease is ours while no one has taken it since, even past its time.
const OURS: &str = "fence = :fence AND attribute_exists(heldUntil)";

fn fence(lease: &Lease) -> AttributeValue {
    AttributeValue::N(lease.fence.to_string())
}

type Condition<'a> = (&'a str, Vec<(&'a str, AttributeValue)>);

/// Puts a versioned record under what it expects to find.
fn put_record(
    table: &str,
    key: Key,
    expect: Expect,
    item: impl FnOnce(Key, Option<u64>) -> Result<Item, CatalogError>,
) -> Result<TransactWriteItem, CatalogError> {
    match expect {
        Expect::Absent => put(table, item(key, Some(1))?, Some(("attribute_not_exists(PK)", Vec::new()))),
        Expect::Version(version) => {
            let expected = (":version", AttributeValue::N(version.to_string()));
            put(table, item(key, Some(version + 1))?, Some(("version = :version", vec![expected])))
        }
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
