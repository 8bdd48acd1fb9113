//! The API's error answers.

use std::fmt::{self, Display, Formatter};

use milvault_wire::{Code, Open, Problem};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// A refusal: a problem document (RFC 9457) of the functions, or API Gateway's own error.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// The answer's JSON; null if it isn't JSON.
    document: Value,
    reason: Reason,
    /// The number of attempts. An earlier attempt may have succeeded, and only its answer was lost.
    attempts: u32,
}

/// The reason in a refusal's document.
#[derive(Debug)]
enum Reason {
    /// The problem that a function reports.
    Problem(Box<Problem>),
    /// The message that API Gateway returns.
    Message(String),
    /// The document has neither form.
    Unknown,
}

/// API Gateway's own error object.
#[derive(Debug, Deserialize)]
struct GatewayError {
    message: String,
}

impl Reason {
    fn from_document(document: &Value) -> Self {
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
        Self { status, reason: Reason::from_document(&document), document, attempts }
    }

    /// Returns the answer, if it was JSON.
    pub(crate) fn document(&self) -> Option<&Value> {
        (!self.document.is_null()).then_some(&self.document)
    }

    /// Returns the stable code, which only the functions' answers have.
    pub(crate) fn code(&self) -> Option<&Open<Code>> {
        match &self.reason {
            Reason::Problem(problem) => Some(&problem.code),
            Reason::Message(_) | Reason::Unknown => None,
        }
    }

    /// Whether the refusal has this code.
    pub(crate) fn is(&self, code: Code) -> bool {
        self.code().is_some_and(|found| *found == code)
    }

    /// Whether the API or a server behind it failed, so that the request isn't the cause.
    pub(crate) fn is_server_error(&self) -> bool {
        self.status.is_server_error()
    }

    /// Whether the call was retried, so that the refusal may be due to an earlier attempt's success.
    pub(crate) fn was_retried(&self) -> bool {
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
            write!(to, ": check the address, and whether the credentials or the token are allowed to call it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: StatusCode, text: &str) -> String {
        Refusal::new(status, text, 1).to_string()
    }

    #[test]
    fn a_refusal_has_the_apis_own_message() {
        let problem = r#"{"code": "BACKUP_NAME_TAKEN", "detail": "the name is taken", "status": 409}"#;
        assert_eq!(message(StatusCode::CONFLICT, problem), "the name is taken (BACKUP_NAME_TAKEN)");
        assert_eq!(message(StatusCode::BAD_REQUEST, r#"{"message": "Bad"}"#), "Bad (400 Bad Request)");
        assert_eq!(message(StatusCode::NOT_FOUND, "<html>"), "404 Not Found");
    }

    #[test]
    fn a_refusal_with_a_code_of_a_later_release_has_its_message() {
        let later = r#"{"code": "QUOTA_EXCEEDED", "title": "Too many backups", "detail": "", "limit": 5}"#;
        assert_eq!(message(StatusCode::CONFLICT, later), "Too many backups (QUOTA_EXCEEDED)");
        let refusal = Refusal::new(StatusCode::CONFLICT, later, 1);
        assert!(refusal.code().is_some() && !refusal.is(Code::BackupNameTaken));
        assert_eq!(refusal.document().unwrap()["limit"], 5);
    }

    #[test]
    fn a_denied_call_advises_what_to_check() {
        let forbidden = message(StatusCode::FORBIDDEN, r#"{"message": "Forbidden"}"#);
        assert!(forbidden.starts_with("Forbidden (403 Forbidden): check the address"), "{forbidden}");
    }
}
