//! What the API answers instead of doing what it was asked for.

use std::fmt::{self, Display, Formatter};

use milvault_wire::{Code, Open, Problem};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// A refusal: a problem document (RFC 9457) of the functions, or what API Gateway says in their place.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// Null where the answer isn't JSON.
    document: Value,
    reason: Reason,
    /// How often it was asked for: an earlier attempt may have done it, and only its answer was lost.
    attempts: u32,
}

/// What a refusal's document says.
#[derive(Debug)]
enum Reason {
    /// What a function says.
    Problem(Box<Problem>),
    /// What API Gateway says.
    Message(String),
    /// Nothing of either form.
    Unknown,
}

/// API Gateway's own error object.
#[derive(Debug, Deserialize)]
struct GatewayError {
    message: String,
}

impl Reason {
    fn of(document: &Value) -> Self {
        match (Problem::deserialize(document), GatewayError::deserialize(document)) {
            (Ok(problem), _) => Self::Problem(Box::new(problem)),
            (Err(_), Ok(GatewayError { message })) => Self::Message(message),
            (Err(_), Err(_)) => Self::Unknown,
        }
    }
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: &str, attempts: u32) -> Self {
        let document = serde_json::from_str(text).unwrap_or_default();
        Self { status, reason: Reason::of(&document), document, attempts }
    }

    /// What was answered, where it was JSON.
    pub(crate) fn document(&self) -> Option<&Value> {
        (!self.document.is_null()).then_some(&self.document)
    }

    /// The stable code, which only the functions' own answers have.
    pub(crate) fn code(&self) -> Option<&Open<Code>> {
        match &self.reason {
            Reason::Problem(problem) => Some(&problem.code),
            Reason::Message(_) | Reason::Unknown => None,
        }
    }

    /// Whether it has this code.
    pub(crate) fn is(&self, code: Code) -> bool {
        self.code().is_some_and(|found| *found == code)
    }

    /// Whether it isn't about the request: a server behind the API doesn't answer, or the API has a fault.
    pub(crate) fn is_a_fault(&self) -> bool {
        self.status.is_server_error()
    }

    /// Whether an earlier attempt of the same call may be what is in its way.
    pub(crate) fn may_be_our_own_doing(&self) -> bool {
        self.attempts > 1
    }
}

impl Display for Refusal {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Problem(problem) => {
                let words = [&problem.detail, &problem.title].into_iter().find(|words| !words.is_empty());
                return match words {
                    Some(words) => write!(to, "{words} ({})", problem.code),
                    None => write!(to, "{}", self.status),
                };
            }
            Reason::Message(message) => write!(to, "{message} ({})", self.status)?,
            Reason::Unknown => write!(to, "{}", self.status)?,
        }
        if matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
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
    fn a_refusal_with_a_code_of_a_later_release_is_told_too() {
        let later = r#"{"code": "QUOTA_EXCEEDED", "title": "Too many backups", "detail": "", "limit": 5}"#;
        assert_eq!(said(StatusCode::CONFLICT, later), "Too many backups (QUOTA_EXCEEDED)");
        let refusal = Refusal::new(StatusCode::CONFLICT, later, 1);
        assert!(refusal.code().is_some() && !refusal.is(Code::BackupNameTaken));
        assert_eq!(refusal.document().unwrap()["limit"], 5);
    }

    #[test]
    fn who_isnt_let_in_is_told_what_to_look_at() {
        let forbidden = said(StatusCode::FORBIDDEN, r#"{"message": "Forbidden"}"#);
        assert!(forbidden.starts_with("Forbidden (403 Forbidden): is it the right address"), "{forbidden}");
    }
}
