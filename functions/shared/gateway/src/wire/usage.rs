//! Usage, as callers see it.

use milvault_billing::lines::Line;
use milvault_model::{BackupId, BackupKind, CorrectionId, Currency, Decimal, InstanceId, Region};
use serde::Serialize;

use super::Timestamp;

/// What a backup is billed for a period.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageLineView {
    period_start: Timestamp,
    period_end: Timestamp,
    region: Region,
    instance_id: InstanceId,
    backup_id: BackupId,
    #[serde(rename = "type")]
    kind: BackupKind,
    byte_hours: i64,
    logical_bytes: u64,
    /// Per gibibyte and hour.
    unit_price: Option<Decimal>,
    /// Exact: whoever makes an invoice rounds it.
    cost: Option<Decimal>,
    currency: Option<Currency>,
    correction: Option<CorrectionView>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct CorrectionView {
    id: CorrectionId,
    reason: String,
    made_at: Timestamp,
}

impl UsageLineView {
    /// The object of a line.
    pub fn of(line: &Line) -> Self {
        let charge = line.charge.as_ref();
        Self {
            period_start: line.begins.into(),
            period_end: line.ends.into(),
            region: line.region.clone(),
            instance_id: line.instance_id.clone(),
            backup_id: line.backup_id.clone(),
            kind: line.kind,
            byte_hours: line.byte_hours,
            logical_bytes: line.logical_bytes,
            unit_price: charge.map(|charge| charge.unit_price.clone()),
            cost: charge.map(|charge| charge.cost.clone()),
            currency: charge.map(|charge| charge.currency.clone()),
            correction: line.correction.as_ref().map(|made| CorrectionView {
                id: made.id.clone(),
                reason: made.reason.clone(),
                made_at: made.made_at.into(),
            }),
        }
    }
}
