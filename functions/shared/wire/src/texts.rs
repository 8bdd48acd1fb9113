//! The two forms of a request's names and patterns.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

/// What a request can have for a name, an id or a pattern.
pub trait Text: Debug + Clone + Ord + Serialize + DeserializeOwned {}

impl<T: Debug + Clone + Ord + Serialize + DeserializeOwned> Text for T {}

/// How a request has its names, ids and patterns.
///
/// The functions read requests as [`Checked`]: a request that parses has valid names, and unknown fields are refused. A
/// client writes them [`AsGiven`] by its user: so the API alone says what is wrong with a name, in its own words and with
/// a pointer to the field, also when its rules and the client's differ.
pub trait Texts: Debug + Clone + PartialEq {
    /// The form of a `T`.
    type Of<T: Text>: Text;
}

/// Each text is of the model's own type, which holds only valid ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked;

/// Each text is a plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsGiven;

impl Texts for Checked {
    type Of<T: Text> = T;
}

impl Texts for AsGiven {
    type Of<T: Text> = String;
}
