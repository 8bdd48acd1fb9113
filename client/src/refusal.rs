//! What the API answers instead of doing what it was asked for.

use std::fmt::{self, Display, Formatter};

use reqwest::StatusCode;
use serde_json::Value;

/// A refusal: a problem document (RFC 9457) of the functions, or what API Gateway says in their place.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// Null where the answer isn't JSON.
    document: Value,
    /// How often it was asked for: an earlier attempt may have done it, and only its answer was lost.
    attempts: u32,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: &str, attempts: u32) -> Self {
        Self { status, document: serde_json::from_str(text).unwrap_or_default(), attempts }
    }

    /// What was answered, where it was JSON.
    pub(crate) fn document(&self) -> Option<&Value> {
        (!self.document.is_null()).then_some(&self.document)
    }

    /// The stable code, which only the functions' own answers have.
    pub(crate) fn code(&self) -> Option<&str> {
        self.part("code")
    }

    /// Whether it isn't about the request: a server behind the API doesn't answer, or the API has a fault.
    pub(crate) fn is_a_fault(&self) -> bool {
        self.status.is_server_error()
    }

    /// Whether an earlier attempt of the same call may be what is in its way.
    pub(crate) fn may_be_our_own_doing(&self) -> bool {
        self.attempts > 1
    }

    fn part(&self, name: &str) -> Option<&str> {
        self.document.get(name).and_then(Value::as_str)
    }
}

impl Display for Refusal {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match (self.code(), self.part("detail").or(self.part("title")), self.part("message")) {
            (Some(code), Some(detail), _) => write!(to, "{detail} ({code})")?,
            (_, _, Some(message)) => write!(to, "{message} ({})", self.status)?,
            _ => write!(to, "{}", self.status)?,
        }
        if self.code().is_none() && matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            write!(to, ": is it the right address, and may whoever signs or holds the token call it?")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: StatusCode, text: &str) -> String {
        Refusal::new(status, text, 1).to_string()
    }

    #[test]
    fn a_refusal_is_told_in_the_apis_words() {
        let problem = r#"{"code": "BACKUP_NAME_TAKEN", "detail": "the name is taken", "status": 409}"#;
        assert_eq!(said(StatusCode::CONFLICT, problem), "the name is taken (BACKUP_NAME_TAKEN)");
        assert_eq!(said(StatusCode::BAD_REQUEST, r#"{"message": "Bad"}"#), "Bad (400 Bad Request)");
        assert_eq!(said(StatusCode::NOT_FOUND, "<html>"), "404 Not Found");
    }

    #[test]
    fn who_isnt_let_in_is_told_what_to_look_at() {
        let forbidden = said(StatusCode::FORBIDDEN, r#"{"message": "Forbidden"}"#);
        assert!(forbidden.starts_with("Forbidden (403 Forbidden): is it the right address"), "{forbidden}");
    }
}
