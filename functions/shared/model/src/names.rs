//! Names that callers give to backups and collections, and the patterns that select collections.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Invalid,
    text::{serde_as_text, text_type},
};

text_type! {
    /// A backup's name, unique among the living backups of an instance: 1 to 128 characters of any script, with no control
    /// characters, and no blanks at either end.
    BackupName
}

impl FromStr for BackupName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let length = text.chars().count();
        if length == 0 || length > 128 {
            return Err(Invalid::new("a backup name has 1 to 128 characters"));
        }
        if text.trim() != text || text.chars().any(char::is_control) {
            return Err(Invalid::new("a backup name has no control characters and no blanks at its ends"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Milvus's own rule for the names of databases and collections.
fn is_milvus_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn split_qualified(text: &str) -> Option<(&str, &str)> {
    text.split_once('.').filter(|(database, _)| is_milvus_name(database))
}

/// A collection with its database, written `database.collection`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CollectionName {
    /// The database, `default` where the server has only one.
    pub database: String,
    /// The collection's name inside it.
    pub collection: String,
}

impl CollectionName {
    /// Makes the name from a database and a collection, both as the server spells them.
    pub fn new(database: impl Into<String>, collection: impl Into<String>) -> Self {
        Self { database: database.into(), collection: collection.into() }
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.collection)
    }
}

impl FromStr for CollectionName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match split_qualified(text) {
            Some((database, collection)) if is_milvus_name(collection) => Ok(Self::new(database, collection)),
            _ => Err(Invalid::new(format!("'{text}' is not 'database.collection'"))),
        }
    }
}

serde_as_text!(CollectionName);

/// A pattern that selects one collection (`database.collection`) or all collections of a database (`database.*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CollectionPattern {
    /// This collection only.
    One(CollectionName),
    /// Every collection of the database.
    Database(String),
}

impl CollectionPattern {
    /// Whether the pattern selects this collection.
    pub fn matches(&self, name: &CollectionName) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Database(database) => *database == name.database,
        }
    }

    /// Whether a selection can match any collection of a database. An empty selection matches all.
    pub fn selects_in_database(selection: &[Self], database: &str) -> bool {
        let is_of = |pattern: &Self| match pattern {
            Self::One(one) => one.database == database,
            Self::Database(whole) => whole == database,
        };
        selection.is_empty() || selection.iter().any(is_of)
    }

    /// Whether a selection matches this collection. An empty selection matches all.
    pub fn selects(selection: &[Self], name: &CollectionName) -> bool {
        selection.is_empty() || selection.iter().any(|pattern| pattern.matches(name))
    }
}

impl fmt::Display for CollectionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => name.fmt(f),
            Self::Database(database) => write!(f, "{database}.*"),
        }
    }
}

impl FromStr for CollectionPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match split_qualified(text) {
            Some((database, "*")) => Ok(Self::Database(database.to_owned())),
            _ => text
                .parse()
                .map(Self::One)
                .map_err(|_| Invalid::new(format!("'{text}' is neither 'database.collection' nor 'database.*'"))),
        }
    }
}

serde_as_text!(CollectionPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_name_may_be_of_any_script_but_not_blank_or_unprintable() {
        for good in ["before-migration", "vor dem Umzug", "移行前", "a", &"é".repeat(128)] {
            assert!(good.parse::<BackupName>().is_ok(), "{good:?}");
        }
        for bad in ["", " a", "a ", "a\nb", "\u{0}", &"é".repeat(129)] {
            assert!(bad.parse::<BackupName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patterns_select_one_collection_or_a_database() {
        let items = CollectionName::new("default", "items");
        assert!("default.items".parse::<CollectionPattern>().unwrap().matches(&items));
        assert!("default.*".parse::<CollectionPattern>().unwrap().matches(&items));
        assert!(!"other.*".parse::<CollectionPattern>().unwrap().matches(&items));
        assert!(CollectionPattern::selects(&[], &items));
        for bad in ["", "items", "*", "*.*", "default.it*", "a.b.c", "default.", ".items", "de fault.x"] {
            assert!(bad.parse::<CollectionPattern>().is_err(), "{bad:?}");
        }
    }
}
