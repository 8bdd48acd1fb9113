//! Gets, queries, and the lease's conditional updates.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput, builders::UpdateItemFluentBuilder};
use milvault_model::{DueKind, Time};
use milvault_ports::{CatalogError, DueEntry, DueItem, Lease, Page, PageRequest};

use crate::{
    items::{Item, bad, read_text, text},
    keys::{Key, PK, SK, sortable},
    lease::{OURS, fence},
    retry::{TRIES, unavailable, wait},
    table::DynamoCatalog,
};

/// The name of the index by due time.
const DUE_INDEX: &str = "due";

/// Separates the parts of a cursor into the index. No key contains it.
const SEPARATOR: char = '\n';

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// Makes a conditional update; `None` if its condition doesn't hold.
///
/// A concurrent commit of the same item makes the update fail, for example if a worker renews its lease while one of
/// its commits requires the lease. The SDK doesn't retry this failure, so it is retried here.
pub(crate) async fn send_update(request: UpdateItemFluentBuilder) -> Result<Option<UpdateItemOutput>, CatalogError> {
    for attempt in 0.. {
        let error = match request.clone().send().await {
            Ok(updated) => return Ok(Some(updated)),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => return Ok(None),
            Some(UpdateItemError::TransactionConflictException(_)) if attempt < TRIES => wait(attempt).await,
            _ => return Err(unavailable(error)),
        }
    }
    Ok(None)
}

impl DynamoCatalog {
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Item>, CatalogError> {
        let request = self.client.get_item().table_name(&self.table).consistent_read(true);
        let got = request.key(PK, text(&key.pk)).key(SK, text(&key.sk)).send().await;
        Ok(got.map_err(unavailable)?.item)
    }

    /// The items of a partition whose sort keys begin with `prefix`, after the key `prefix` + `page.after`.
    ///
    /// It queries until the page is full, because DynamoDB stops each query at 1 MB.
    pub(crate) async fn query(
        &self,
        partition: &str,
        prefix: &str,
        order: Order,
        page: PageRequest,
    ) -> Result<Page<Item>, CatalogError> {
        let mut start = page.after.map(|after| {
            HashMap::from([(PK.to_owned(), text(partition)), (SK.to_owned(), text(format!("{prefix}{after}")))])
        });
        let mut items: Vec<Item> = Vec::new();
        loop {
            let mut request = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .expression_attribute_values(":pk", text(partition))
                .scan_index_forward(order == Order::Ascending)
                .limit(i32::try_from(page.limit - items.len()).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start);
            request = if prefix.is_empty() {
                request.key_condition_expression("PK = :pk")
            } else {
                request
                    .key_condition_expression("PK = :pk AND begins_with(SK, :prefix)")
                    .expression_attribute_values(":prefix", text(prefix))
            };
            let answer = request.send().await.map_err(unavailable)?;
            items.extend(answer.items.unwrap_or_default());
            start = answer.last_evaluated_key;
            if start.is_none() || items.len() >= page.limit {
                let next = start.map(|key| {
                    read_text(&key, SK)?
                        .strip_prefix(prefix)
                        .map(str::to_owned)
                        .ok_or_else(|| bad(SK, &"not of the listing"))
                });
                return Ok(Page { items, next: next.transpose()? });
            }
        }
    }

    /// Updates the lease item if the lease is ours; `:time` stands for `time`.
    pub(crate) async fn update_lease(&self, lease: &Lease, update: &str, time: Time) -> Result<bool, CatalogError> {
        let key = Key::lease(&lease.instance_id);
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(PK, text(key.pk))
            .key(SK, text(key.sk))
            .update_expression(update)
            .condition_expression(OURS)
            .expression_attribute_values(":fence", fence(lease))
            .expression_attribute_values(":time", text(sortable(time)));
        Ok(send_update(request).await?.is_some())
    }
}

pub(crate) async fn due(
    catalog: &DynamoCatalog,
    kind: DueKind,
    now: Time,
    page: PageRequest,
) -> Result<Page<DueEntry>, CatalogError> {
    let start = page.after.as_deref().and_then(|cursor| {
        let mut parts = cursor.split(SEPARATOR);
        Some(HashMap::from([
            ("dueKind".to_owned(), text(kind.as_str())),
            ("dueAt".to_owned(), text(parts.next()?)),
            (PK.to_owned(), text(parts.next()?)),
            (SK.to_owned(), text(parts.next()?)),
        ]))
    });
    let answer = catalog
        .client
        .query()
        .table_name(&catalog.table)
        .index_name(DUE_INDEX)
        .key_condition_expression("dueKind = :kind AND dueAt <= :now")
        .expression_attribute_values(":kind", text(kind.as_str()))
        .expression_attribute_values(":now", text(sortable(now)))
        .limit(i32::try_from(page.limit).unwrap_or(i32::MAX))
        .set_exclusive_start_key(start)
        .send()
        .await
        .map_err(unavailable)?;
    let next = answer.last_evaluated_key.as_ref().map(due_cursor).transpose()?;
    let items = answer.items.unwrap_or_default().iter().map(due_item).collect::<Result<_, _>>()?;
    Ok(Page { items, next })
}

/// Where a listing of the index goes on after this key.
fn due_cursor(key: &Item) -> Result<String, CatalogError> {
    let [due_at, pk, sk] = [read_text(key, "dueAt")?, read_text(key, PK)?, read_text(key, SK)?];
    Ok(format!("{due_at}{SEPARATOR}{pk}{SEPARATOR}{sk}"))
}

fn due_item(item: &Item) -> Result<DueEntry, CatalogError> {
    let (pk, sk) = (read_text(item, PK)?, read_text(item, SK)?);
    let due_at = read_text(item, "dueAt")?;
    let at = due_at.parse().map_err(|error| bad("dueAt", &error))?;
    let instance = pk.strip_prefix("INSTANCE#").ok_or_else(|| bad(PK, &"not of an instance"))?;
    let instance = instance.parse().map_err(|error| bad(PK, &error))?;
    let item = match sk.split_once('#') {
        None if sk == "LEASE" => DueItem::Job(instance),
        None if sk == "AUTO" => DueItem::AutoBackup(instance),
        Some(("NOTICE", id)) => DueItem::Notice(instance, id.to_owned()),
        Some(("BACKUP", id)) => DueItem::Backup(instance, id.parse().map_err(|error| bad(SK, &error))?),
        Some(("RESTORE", id)) => DueItem::Restore(instance, id.parse().map_err(|error| bad(SK, &error))?),
        _ => return Err(bad(SK, &"not of something due")),
    };
    Ok(DueEntry { at, item })
}
