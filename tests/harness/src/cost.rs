//! Costs in integers: what the product's decimals are compared with.

/// What this many byte-hours cost, at a price in millionths for a gibibyte and hour, with every decimal place.
pub fn exact_cost(byte_hours: u128, millionths: u128) -> String {
    // A 2³⁰th is 5³⁰ of 10³⁰, and a millionth one of 10⁶.
    let (number, places) = (byte_hours * millionths * 5u128.pow(30), 36);
    let digits = format!("{number:0width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}
