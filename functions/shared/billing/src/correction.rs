//! Corrections of metered usage. A metered hour never changes; a correction is a further record of the same hour.

use futures::{TryStreamExt, future::ready};
use milvault_jobs::{Error, FieldError, Jobs};
use milvault_model::{
    BackupId, Charge, Correction, CorrectionId, Currency, Decimal, Hour, InstanceId, Region, UsageRecord,
};
use milvault_ports::{CatalogError, Expect, Write, items};

/// A requested correction.
#[derive(Debug, Clone)]
pub struct CorrectionRequest {
    /// The id that the caller chose. A correction with the same id is made only once.
    pub id: CorrectionId,
    /// The region that the bytes are stored in.
    pub region: Region,
    /// The metered hour.
    pub hour: Hour,
    /// The instance of the backup.
    pub instance_id: InstanceId,
    /// The backup's id.
    pub backup_id: BackupId,
    /// The byte-hours to add, or, if negative, to subtract.
    pub byte_hours: i64,
    /// The price of a gibibyte for the hour; the metered record's price if not given.
    pub price: Option<(Currency, Decimal)>,
    /// The reason, for people.
    pub reason: String,
}

/// Corrects a metered hour. Repeating the request has no further effect.
///
/// # Errors
/// [`Error::Invalid`] if the backup has no record of the hour, or if the corrected usage would be negative;
/// [`Error::KeyReused`] if another correction of the record has this id.
pub async fn correct(jobs: &Jobs, request: CorrectionRequest) -> Result<UsageRecord, Error> {
    let invalid = |field: &str, reason: &str| Error::Invalid(vec![FieldError::new(field, reason)]);
    let not_metered = || invalid("/hour", "is not an hour for which this backup is metered in this region");
    if request.byte_hours == 0 {
        return Err(invalid("/byteHours", "is 0, which corrects nothing"));
    }
    loop {
        // Read before the records, so that the commit fails if another request corrects or exports the region's usage.
        let Some(export) = jobs.ports.catalog.usage_export(&request.region).await? else { return Err(not_metered()) };
        let records = records(jobs, &request).await?;
        let Some(metered) = records.iter().find(|record| record.correction.is_none()) else {
            return Err(not_metered());
        };
        let has_id = |record: &&UsageRecord| record.correction.as_ref().is_some_and(|known| known.id == request.id);
        if let Some(earlier) = records.iter().find(has_id) {
            let is_same = earlier.byte_hours == request.byte_hours
                && earlier.correction.as_ref().is_some_and(|known| known.reason == request.reason);
            return if is_same { Ok(earlier.clone()) } else { Err(Error::KeyReused) };
        }
        let sum = records.iter().map(|record| i128::from(record.byte_hours)).sum::<i128>();
        let corrected = sum + i128::from(request.byte_hours);
        if corrected < 0 {
            return Err(invalid("/byteHours", "subtracts more than was metered"));
        }
        if corrected > i128::from(i64::MAX) {
            return Err(invalid("/byteHours", "exceeds the largest number that can be counted"));
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
            // Another correction was made or a day was exported at the same moment.
            Err(CatalogError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads the record of the hour and its corrections so far.
async fn records(jobs: &Jobs, request: &CorrectionRequest) -> Result<Vec<UsageRecord>, Error> {
    let CorrectionRequest { region, hour, instance_id, backup_id, .. } = request;
    let records = items(1_000, |page| jobs.ports.catalog.usage(region, *hour, Some(instance_id), page));
    Ok(records.try_filter(|record| ready(record.backup_id == *backup_id)).try_collect().await?)
}
