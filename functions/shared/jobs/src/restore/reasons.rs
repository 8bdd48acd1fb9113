//! The reasons of many collections in one message, and the names of many things in one warning.

use milvault_model::FailureCode;

use crate::engine::halt::{Halt, fatal};

/// The most reasons that a failure names.
const REASONS: usize = 20;

/// The most things that a warning names.
const NAMED: usize = 20;

/// What a warning names.
pub(super) fn named(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Several collections' reasons as one failure, in the order of their names.
pub(super) fn together(code: FailureCode, mut reasons: Vec<String>) -> Halt {
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
    fn a_failure_names_some_of_many_reasons() {
        let reasons = (0..16_000).map(|number| format!("c{number:05}: gone")).collect();
        let Halt::Fatal(failure) = together(FailureCode::ImportFailed, reasons) else { panic!("it is fatal") };
        assert!(failure.message.starts_with("c00000: gone; c00001: gone; "));
        assert!(failure.message.ends_with("; and 15980 more"));
    }
}
