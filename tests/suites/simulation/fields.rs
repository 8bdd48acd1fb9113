//! The fields of collections, and what rows have in them: a value says which field it was written for.

/// A field: its id, and its place among [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) id: i64,
    pub(crate) place: usize,
}

/// The names that fields have.
const NAMES: [&str; 6] = ["id", "vector", "$meta", "added 1", "added 2", "added 3"];

/// The dynamic field.
const DYNAMIC: usize = 2;

/// The fields of every collection.
pub(crate) const LEAST: [usize; 2] = [0, 1];
pub(crate) const WITH_DYNAMIC: [usize; 3] = [0, 1, DYNAMIC];

/// The fields that can be added.
pub(crate) const ADDED: std::ops::Range<usize> = DYNAMIC + 1..NAMES.len();

/// The id of a user's first field.
const FIRST: i64 = 100;

/// Gives fields their ids as a create does: by position, the dynamic field last.
pub(crate) fn by_place(places: &[usize]) -> Vec<Field> {
    let others = places.iter().filter(|place| **place != DYNAMIC);
    let places = others.chain(places.iter().filter(|place| **place == DYNAMIC));
    (FIRST..).zip(places).map(|(id, place)| Field { id, place: *place }).collect()
}

/// Which captured fields are created with the collection and which are added later, so that each keeps its id.
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
    /// Row id and timestamp. Their values don't matter here.
    pub(crate) const SYSTEM: [Self; 2] = [Self { id: 0, place: usize::MAX }, Self { id: 1, place: usize::MAX }];

    pub(crate) fn name(self) -> &'static str {
        NAMES.get(self.place).copied().unwrap_or("system")
    }

    /// Whether segments may be older than the field.
    pub(crate) fn may_be_added(self) -> bool {
        self.place != usize::MAX && self.place >= DYNAMIC
    }

    /// A row's value in this field; 0 for none.
    pub(crate) fn value_in(self, values: Values) -> u32 {
        if self.place == usize::MAX { 0 } else { values.0 >> (4 * self.place) & 0xF }
    }
}

/// A row's values, four bits for each field: zero for none, or one more than the position of the field that the value was
/// written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Values(u32);

impl Values {
    /// The values of a row that was written when the collection had these fields.
    pub(crate) fn of(fields: &[Field]) -> Self {
        let own = |field: &Field| u32::try_from(field.place + 1).expect("few fields");
        Self::from_columns(fields.iter().map(|field| (*field, own(field))))
    }

    /// The values of a row with these values in its fields.
    pub(crate) fn from_columns(columns: impl Iterator<Item = (Field, u32)>) -> Self {
        Self(columns.fold(0, |values, (field, value)| values | value << (4 * field.place)))
    }
}
