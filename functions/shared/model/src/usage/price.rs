//! The deployment's prices, and what an hour costs.

use std::{collections::BTreeMap, str::FromStr};

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::{Decimal, Invalid, Metered, Region, text::text_type};

/// The price of a gibibyte for an hour, in a region, from a day on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// The region that the price applies to.
    pub region: Region,
    /// The first day, in UTC, on which the price applies. It applies until the next price of the region.
    pub from: NaiveDate,
    /// The currency, such as `EUR`.
    pub currency: Currency,
    /// The price of storage.
    pub storage_gib_hour: Decimal,
    /// The price of snapshots, if it differs from the price of storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_gib_hour: Option<Decimal>,
}

impl Price {
    fn is_negative(&self) -> bool {
        [Some(&self.storage_gib_hour), self.snapshot_gib_hour.as_ref()].into_iter().flatten().any(Decimal::is_negative)
    }
}

text_type! {
    /// A currency code of ISO 4217: three capital letters.
    Currency
}

impl FromStr for Currency {
    type Err = Invalid;

    fn from_str(code: &str) -> Result<Self, Invalid> {
        if code.len() == 3 && code.chars().all(|c| c.is_ascii_uppercase()) {
            Ok(Self(code.to_owned()))
        } else {
            Err(Invalid::new("a currency is three capital letters, such as EUR"))
        }
    }
}

/// The deployment's prices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Price>", into = "Vec<Price>")]
pub struct Prices(BTreeMap<(Region, NaiveDate), Price>);

impl TryFrom<Vec<Price>> for Prices {
    type Error = Invalid;

    fn try_from(list: Vec<Price>) -> Result<Self, Invalid> {
        let count = list.len();
        if list.iter().any(Price::is_negative) {
            return Err(Invalid::new("a price isn't below zero"));
        }
        let prices: BTreeMap<_, _> =
            list.into_iter().map(|price| ((price.region.clone(), price.from), price)).collect();
        if prices.len() == count {
            Ok(Self(prices))
        } else {
            Err(Invalid::new("a region has two prices from the same day on"))
        }
    }
}

impl From<Prices> for Vec<Price> {
    fn from(prices: Prices) -> Self {
        prices.0.into_values().collect()
    }
}

impl Prices {
    /// The charge for these bytes in this hour; `None` if the region has no price then, which differs from a price of
    /// zero.
    pub fn charge(&self, region: &Region, metered: Metered) -> Option<Charge> {
        let day = metered.hour.day();
        let in_force = self.0.range((region.clone(), NaiveDate::MIN)..=(region.clone(), day)).next_back();
        in_force.map(|(_, price)| {
            let unit_price = price.snapshot_gib_hour.as_ref().unwrap_or(&price.storage_gib_hour).clone();
            let cost = unit_price.for_gibibytes_of(metered.byte_hours);
            Charge { currency: price.currency.clone(), unit_price, cost }
        })
    }
}

/// The exact charge for an hour. Rounding is left to the invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Charge {
    /// The currency of both amounts.
    pub currency: Currency,
    /// The price per gibibyte and hour that was in force.
    pub unit_price: Decimal,
    /// The cost of all bytes.
    pub cost: Decimal,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hour;

    fn price(from: &str, per_gib_hour: &str) -> Price {
        let text = serde_json::json!({
            "region": "eu-west-1", "from": from, "currency": "EUR", "storageGibHour": per_gib_hour
        });
        serde_json::from_value(text).unwrap()
    }

    fn hour(text: &str) -> Hour {
        Hour::containing(text.parse().unwrap())
    }

    #[test]
    fn the_price_in_force_is_the_youngest_of_the_hours_day() {
        let prices = vec![price("2026-02-01", "0.2"), price("2026-01-01", "0.1")];
        let prices = Prices::try_from(prices).unwrap();
        let charge = |region: &str, at: &str| {
            let metered = Metered { hour: hour(at), byte_hours: 1 << 31 };
            prices.charge(&region.parse().unwrap(), metered).map(|charge| charge.cost.to_string())
        };
        assert_eq!(charge("eu-west-1", "2025-12-31T23:59:59Z"), None);
        assert_eq!(charge("eu-west-1", "2026-01-01T00:00:00Z").as_deref(), Some("0.2"));
        assert_eq!(charge("eu-west-1", "2026-01-31T23:59:59.999Z").as_deref(), Some("0.2"));
        assert_eq!(charge("eu-west-1", "2026-02-01T00:00:00Z").as_deref(), Some("0.4"));
        assert_eq!(charge("eu-central-1", "2026-02-01T00:00:00Z"), None);
    }

    #[test]
    fn a_price_below_zero_is_refused() {
        assert!(Prices::try_from(vec![price("2026-01-01", "-0.1")]).is_err());
        assert!(Prices::try_from(vec![price("2026-01-01", "0")]).is_ok());
    }

    #[test]
    fn two_prices_of_a_region_from_the_same_day_on_are_refused() {
        assert!(Prices::try_from(vec![price("2026-01-01", "0.1"), price("2026-01-01", "0.2")]).is_err());
    }
}
