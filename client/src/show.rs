//! The formatting of answers as text for people.

use std::fmt::Display;

use comfy_table::{Table, presets};
use milvault_model::CountKind;
use milvault_wire::{CompletenessView, Open, Timestamp};

/// Formats rows under headings, with two spaces between columns. A row is one line even on a narrow terminal, so that
/// tools such as `grep` see one row per line.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.iter().map(|heading| heading.to_uppercase())).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    format!("{}\n", table.trim_fmt())
}

/// Formats names and values, one pair per line, without empty values.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let known = facts.iter().filter(|(_, value)| !value.is_empty());
    let width = known.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    known.map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

/// Formats a value. Control characters, which could move a terminal's cursor, are replaced.
pub(crate) fn text(value: impl Display) -> String {
    value.to_string().replace(char::is_control, "\u{fffd}")
}

/// Formats a value; empty if there is none.
pub(crate) fn known(value: Option<impl Display>) -> String {
    value.map(text).unwrap_or_default()
}

/// Formats a number of bytes; empty if it is unknown.
pub(crate) fn size(number: Option<u64>) -> String {
    number.map(bytes).unwrap_or_default()
}

/// Formats a time in UTC to the second, with a space between date and time.
pub(crate) fn time<'t>(time: impl Into<Option<&'t Timestamp>>) -> String {
    let text = known(time.into());
    match (text.get(..19), text.ends_with('Z')) {
        (Some(seconds), true) => format!("{}Z", seconds.replacen('T', " ", 1)),
        _ => text,
    }
}

/// Formats a number of rows according to its kind of count.
pub(crate) fn rows(count: Option<u64>, is: Option<&Open<CountKind>>) -> String {
    match (count, is) {
        (Some(bound), Some(Open::Known(CountKind::AtMost))) => format!("at most {bound}"),
        (rows, _) => known(rows),
    }
}

/// Formats whether a backup or a restore is complete; empty if that isn't known.
pub(crate) fn complete(completeness: &CompletenessView) -> String {
    let word = match completeness.complete {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    word.to_owned()
}

/// Returns the reasons why a backup or a restore is incomplete.
pub(crate) fn reasons(completeness: &CompletenessView) -> impl Iterator<Item = String> {
    completeness.incomplete_reasons.iter().flatten().map(text)
}

/// Returns the lines that show whether a backup or a restore is complete and, if it isn't, why.
pub(crate) fn completeness(found: &CompletenessView) -> Vec<(&'static str, String)> {
    let reasons = reasons(found).map(|reason| ("incomplete", reason));
    [("complete", complete(found))].into_iter().chain(reasons).collect()
}

/// Formats a number of bytes in the largest fitting unit, to a tenth, rounded down.
///
/// `indicatif::DecimalBytes` isn't used, because it rounds up and has two decimals: 999,999 bytes would be 1000.00 kB,
/// and a copy that lacks its last bytes would be shown as done.
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
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_on_the_screen() {
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
        let created: Timestamp = from_value(json!("2026-11-23T05:39:01.079Z")).unwrap();
        assert_eq!(time(&created), "2026-11-23 05:39:01Z");
        assert_eq!((time(None), size(None), known(None::<u8>)), Default::default());
    }

    #[test]
    fn an_upper_bound_is_not_shown_as_an_exact_count() {
        let shown = |is: &str| rows(Some(2000), Some(&from_value(json!(is)).unwrap()));
        assert_eq!(["AT_MOST", "EXACT", "ROUGHLY"].map(shown), ["at most 2000", "2000", "2000"]);
        assert_eq!(rows(Some(2000), None), "2000");
        assert_eq!(rows(None, None), "");
    }

    #[test]
    fn each_reason_of_an_incomplete_backup_is_a_line() {
        let shown = |found: Value| facts(&completeness(&from_value(found).unwrap()));
        let incomplete = json!({ "complete": false, "incompleteReasons": ["a.b: broken", "c\u{1b}[2J"] });
        assert_eq!(shown(incomplete), "complete    no\nincomplete  a.b: broken\nincomplete  c\u{fffd}[2J\n");
        assert_eq!(shown(json!({ "complete": true })), "complete  yes\n");
        assert_eq!(shown(json!({ "complete": null })), "");
    }

    #[test]
    fn a_text_that_is_no_time_is_shown_unchanged() {
        let no_time: Timestamp = from_value(json!("2026-11-23T05:39:0ö.079Z")).unwrap();
        assert_eq!(time(&no_time), "2026-11-23T05:39:0ö.079Z");
    }

    #[test]
    fn no_output_moves_the_cursor() {
        assert_eq!(text("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        let control: Timestamp = from_value(json!("\u{1b}[2J")).unwrap();
        assert_eq!(time(&control), "\u{fffd}[2J");
    }
}
