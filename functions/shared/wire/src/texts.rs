//! The two forms of the names and patterns in a request: validated, and as given by a user.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

/// A type that a request can use for a name, an id or a pattern.
pub trait Text: Debug + Clone + Ord + Serialize + DeserializeOwned {}

impl<T: Debug + Clone + Ord + Serialize + DeserializeOwned> Text for T {}

/// The form of the names, ids and patterns in a request.
///
/// The functions read requests as [`Checked`]: a request that parses has valid names, and unknown fields are refused. A
/// client writes them [`AsGiven`] by its user, so that only the API validates a name and explains, with a pointer to
/// the field, what is wrong with it, even if its rules differ from those that the client was built with.
pub trait Texts: Debug + Clone + PartialEq {
    /// The form of a `T`.
    type Of<T: Text>: Text;
}

/// Each text has the model's type, which has only valid values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked;

/// Each text is a plain string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsGiven;

impl Texts for Checked {
    type Of<T: Text> = T;
}

impl Texts for AsGiven {
    type Of<T: Text> = String;
}
