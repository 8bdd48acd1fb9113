//! Collects what is wrong with a request, so that one answer names all of it.

use milvault_jobs::{Error, FieldError};

/// The field errors found so far.
#[derive(Debug, Default)]
pub struct Findings(Vec<FieldError>);

impl Findings {
    /// Notes an error; what stands in for the value is of no use before [`Findings::report`] has passed.
    pub fn keep<T: Default>(&mut self, checked: Result<T, FieldError>) -> T {
        checked.unwrap_or_else(|found| {
            self.0.push(found);
            T::default()
        })
    }

    /// Notes an error where there is one.
    pub fn note(&mut self, found: Option<FieldError>) {
        self.0.extend(found);
    }

    /// Refuses the request if anything was found.
    ///
    /// # Errors
    /// [`Error::Invalid`] with everything that was found.
    pub fn report(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}
