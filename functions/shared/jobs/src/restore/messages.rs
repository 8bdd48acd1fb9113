//! Lists of many collections' reasons in one failure, and of many names in one warning.

use milvault_model::FailureCode;

use crate::engine::halt::{Halt, fatal};

/// The most reasons that a failure names.
const REASONS: usize = 20;

/// The most names that a warning lists.
const NAMES: usize = 20;

/// Returns the list of names for a warning.
pub(super) fn list_names(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Combines the reasons of several collections, sorted, into one fatal failure.
pub(super) fn combined_failure(code: FailureCode, mut reasons: Vec<String>) -> Halt {
    reasons.sort();
    if let Some(more) = reasons.len().checked_sub(REASONS).filter(|more| *more > 0) {
        reasons.truncate(REASONS);
        reasons.push(format!("and {more} more"));
    }
    fatal(code, reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_lists_some_of_many_reasons() {
        let reasons = (0..16_000).map(|number| format!("c{number:05}: gone")).collect();
        let Halt::Fatal(failure) = combined_failure(FailureCode::ImportFailed, reasons) else { panic!("it is fatal") };
        assert!(failure.message.starts_with("c00000: gone; c00001: gone; "));
        assert!(failure.message.ends_with("; and 15980 more"));
    }
}
