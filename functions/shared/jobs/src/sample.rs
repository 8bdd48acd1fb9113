//! The size of the samples of primary keys that a restore looks for.

use milvault_model::PrimaryKey;

/// The maximum number of keys in a sample.
pub(crate) const MAX_KEYS: usize = 64;

/// The maximum number of bytes in a sample: a single key may have up to 65,535.
const MAX_BYTES: usize = 4096;

/// Takes the first of these keys that fit into a sample.
pub(crate) fn first(keys: impl IntoIterator<Item = PrimaryKey>) -> Vec<PrimaryKey> {
    let mut room = MAX_BYTES;
    let fits = |key: &PrimaryKey| {
        let size = match key {
            PrimaryKey::Int(_) => 8,
            PrimaryKey::Text(text) => text.len(),
        };
        let left = room.checked_sub(size);
        room = left.unwrap_or(room);
        left.is_some()
    };
    keys.into_iter().filter(fits).take(MAX_KEYS).collect()
}
