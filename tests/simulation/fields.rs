//! The fields of collections, and what rows have in them: a value says which field it was written for.

/// A field: its id, and its place among [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) id: i64,
    pub(crate) place: usize,
}

/// The names that fields have.
const NAMES: [&str; 6] = ["id", "vector", "$meta", "added 1", "added 2", "added 3"];

/// The field of what has none.
const DYNAMIC: usize = 2;

/// What every collection has.
pub(crate) const LEAST: [usize; 2] = [0, 1];
pub(crate) const WITH_DYNAMIC: [usize; 3] = [0, 1, DYNAMIC];

/// What can be added to one.
pub(crate) const ADDED: std::ops::Range<usize> = DYNAMIC + 1..NAMES.len();

/// The id of the first field of a user's.
const FIRST: i64 = 100;

/// Gives fields ids as a create does: by their places in it, the dynamic field after the others.
pub(crate) fn by_place(places: &[usize]) -> Vec<Field> {
    let others = places.iter().filter(|place| **place != DYNAMIC);
    let places = others.chain(places.iter().filter(|place| **place == DYNAMIC));
    (FIRST..).zip(places).map(|(id, place)| Field { id, place: *place }).collect()
}

/// Which of a captured collection's fields are created with it, and which are added later, for each to have its id again.
pub(crate) fn created_and_added(captured: &[milvault_model::FieldCapture]) -> (Vec<usize>, Vec<usize>) {
    let mut captured: Vec<_> = captured.iter().collect();
    captured.sort_by_key(|field| field.id);
    let place = |name: &str| NAMES.iter().position(|known| *known == name).expect("a field's name");
    let places: Vec<usize> = captured.iter().map(|field| place(&field.name)).collect();
    match places.iter().position(|place| *place == DYNAMIC) {
        Some(dynamic) => (places[..=dynamic].to_vec(), places[dynamic + 1..].to_vec()),
        None => (places, Vec::new()),
    }
}

impl Field {
    /// Row id and timestamp. What is in them is of no account here.
    pub(crate) const SYSTEM: [Self; 2] = [Self { id: 0, place: usize::MAX }, Self { id: 1, place: usize::MAX }];

    pub(crate) fn name(self) -> &'static str {
        NAMES.get(self.place).copied().unwrap_or("system")
    }

    /// Whether segments may be of before it was there.
    pub(crate) fn may_be_added(self) -> bool {
        self.place != usize::MAX && self.place >= DYNAMIC
    }

    /// What a row has in it; 0 for nothing.
    pub(crate) fn value_in(self, values: Values) -> u32 {
        if self.place == usize::MAX { 0 } else { values.0 >> (4 * self.place) & 0xF }
    }
}

/// What a row has in its fields, four bits each: nothing, or one more than the place of the field that it was written
/// for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Values(u32);

impl Values {
    /// Those of a row that was written when the collection had these fields.
    pub(crate) fn of(fields: &[Field]) -> Self {
        let own = |field: &Field| u32::try_from(field.place + 1).expect("few fields");
        Self::from_columns(fields.iter().map(|field| (*field, own(field))))
    }

    /// Those that a row has if these are in its fields.
    pub(crate) fn from_columns(columns: impl Iterator<Item = (Field, u32)>) -> Self {
        Self(columns.fold(0, |values, (field, value)| values | value << (4 * field.place)))
    }
}
