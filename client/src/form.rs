//! The form in which answers are printed.

use serde_json::Value;

use crate::{Error, api::Answer, output};

/// The form in which answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Tables,
    Json,
}

impl Form {
    /// Prints an answer: its document as JSON, or the text that `tables` makes.
    pub(crate) fn print<T>(self, answer: &Answer<T>, tables: impl FnOnce(&T) -> String) -> Result<(), Error> {
        self.print_document(&answer.document, || tables(&answer.object))
    }

    /// Prints a document as JSON, or the text that `tables` makes.
    pub(crate) fn print_document(self, document: &Value, tables: impl FnOnce() -> String) -> Result<(), Error> {
        match self {
            Self::Tables => output::answer(&tables()),
            Self::Json => output::answer(&format!("{document:#}\n")),
        }
    }
}
