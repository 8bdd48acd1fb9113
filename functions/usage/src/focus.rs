//! Usage in the form of the FinOps Open Cost and Usage Specification (FOCUS) 1.0: a CSV file with a line per charge.
//!
//! FOCUS has no charge without a cost and a currency, so lines of a region without a price are left out.

use chrono::{DateTime, SecondsFormat};
use milvault_billing::lines::Line;
use milvault_model::{Charge, Decimal, Hour, Month, Time};

/// A column's name and the function that makes its value in a line.
type Column = (&'static str, fn(&Charged<'_>) -> String);

/// A usage line that has a cost.
struct Charged<'a> {
    line: &'a Line,
    charge: &'a Charge,
    account: &'a str,
}

const PROVIDER: &str = "Milvault";
const UNIT: &str = "GiB-Hours";

/// The specification's columns, custom columns with the prefix `x_`, and columns that `focus-validator` 1.0 still
/// requires under the names of a draft.
const COLUMNS: [Column; 53] = [
    ("AvailabilityZone", nothing),
    ("BilledCost", cost),
    ("BillingAccountId", |of| of.account.to_owned()),
    ("BillingAccountName", nothing),
    ("BillingCurrency", |of| of.charge.currency.as_str().to_owned()),
    ("BillingPeriodEnd", |of| time(of.month().next().first().start())),
    ("BillingPeriodStart", |of| time(of.month().first().start())),
    ("ChargeCategory", |_| "Usage".to_owned()),
    ("ChargeClass", |of| of.line.correction.as_ref().map(|_| "Correction".to_owned()).unwrap_or_default()),
    ("ChargeDescription", description),
    ("ChargeFrequency", |_| "Usage-Based".to_owned()),
    ("ChargePeriodEnd", |of| time(of.line.ends)),
    ("ChargePeriodStart", |of| time(of.line.begins)),
    ("CommitmentDiscountCategory", nothing),
    ("CommitmentDiscountId", nothing),
    ("CommitmentDiscountName", nothing),
    ("CommitmentDiscountStatus", nothing),
    ("CommitmentDiscountType", nothing),
    ("ConsumedQuantity", gibibyte_hours),
    ("ConsumedUnit", |_| UNIT.to_owned()),
    ("ContractedCost", cost),
    ("ContractedUnitPrice", unit_price),
    ("EffectiveCost", cost),
    ("InvoiceIssuerName", |_| PROVIDER.to_owned()),
    ("ListCost", cost),
    ("ListUnitPrice", unit_price),
    ("PricingCategory", |_| "Standard".to_owned()),
    ("PricingQuantity", gibibyte_hours),
    ("PricingUnit", |_| UNIT.to_owned()),
    ("ProviderName", |_| PROVIDER.to_owned()),
    ("PublisherName", |_| PROVIDER.to_owned()),
    ("RegionId", |of| of.line.region.to_string()),
    ("RegionName", |of| of.line.region.to_string()),
    ("ResourceId", |of| of.line.backup_id.to_string()),
    ("ResourceName", nothing),
    ("ResourceType", |_| "Backup".to_owned()),
    ("ServiceCategory", |_| "Storage".to_owned()),
    ("ServiceName", |_| "Milvault snapshots".to_owned()),
    ("SkuId", |_| "snapshot-storage".to_owned()),
    ("SkuPriceId", |of| format!("{}/{}/{}", of.line.region, of.charge.currency.as_str(), of.charge.unit_price)),
    ("SubAccountId", |of| of.line.instance_id.to_string()),
    ("SubAccountName", nothing),
    ("Tags", nothing),
    ("x_BackupType", |of| of.line.kind.to_string()),
    ("x_ByteHours", |of| of.line.byte_hours.to_string()),
    ("x_CorrectionId", |of| of.line.correction.as_ref().map(|made| made.id.as_str().to_owned()).unwrap_or_default()),
    ("x_InstanceId", |of| of.line.instance_id.to_string()),
    ("x_LogicalBytes", |of| of.line.logical_bytes.to_string()),
    ("ChargeType", |_| "Usage".to_owned()),
    ("InvoiceIssuer", |_| PROVIDER.to_owned()),
    ("Provider", |_| PROVIDER.to_owned()),
    ("Publisher", |_| PROVIDER.to_owned()),
    ("ResourceID", |of| of.line.backup_id.to_string()),
];

impl Charged<'_> {
    fn month(&self) -> Month {
        Month::containing(Hour::containing(self.line.begins))
    }
}

