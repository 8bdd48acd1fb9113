//! Answers, and their form for each kind of caller.

use std::collections::BTreeMap;

use milvault_jobs::{Class, Error, Tag};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Caller, problem::problem_of};

/// The HTTP status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 200: the request was carried out.
    Ok,
    /// 201: the object was created.
    Created,
    /// 202: a job was started; the object shows its progress.
    Accepted,
}

/// The answer of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    status: Status,
    headers: BTreeMap<&'static str, String>,
    /// The object, or the text of an answer with another content type.
    body: Value,
}

impl Answer {
    /// Makes an answer with this object.
    pub fn new(status: Status, body: impl Serialize) -> Self {
        // Wire types consist of strings, numbers and lists, so their serialisation can't fail.
        Self { status, headers: BTreeMap::new(), body: serde_json::to_value(body).unwrap_or_default() }
    }

    /// Makes an answer with the status 200 and this object.
    pub fn ok(body: impl Serialize) -> Self {
        Self::new(Status::Ok, body)
    }

    /// Makes an answer with the status 200 and a text of this content type.
    pub fn text(content_type: &str, text: String) -> Self {
        let headers = BTreeMap::from([("content-type", content_type.to_owned())]);
        Self { status: Status::Ok, headers, body: Value::String(text) }
    }

    /// Adds the next cursor of a listing whose body has no place for it.
    #[must_use]
    pub fn with_next_cursor(mut self, cursor: String) -> Self {
        self.headers.insert("x-next-cursor", cursor);
        self
    }

    /// Adds the object's path.
    #[must_use]
    pub fn with_location(mut self, path: String) -> Self {
        self.headers.insert("location", path);
        self
    }

    /// Adds the time after which a repeated request makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.headers.insert("retry-after", seconds.to_string());
        self
    }

    /// Adds the tag that a later PUT can require with `If-Match`.
    #[must_use]
    pub fn with_etag(mut self, tag: &Tag) -> Self {
        self.headers.insert("etag", tag.as_str().to_owned());
        self
    }

    /// Returns the object.
    pub fn body(&self) -> &Value {
        &self.body
    }

    fn http(mut self) -> Value {
        let body = match self.headers.contains_key("content-type") {
            true => self.body.as_str().unwrap_or_default().to_owned(),
            false => self.body.to_string(),
        };
        self.headers.entry("content-type").or_insert_with(|| "application/json".to_owned());
        let status = match self.status {
            Status::Ok => 200,
            Status::Created => 201,
            Status::Accepted => 202,
        };
        response(status, self.headers, &body)
    }
}

/// Makes the invocation's result. Over HTTP, every outcome is a response. For other callers, an error that a retry may
/// resolve remains an error, so that Lambda retries the invocation.
///
/// # Errors
/// Faults of this service, for callers other than HTTP; for background events also servers that don't answer.
pub fn reply(caller: Caller, outcome: Result<Answer, Error>, request_id: &str) -> Result<Value, Error> {
    let error = match (caller, outcome) {
        (Caller::Http, Ok(answer)) => return Ok(answer.http()),
        (Caller::Direct | Caller::Background, Ok(answer)) => return Ok(answer.body),
        (_, Err(error)) => error,
    };
    let problem = problem_of(&error, request_id);
    match caller {
        Caller::Http => {
            let mut headers = BTreeMap::from([("content-type", "application/problem+json".to_owned())]);
            if error.class() == Class::Busy {
                headers.insert("retry-after", JOB_RETRY_SECONDS.to_string());
            }
            Ok(response(problem.status, headers, &json!(problem).to_string()))
        }
        Caller::Direct if error.class() == Class::Fault => Err(error),
        Caller::Background if !matches!(error.class(), Class::Request | Class::Busy) => Err(error),
        Caller::Direct | Caller::Background => Ok(json!(problem)),
    }
}

/// When to repeat a request that a running job prevented, in seconds: jobs take seconds to hours.
const JOB_RETRY_SECONDS: u32 = 10;

