//! The names of the collections that a restore creates.

use sha2::{Digest, Sha256};

use crate::{CollectionName, RestoreId};

/// The name of the collection being rebuilt for `target`.
pub fn rebuilt_name(target: &CollectionName, restore: &RestoreId) -> CollectionName {
    with_suffix(target, &format!("__restore_{}", restore.short()))
}

/// The name under which the previous collection of the name `target` is kept.
pub fn previous_name(target: &CollectionName, restore: &RestoreId) -> CollectionName {
    with_suffix(target, &format!("__before_{}", restore.short()))
}

/// Whether a collection's name was made by a restore, rather than by a user.
pub fn is_restore_name(collection: &str) -> bool {
    let is_short_id = |id: &str| id.len() == 10 && id.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase());
    ["__restore_", "__before_"]
        .iter()
        .any(|marker| collection.rsplit_once(marker).is_some_and(|(_, id)| is_short_id(id)))
}

/// Adds a suffix to a collection's name. Milvus allows 255 bytes: a longer name is cut, and a hash keeps it unique.
fn with_suffix(name: &CollectionName, suffix: &str) -> CollectionName {
    let room = 255 - suffix.len();
    let stem = if name.collection.len() <= room {
        name.collection.clone()
    } else {
        let hash = Sha256::digest(name.collection.as_bytes());
        // Milvus names are ASCII, so every byte is a character boundary.
        format!("{}_{}", &name.collection[..room - 9], hex::encode(&hash[..4]))
    };
    CollectionName::new(&name.database, format!("{stem}{suffix}"))
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn a_restores_own_collections_are_told_from_a_users() {
        let restore = RestoreId::new(Ulid::from_parts(7, 42));
        let long = CollectionName::new("default", "x".repeat(255));
        for target in [CollectionName::new("default", "items"), long] {
            for name in [rebuilt_name(&target, &restore), previous_name(&target, &restore)] {
                assert!(name.collection.len() <= 255);
                assert!(is_restore_name(&name.collection), "{name}");
            }
        }
        for users in ["items", "items__before_", "items__before_monday", "__restore_", "items_restore_0123456789"] {
            assert!(!is_restore_name(users), "{users}");
        }
    }

    #[test]
    fn long_names_that_differ_at_their_end_stay_different() {
        let restore = RestoreId::new(Ulid::from_parts(7, 42));
        let name = |end: &str| CollectionName::new("default", format!("{}{end}", "x".repeat(254)));
        assert_ne!(rebuilt_name(&name("a"), &restore), rebuilt_name(&name("b"), &restore));
    }
}
