//! The conversion of arguments to requests.

/// Returns the values of a repeatable option; `None` if the option wasn't given.
pub(super) fn listed(values: Vec<String>) -> Option<Vec<String>> {
    (!values.is_empty()).then_some(values)
}
