//! Enums that later releases extend.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// A text of a closed set, such as a status, as a reader sees it: known or unknown.
///
/// Later releases extend these sets. With a plain enum, one new status among a thousand backups would make the whole
/// listing unreadable for an older client. `#[serde(other)]` would accept it, but lose the text, which a client has to
/// show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Open<T> {
    /// A value that this release knows.
    Known(T),
    /// Any other text.
    Other(String),
}

impl<T> From<T> for Open<T> {
    fn from(known: T) -> Self {
        Self::Known(known)
    }
}

/// The empty text, for an absent field.
impl<T> Default for Open<T> {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl<T: PartialEq> PartialEq<T> for Open<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(known) if known == other)
    }
}

/// Writes the text as it is on the wire.
impl<T: Serialize> Display for Open<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            // A formatter can serialise texts and enum variants without data.
            Self::Known(known) => known.serialize(formatter),
            Self::Other(text) => formatter.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use milvault_model::RestoreStatus;
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn a_text_of_a_later_release_is_kept_and_shown_unchanged() {
        for (text, read) in [
            ("ROLLED_BACK", Open::Known(RestoreStatus::RolledBack)),
            ("PAUSED", Open::Other("PAUSED".to_owned())),
            ("", Open::default()),
        ] {
            let found: Open<RestoreStatus> = from_value(json!(text)).unwrap();
            assert_eq!(found, read);
            assert_eq!(found.to_string(), text);
            assert_eq!(to_value(&found).unwrap(), json!(text));
        }
        assert!(Open::Known(RestoreStatus::Failed) == RestoreStatus::Failed);
        assert!(Open::Other("FAILED".to_owned()) != RestoreStatus::Failed);
    }

    #[test]
    fn a_value_that_is_no_text_is_refused() {
        assert!(from_value::<Open<RestoreStatus>>(json!(1)).is_err());
        assert_eq!(from_value::<Option<Open<RestoreStatus>>>(json!(null)).unwrap(), None);
    }
}
