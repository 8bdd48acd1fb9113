//! How many primary keys are looked for.

use milvault_model::PrimaryKey;

/// How many a sample has at most.
pub(crate) const SAMPLE: usize = 64;

/// And how many bytes: a key may have 65,535 of them.
const SAMPLE_BYTES: usize = 4096;

/// Of these keys, the first that a sample has room for.
pub(crate) fn first(keys: impl IntoIterator<Item = PrimaryKey>) -> Vec<PrimaryKey> {
    let mut room = SAMPLE_BYTES;
    let fits = |key: &PrimaryKey| {
        let size = match key {
            PrimaryKey::Int(_) => 8,
            PrimaryKey::Text(text) => text.len(),
        };
        let left = room.checked_sub(size);
        room = left.unwrap_or(room);
        left.is_some()
    };
    keys.into_iter().filter(fits).take(SAMPLE).collect()
}
