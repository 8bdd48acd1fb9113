//! The question before what can't be undone.

use std::io::{BufRead, IsTerminal};

use crate::{Error, arguments::Confirmation, output};

/// Asks before what can't be undone.
pub(super) fn confirm(confirmation: Confirmation, what: &str) -> Result<(), Error> {
    if confirmation.yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::NotConfirmed(format!(". {what} Say --yes if that is what you want.")));
    }
    output::ask(&format!("{what} Go on? [y/N]"));
    let mut answer = String::new();
    match stdin.lock().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") => Ok(()),
        _ => Err(Error::NotConfirmed(String::new())),
    }
}
