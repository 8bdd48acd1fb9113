//! Requests, made of arguments.

/// A list that is left out where nothing was said of it.
pub(super) fn listed(values: Vec<String>) -> Option<Vec<String>> {
    (!values.is_empty()).then_some(values)
}
