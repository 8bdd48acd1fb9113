//! Texts of sets that grow.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// A text of a closed set, such as a status, as a reader sees it: one that it knows, or another.
///
/// Later releases add to these sets. With a plain enum, one new status among a thousand backups would make the whole
/// listing unreadable for an older client. `#[serde(other)]` would read it, but lose the text, which a client still has to
/// show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Open<T> {
    /// One of the set as this release knows it.
    Known(T),
    /// Any other text.
    Other(String),
}

impl<T> From<T> for Open<T> {
    fn from(known: T) -> Self {
        Self::Known(known)
    }
}

/// The empty text, for a field that isn't there.
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

/// The text as it is on the wire.
impl<T: Serialize> Display for Open<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            // A formatter is a serializer of texts and of enum variants without data.
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
    fn a_text_of_a_later_release_is_kept_and_shown_as_it_is() {
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
    fn what_is_no_text_is_refused() {
        assert!(from_value::<Open<RestoreStatus>>(json!(1)).is_err());
        assert_eq!(from_value::<Option<Open<RestoreStatus>>>(json!(null)).unwrap(), None);
    }
}
