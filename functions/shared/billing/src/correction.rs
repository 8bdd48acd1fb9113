//! Corrections: a metered hour never changes, so what was wrong with it is put right by a record beside it.

use futures::{TryStreamExt, future::ready};
use milvault_jobs::{Error, FieldError, Jobs};
use milvault_model::{
    BackupId, Charge, Correction, CorrectionId, Currency, Decimal, Hour, InstanceId, Region, UsageRecord,
};
use milvault_ports::{CatalogError, Expect, Write, items};

/// What is to be put right, and by how much.
#[derive(Debug, Clone)]
pub struct CorrectionRequest {
    /// Given by who asks: the same one is made once.
    pub id: CorrectionId,
    /// Where the bytes are.
    pub region: Region,
    /// The metered hour.
    pub hour: Hour,
    /// Of which instance.
    pub instance_id: InstanceId,
    /// Which backup.
    pub backup_id: BackupId,
    /// So much more for the hour, or less.
    pub byte_hours: i64,
    /// For what a gibibyte is charged for the hour; as the metered record says if not given.
    pub price: Option<(Currency, Decimal)>,
    /// For people.
    pub reason: String,
}

/// Puts a metered hour right. Asking twice is asking once.
///
/// # Errors
/// [`Error::Invalid`] for an hour in which the backup has no record, and for taking back more than there is;
/// [`Error::KeyReused`] if the id was given to another correction of it.
pub async fn correct(jobs: &Jobs, request: CorrectionRequest) -> Result<UsageRecord, Error> {
    let wrong = |field: &str, what: &str| Error::Invalid(vec![FieldError::new(field, what)]);
    let not_metered = || wrong("/hour", "is not an hour for which this backup is metered in this region");
    if request.byte_hours == 0 {
        return Err(wrong("/byteHours", "corrects nothing"));
    }
    loop {
        // Before the records: whoever changes any of the region's at the same moment, or writes them out, is noticed.
        let Some(export) = jobs.ports.catalog.usage_export(&request.region).await? else { return Err(not_metered()) };
        let records = records(jobs, &request).await?;
        let Some(metered) = records.iter().find(|record| record.correction.is_none()) else {
            return Err(not_metered());
        };
        let is_this = |record: &&UsageRecord| record.correction.as_ref().is_some_and(|made| made.id == request.id);
        if let Some(made) = records.iter().find(is_this) {
            let is_same = made.byte_hours == request.byte_hours
                && made.correction.as_ref().is_some_and(|made| made.reason == request.reason);
            return if is_same { Ok(made.clone()) } else { Err(Error::KeyReused) };
        }
        let sum = records.iter().map(|record| i128::from(record.byte_hours)).sum::<i128>();
        let corrected = sum + i128::from(request.byte_hours);
        if corrected < 0 {
            return Err(wrong("/byteHours", "takes back more than there is"));
        }
        if corrected > i128::from(i64::MAX) {
            return Err(wrong("/byteHours", "is more than can be counted"));
        }
        let price = request.price.clone();
        let price = price.or_else(|| metered.charge.clone().map(|charge| (charge.currency, charge.unit_price)));
        let record = UsageRecord {
            byte_hours: request.byte_hours,
            charge: price.map(|(currency, unit_price)| {
                let cost = unit_price.for_gibibytes_of(request.byte_hours);
                Charge { currency, unit_price, cost }
            }),
            correction: Some(Correction {
                id: request.id.clone(),
                reason: request.reason.clone(),
                made_at: jobs.now(),
            }),
            ..metered.clone()
        };
        let unchanged = Write::UsageExport(Box::new(export.value), Expect::Version(export.version));
        match jobs.ports.catalog.commit(vec![Write::Usage(Box::new(record.clone())), unchanged]).await {
            Ok(()) => return Ok(record),
            // Another one was made, or a day written out, at the same moment: see what is there now.
            Err(CatalogError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The record of the hour and its corrections so far.
async fn records(jobs: &Jobs, request: &CorrectionRequest) -> Result<Vec<UsageRecord>, Error> {
    let CorrectionRequest { region, hour, instance_id, backup_id, .. } = request;
    let records = items(1_000, |page| jobs.ports.catalog.usage(region, *hour, Some(instance_id), page));
    Ok(records.try_filter(|record| ready(record.backup_id == *backup_id)).try_collect().await?)
}
