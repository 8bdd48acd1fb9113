//! The confirmation of irreversible commands.

use std::io::{BufRead, IsTerminal};

use crate::{Error, arguments::Confirmation, output};

/// Asks the user to confirm an irreversible command.
pub(super) fn confirm(confirmation: Confirmation, what: &str) -> Result<(), Error> {
    if confirmation.yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::NotConfirmed(format!(". {what} Use --yes to confirm.")));
    }
    output::ask(&format!("{what} Continue? [y/N]"));
    let mut answer = String::new();
    match stdin.lock().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") => Ok(()),
        _ => Err(Error::NotConfirmed(String::new())),
    }
}