/// API Gateway's response format 2.0.
fn response(status: u16, mut headers: BTreeMap<&'static str, String>, body: &str) -> Value {
    // Progress must be fresh, and no answer belongs in a shared cache.
    headers.insert("cache-control", "no-store".to_owned());
    json!({ "statusCode": status, "headers": headers, "body": body, "isBase64Encoded": false })
}

#[cfg(test)]
mod tests {
    use milvault_model::BackupStatus;
    use milvault_ports::{CatalogError, MilvusError};

    use super::*;

    #[test]
    fn an_error_because_of_a_running_job_has_retry_after() {
        let backup = || "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        for (error, waits) in [
            (Error::BackupInProgress(backup()), true),
            (Error::NotAvailable(backup(), BackupStatus::Running), true),
            (Error::NotAvailable(backup(), BackupStatus::Failed), false),
            (Error::KeyReused, false),
        ] {
            let answer = reply(Caller::Http, Err(error), "req").unwrap();
            assert_eq!(answer["headers"].get("retry-after").is_some(), waits, "{answer}");
        }
    }

    fn fault() -> Error {
        CatalogError::Unavailable("table-7".into()).into()
    }

    fn unreachable() -> Error {
        MilvusError::Unreachable("refused".into()).into()
    }

    #[test]
    fn an_http_answer_has_status_headers_and_a_json_text() {
        let answer = Answer::new(Status::Accepted, json!({ "a": 1 })).with_location("/x".into()).with_retry_after(2);
        let response = reply(Caller::Http, Ok(answer), "r").unwrap();
        assert_eq!(response["statusCode"], 202);
        assert_eq!(response["headers"]["location"], "/x");
        assert_eq!(response["headers"]["retry-after"], "2");
        assert_eq!(response["headers"]["content-type"], "application/json");
        assert_eq!(response["body"], "{\"a\":1}");
    }

    #[test]
    fn a_text_is_answered_unchanged() {
        let answer = Answer::text("text/csv", "a,b\r\n".into()).with_next_cursor("c".into());
        let response = reply(Caller::Http, Ok(answer.clone()), "r").unwrap();
        assert_eq!(response["headers"]["content-type"], "text/csv");
        assert_eq!(response["headers"]["x-next-cursor"], "c");
        assert_eq!(response["body"], "a,b\r\n");
        assert_eq!(reply(Caller::Direct, Ok(answer), "r").unwrap(), "a,b\r\n");
    }

    #[test]
    fn over_http_even_a_fault_is_an_answer() {
        let response = reply(Caller::Http, Err(fault()), "req-7").unwrap();
        assert_eq!(response["statusCode"], 500);
        assert_eq!(response["headers"]["content-type"], "application/problem+json");
        assert!(response["body"].as_str().unwrap().contains("req-7"));
        assert!(!response["body"].as_str().unwrap().contains("table-7"));
    }

    #[test]
    fn a_conflict_has_retry_after_only_if_a_job_causes_it() {
        let in_progress = Error::BackupInProgress("bk-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
        let response = reply(Caller::Http, Err(in_progress), "r").unwrap();
        assert_eq!((&response["statusCode"], &response["headers"]["retry-after"]), (&json!(409), &json!("10")));
        let response = reply(Caller::Http, Err(Error::KeyReused), "r").unwrap();
        assert_eq!((&response["statusCode"], response["headers"].get("retry-after")), (&json!(409), None));
    }

    #[test]
    fn a_direct_caller_gets_plain_objects_but_faults_as_errors() {
        assert_eq!(reply(Caller::Direct, Ok(Answer::ok(json!({ "a": 1 }))), "r").unwrap(), json!({ "a": 1 }));
        assert_eq!(reply(Caller::Direct, Err(unreachable()), "r").unwrap()["code"], "MILVUS_UNREACHABLE");
        assert!(reply(Caller::Direct, Err(fault()), "r").is_err());
    }

    #[test]
    fn a_background_event_is_retried_if_a_retry_can_succeed() {
        assert!(reply(Caller::Background, Err(unreachable()), "r").is_err());
        assert!(reply(Caller::Background, Err(fault()), "r").is_err());
        assert_eq!(reply(Caller::Background, Err(Error::KeyReused), "r").unwrap()["status"], 409);
    }
}
