//! Answers as text for people.

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

/// Rows under headings, each column as wide as its widest.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|heading| heading.to_uppercase()).collect();
    let lines = || std::iter::once(&headings).chain(rows);
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| lines().filter_map(|line| line.get(column)).map(|cell| cell.width()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A cell with blanks up to a width on a screen, which counts a Chinese character as two.
fn padded(cell: &str, width: usize) -> String {
    format!("{cell}{}", " ".repeat(width.saturating_sub(cell.width())))
}

/// Names and values, one a line, without those that have no value.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let known = facts.iter().filter(|(_, value)| !value.is_empty());
    let width = known.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    known.map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

/// What an object has under a name, or a path of names with dots.
fn at<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    object.pointer(&format!("/{}", name.replace('.', "/")))
}

/// A field as text: empty if it is null or missing. What would move a terminal's cursor is replaced.
pub(crate) fn field(object: &Value, name: &str) -> String {
    let text = match at(object, name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    printable(&text)
}

fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// A field that is a number of bytes.
pub(crate) fn size(object: &Value, name: &str) -> String {
    at(object, name).and_then(Value::as_u64).map(bytes).unwrap_or_default()
}

/// A field that is a time: to the second, with a blank, in UTC as it says.
pub(crate) fn time(object: &Value, name: &str) -> String {
    let text = field(object, name);
    match (text.get(..19), text.ends_with('Z')) {
        (Some(seconds), true) => format!("{}Z", seconds.replacen('T', " ", 1)),
        _ => text,
    }
}

/// A number of rows, with what kind of count it is: `rowsExpected` and `rowsExpectedIs`.
pub(crate) fn rows(object: &Value, name: &str) -> String {
    match (field(object, name), field(object, &format!("{name}Is")).as_str()) {
        (bound, "AT_MOST") if !bound.is_empty() => format!("at most {bound}"),
        (rows, _) => rows,
    }
}

/// Whether a backup or a restore has everything that was asked for; empty where that isn't known.
pub(crate) fn complete(backup: &Value) -> String {
    let word = match backup.get("complete").and_then(Value::as_bool) {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    word.to_owned()
}

/// Why a backup or a restore is incomplete.
pub(crate) fn reasons(backup: &Value) -> impl Iterator<Item = String> {
    let reasons = backup.get("incompleteReasons").and_then(Value::as_array).into_iter().flatten();
    reasons.filter_map(Value::as_str).map(printable)
}

/// Whether a backup or a restore is complete and, if it isn't, why.
pub(crate) fn completeness(backup: &Value) -> Vec<(&'static str, String)> {
    let reasons = reasons(backup).map(|reason| ("incomplete", reason));
    [("complete", complete(backup))].into_iter().chain(reasons).collect()
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
    fn columns_are_as_wide_as_their_widest_cell_is_on_a_screen() {
        let rows = [["before-migration", "1"], ["ö", "22"], ["移行前", "3"]].map(|row| row.map(str::to_owned).to_vec());
        let text = "NAME              SIZE\nbefore-migration  1\nö                 22\n移行前            3\n";
        assert_eq!(table(&["name", "size"], &rows), text);
    }

    #[test]
    fn sizes_and_times_are_short() {
        for (number, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_999_999, "1.9 MB"), (u64::MAX, "18446.7 PB")]
        {
            assert_eq!(bytes(number), text);
        }
        let backup = json!({ "createdAt": "2026-11-23T05:39:01.079Z", "failure": null, "storage": { "bucket": "b" } });
        assert_eq!(time(&backup, "createdAt"), "2026-11-23 05:39:01Z");
        assert_eq!(time(&backup, "failure"), "");
        assert_eq!(field(&backup, "failure"), "");
        assert_eq!(field(&backup, "storage.bucket"), "b");
    }

    #[test]
    fn an_upper_bound_is_not_shown_as_a_count() {
        let of = |is: Value| rows(&json!({ "entityCount": 2000, "entityCountIs": is }), "entityCount");
        assert_eq!(["AT_MOST", "EXACT"].map(|is| of(json!(is))), ["at most 2000", "2000"]);
        assert_eq!(of(Value::Null), "2000");
        assert_eq!(rows(&json!({ "entityCount": null, "entityCountIs": null }), "entityCount"), "");
    }

    #[test]
    fn each_reason_of_an_incomplete_backup_is_a_line() {
        let incomplete = json!({ "complete": false, "incompleteReasons": ["a.b: broken", "c\u{1b}[2J"] });
        let lines = "complete    no\nincomplete  a.b: broken\nincomplete  c\u{fffd}[2J\n";
        assert_eq!(facts(&completeness(&incomplete)), lines);
        assert_eq!(facts(&completeness(&json!({ "complete": true }))), "complete  yes\n");
        assert_eq!(facts(&completeness(&json!({ "complete": null }))), "");
    }

    #[test]
    fn a_name_that_looks_like_a_time_is_a_name() {
        let backup = json!({ "name": "2026-11-23T05:39:01.079Z" });
        assert_eq!(field(&backup, "name"), "2026-11-23T05:39:01.079Z");
    }

    #[test]
    fn what_is_no_time_where_one_is_expected_is_shown_as_it_is() {
        let odd = json!({ "at": "2026-11-23T05:39:0ö.079Z" });
        assert_eq!(time(&odd, "at"), "2026-11-23T05:39:0ö.079Z");
    }

    #[test]
    fn nothing_that_is_shown_moves_the_cursor() {
        assert_eq!(field(&json!({ "detail": "a\u{1b}[2Jb\nc" }), "detail"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
