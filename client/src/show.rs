//! Answers as text for people.

use serde_json::Value;

/// Prints rows under headings, each column as wide as its widest.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) {
    print!("{}", aligned(headings, rows));
}

fn aligned(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|heading| heading.to_uppercase()).collect();
    let lines = || std::iter::once(&headings).chain(rows);
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Prints names and values, one a line, without those that have no value.
pub(crate) fn facts(facts: &[(&str, String)]) {
    let known = facts.iter().filter(|(_, value)| !value.is_empty());
    let width = known.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in known {
        println!("{name:<width$}  {value}");
    }
}

/// A field as text: empty if it is null or missing. Times without their fraction.
pub(crate) fn field(object: &Value, name: &str) -> String {
    match object.pointer(&format!("/{}", name.replace('.', "/"))) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => time(text).unwrap_or_else(|| text.clone()),
        Some(other) => other.to_string(),
    }
}

/// A field that is a number of bytes.
pub(crate) fn size(object: &Value, name: &str) -> String {
    object.get(name).and_then(Value::as_u64).map(bytes).unwrap_or_default()
}

/// `2026-11-23T05:39:01.079Z` to the second, with a blank.
fn time(text: &str) -> Option<String> {
    let is_time = text.len() >= 20 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
    is_time.then(|| text[..19].replacen('T', " ", 1))
}

/// In the largest unit of which there is one, to a tenth.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1000;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["before-migration".to_owned(), "1".to_owned()], vec!["ö".to_owned(), "22".to_owned()]];
        let text = "NAME              SIZE\nbefore-migration  1\nö                 22\n";
        assert_eq!(aligned(&["name", "size"], &rows), text);
    }

    #[test]
    fn sizes_and_times_are_short() {
        for (number, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_999_999, "1.9 MB"), (u64::MAX, "18446.7 PB")]
        {
            assert_eq!(bytes(number), text);
        }
        let backup = json!({ "createdAt": "2026-11-23T05:39:01.079Z", "failure": null, "storage": { "bucket": "b" } });
        assert_eq!(field(&backup, "createdAt"), "2026-11-23 05:39:01");
        assert_eq!(field(&backup, "failure"), "");
        assert_eq!(field(&backup, "storage.bucket"), "b");
    }
}
