//! All output of the client: answers go to standard output, everything else to standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

use crate::Error;

/// Writes an answer.
///
/// # Errors
/// [`Error::Output`]; of the kind `BrokenPipe` if the reader, such as `head`, has closed the output.
pub(crate) fn answer(text: &str) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(Error::Output)
}

/// Writes a line to standard error. If that fails, the command continues.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes warnings to standard error.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        say(format!("warning: {warning}"));
    }
}

/// Writes a question, which the user answers on the same line.
pub(crate) fn ask(question: &str) {
    let mut terminal = io::stderr();
    let _ = write!(terminal, "{question} ").and_then(|()| terminal.flush());
}
