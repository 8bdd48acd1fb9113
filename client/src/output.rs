//! The one place that writes: answers to standard output, whatever else there is to say to standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

use crate::Error;

/// Writes an answer.
///
/// # Errors
/// [`Error::Output`]; of the kind `BrokenPipe` where the reader, such as `head`, has seen enough.
pub(crate) fn answer(text: &str) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(Error::Output)
}

/// Says something beside the answer. Where nobody listens any more, the command goes on all the same.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says warnings beside the answer.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        say(format!("warning: {warning}"));
    }
}

/// Asks something that is answered on the same line.
pub(crate) fn ask(question: &str) {
    let mut terminal = io::stderr();
    let _ = write!(terminal, "{question} ").and_then(|()| terminal.flush());
}
