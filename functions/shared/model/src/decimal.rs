//! Decimal numbers for prices and costs: exact, never floating-point.

use std::{fmt, str::FromStr};

use bigdecimal::{
    BigDecimal,
    num_bigint::{BigInt, Sign},
};
use serde::{Deserialize, Serialize};

use crate::Invalid;

/// A decimal number of any length. Its text has no exponent and no trailing zeros.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal(BigDecimal);

impl Decimal {
    /// The number zero.
    pub fn zero() -> Self {
        Self(BigDecimal::from(0))
    }

    /// The number one.
    pub fn one() -> Self {
        Self(BigDecimal::from(1))
    }

    /// Whether the number is below zero.
    pub fn is_negative(&self) -> bool {
        self.0.sign() == Sign::Minus
    }

    /// The sum.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self((&self.0 + &other.0).normalized())
    }

    /// The cost of these bytes if the number is a price per gibibyte. A gibibyte is 2^30 bytes, and 1 / 2^30 = 5^30 /
    /// 10^30, so the cost is a decimal.
    #[must_use]
    pub fn for_gibibytes_of(&self, bytes: i64) -> Self {
        let gibibytes = BigDecimal::new(BigInt::from(bytes) * BigInt::from(5).pow(30), 30);
        Self((gibibytes * &self.0).normalized())
    }
}

impl FromStr for Decimal {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
        let invalid = || {
            Invalid::new(format!(
                "'{text}' isn't digits, perhaps with a minus before and a point and more digits after them"
            ))
        };
        if !is_part(whole) || !is_part(fraction) {
            return Err(invalid());
        }
        BigDecimal::from_str(text).map(|number| Self(number.normalized())).map_err(|_| invalid())
    }
}

impl TryFrom<String> for Decimal {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Decimal> for String {
    fn from(decimal: Decimal) -> String {
        decimal.to_string()
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.to_plain_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn one_byte_of_a_gibibyte_is_exact_and_written_out() {
        let one = decimal("1").for_gibibytes_of(1);
        assert_eq!(one.to_string(), "0.000000000931322574615478515625");
        assert_eq!(decimal(&one.to_string()), one);
        assert_eq!(decimal("0.0000315").for_gibibytes_of(1 << 40).to_string(), "0.032256");
        assert_eq!(
            decimal("3").for_gibibytes_of(i64::MAX).plus(&decimal("3").for_gibibytes_of(1)).to_string(),
            "25769803776"
        );
    }

    #[test]
    fn equal_amounts_are_written_alike() {
        assert_eq!(decimal("1.500").to_string(), "1.5");
        assert_eq!(decimal("100").to_string(), "100");
        assert_eq!(decimal("0.00").to_string(), "0");
        assert_eq!(Decimal::zero().plus(&decimal("0.10")).to_string(), "0.1");
        assert_eq!(decimal("-0.0").to_string(), "0");
    }

    #[test]
    fn what_is_taken_back_is_below_zero() {
        let back = decimal("0.5").for_gibibytes_of(-(1 << 30));
        assert_eq!((back.to_string().as_str(), back.is_negative()), ("-0.5", true));
        assert_eq!(decimal("-0.5"), back);
        assert_eq!(back.plus(&decimal("0.5")), Decimal::zero());
        assert!(!Decimal::zero().is_negative());
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        for text in ["", "-", "--1", "+1", "-.5", "1e3", "1.", ".5", "1,5", "NaN", "1.2.3", " 1", "1_000"] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
    }
}