fn nothing(_: &Charged<'_>) -> String {
    String::new()
}

fn cost(of: &Charged<'_>) -> String {
    decimal(&of.charge.cost)
}

fn unit_price(of: &Charged<'_>) -> String {
    decimal(&of.charge.unit_price)
}

fn gibibyte_hours(of: &Charged<'_>) -> String {
    decimal(&Decimal::one().for_gibibytes_of(of.line.byte_hours))
}

/// A decimal that always has a point, because readers that guess types take a column of whole numbers for integers.
fn decimal(number: &Decimal) -> String {
    let text = number.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

fn time(time: Time) -> String {
    DateTime::to_rfc3339_opts(&time, SecondsFormat::Secs, true)
}

fn description(of: &Charged<'_>) -> String {
    match &of.line.correction {
        Some(correction) => correction.reason.clone(),
        None => format!("Snapshot storage of {} backup {}", of.line.kind.to_string().to_lowercase(), of.line.backup_id),
    }
}

/// The lines as a CSV file with a header.
pub(crate) fn file(lines: &[Line], account: &str) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let charged = lines.iter().filter_map(|line| Some(Charged { line, charge: line.charge.as_ref()?, account }));
    let rows = charged.map(|of| COLUMNS.iter().map(|(_, value)| value(&of)).collect::<Vec<_>>());
    let header = COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for row in [header].into_iter().chain(rows) {
        // This can't fail: it writes to memory, and every row has the header's length.
        writer.write_record(row).unwrap_or_default();
    }
    writer.into_inner().unwrap_or_default()
}

/// The lines as CSV text.
pub(crate) fn text(lines: &[Line], account: &str) -> String {
    String::from_utf8(file(lines, account)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use milvault_model::BackupKind;
    use serde_json::json;

    use super::*;

    fn line(charge: Option<(&str, &str)>, byte_hours: i64) -> Line {
        let charge = charge.map(|(unit_price, cost)| {
            serde_json::from_value(json!({ "currency": "EUR", "unitPrice": unit_price, "cost": cost })).unwrap()
        });
        Line {
            begins: "2026-12-31T00:00:00Z".parse().unwrap(),
            ends: "2027-01-01T00:00:00Z".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            instance_id: "orders".parse().unwrap(),
            backup_id: "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            kind: BackupKind::Auto,
            byte_hours,
            logical_bytes: 7,
            charge,
            correction: None,
        }
    }

    fn rows(lines: &[Line]) -> Vec<std::collections::HashMap<String, String>> {
        let file = file(lines, "arn:aws:iam::123456789012:root");
        csv::Reader::from_reader(file.as_slice()).deserialize().map(Result::unwrap).collect()
    }

    #[test]
    fn a_line_is_a_charge_with_exact_amounts() {
        let rows = rows(&[line(Some(("0.0000315", "0.063")), 2_000 << 30), line(Some(("3", "-3")), -(1 << 30))]);
        let expected = [
            ("BilledCost", "0.063"),
            ("BillingPeriodStart", "2026-12-01T00:00:00Z"),
            ("BillingPeriodEnd", "2027-01-01T00:00:00Z"),
            ("ChargePeriodEnd", "2027-01-01T00:00:00Z"),
            ("ChargeClass", ""),
            ("ConsumedQuantity", "2000.0"),
            ("ListUnitPrice", "0.0000315"),
            ("ResourceId", "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV"),
            ("x_ByteHours", "2147483648000"),
            ("x_BackupType", "AUTO"),
        ];
        for (column, value) in expected {
            assert_eq!(rows[0][column], value, "{column}");
        }
        assert_eq!((rows[1]["BilledCost"].as_str(), rows[1]["PricingQuantity"].as_str()), ("-3.0", "-1.0"));
    }

    #[test]
    fn what_has_no_cost_is_no_charge() {
        assert!(rows(&[line(None, 5)]).is_empty());
    }

    #[test]
    fn what_people_wrote_is_quoted() {
        let mut correction = line(Some(("1", "1")), 1 << 30);
        correction.correction = serde_json::from_value(json!({
            "id": "one", "reason": "say \"no\", twice\nor more", "madeAt": "2027-01-02T00:00:00Z"
        }))
        .unwrap();
        let rows = rows(&[correction]);
        assert_eq!(rows[0]["ChargeDescription"], "say \"no\", twice\nor more");
        assert_eq!((rows[0]["ChargeClass"].as_str(), rows[0]["x_CorrectionId"].as_str()), ("Correction", "one"));
    }
}
