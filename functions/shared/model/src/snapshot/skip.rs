//! The values that a document leaves out.

/// Whether the value is the default, which reading supplies.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
