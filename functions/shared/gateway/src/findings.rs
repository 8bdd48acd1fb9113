//! Collection of all field errors of a request, so that one answer names all of them.

use milvault_jobs::{Error, FieldError};

/// The field errors found so far.
#[derive(Debug, Default)]
pub struct Findings(Vec<FieldError>);

impl Findings {
    /// Returns the value, or notes the error and returns a default, which is valid only once [`Findings::report`]
    /// succeeds.
    pub fn keep<T: Default>(&mut self, checked: Result<T, FieldError>) -> T {
        checked.unwrap_or_else(|found| {
            self.0.push(found);
            T::default()
        })
    }

    /// Notes an error, if there is one.
    pub fn note(&mut self, found: Option<FieldError>) {
        self.0.extend(found);
    }

    /// Refuses the request if anything was found.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all noted errors.
    pub fn report(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}
