//! Answers, and the form that each caller gets them in.

use std::collections::BTreeMap;

use milvault_jobs::{Class, Error, Tag};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Caller, problem::problem_of};

/// The HTTP status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done, and here it is.
    Ok,
    /// Made.
    Created,
    /// Begun; the object says how far it is.
    Accepted,
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    status: Status,
    headers: BTreeMap<&'static str, String>,
    /// The object; of an answer with another content type, its text.
    body: Value,
}

impl Answer {
    /// An answer with this object.
    pub fn new(status: Status, body: impl Serialize) -> Self {
        // Wire types are structs of texts, numbers and lists, which always serialise.
        Self { status, headers: BTreeMap::new(), body: serde_json::to_value(body).unwrap_or_default() }
    }

    /// Done, and here it is.
    pub fn ok(body: impl Serialize) -> Self {
        Self::new(Status::Ok, body)
    }

    /// Done, and here it is, as a text of this type.
    pub fn text(content_type: &str, text: String) -> Self {
        let headers = BTreeMap::from([("content-type", content_type.to_owned())]);
        Self { status: Status::Ok, headers, body: Value::String(text) }
    }

    /// Where a listing goes on whose form has no place for it.
    #[must_use]
    pub fn next_cursor(mut self, cursor: String) -> Self {
        self.headers.insert("x-next-cursor", cursor);
        self
    }

    /// Where the object is found from now on.
    #[must_use]
    pub fn located(mut self, path: String) -> Self {
        self.headers.insert("location", path);
        self
    }

    /// When it is worth asking again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.headers.insert("retry-after", seconds.to_string());
        self
    }

    /// What a PUT that comes back with `If-Match` is compared with.
    #[must_use]
    pub fn tagged(mut self, tag: &Tag) -> Self {
        self.headers.insert("etag", tag.as_str().to_owned());
        self
    }

    /// The object.
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

/// What the invocation results in: over HTTP every outcome is a response; elsewhere an error that another attempt may
/// get past remains an error, so that Lambda makes that attempt.
///
/// # Errors
/// Faults of ours, to a caller who isn't behind HTTP; to a background event also servers that don't answer.
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

/// Whoever waits for another's job to be over asks again after so long: jobs take seconds to hours.
const JOB_RETRY_SECONDS: u32 = 10;

/// API Gateway's response format 2.0.
fn response(status: u16, mut headers: BTreeMap<&'static str, String>, body: &str) -> Value {
    // Progress is only worth something fresh, and nothing in here is for a shared cache.
    headers.insert("cache-control", "no-store".to_owned());
    json!({ "statusCode": status, "headers": headers, "body": body, "isBase64Encoded": false })
}

#[cfg(test)]
mod tests {
    use milvault_model::BackupStatus;
    use milvault_ports::{CatalogError, MilvusError};

    use super::*;

    #[test]
    fn who_waits_for_a_job_is_told_when_to_ask_again() {
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
        let answer = Answer::new(Status::Accepted, json!({ "a": 1 })).located("/x".into()).retry_after(2);
        let response = reply(Caller::Http, Ok(answer), "r").unwrap();
        assert_eq!(response["statusCode"], 202);
        assert_eq!(response["headers"]["location"], "/x");
        assert_eq!(response["headers"]["retry-after"], "2");
        assert_eq!(response["headers"]["content-type"], "application/json");
        assert_eq!(response["body"], "{\"a\":1}");
    }

    #[test]
    fn a_text_goes_out_as_it_is() {
        let answer = Answer::text("text/csv", "a,b\r\n".into()).next_cursor("c".into());
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
    fn who_is_kept_from_something_by_a_job_is_told_when_to_ask_again_and_nobody_else_is() {
        let in_progress = Error::BackupInProgress("bk-01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
        let response = reply(Caller::Http, Err(in_progress), "r").unwrap();
        assert_eq!((&response["statusCode"], &response["headers"]["retry-after"]), (&json!(409), &json!("10")));
        let response = reply(Caller::Http, Err(Error::KeyReused), "r").unwrap();
        assert_eq!((&response["statusCode"], response["headers"].get("retry-after")), (&json!(409), None));
    }

    #[test]
    fn a_direct_caller_gets_plain_objects_and_faults_as_errors() {
        assert_eq!(reply(Caller::Direct, Ok(Answer::ok(json!({ "a": 1 }))), "r").unwrap(), json!({ "a": 1 }));
        assert_eq!(reply(Caller::Direct, Err(unreachable()), "r").unwrap()["code"], "MILVUS_UNREACHABLE");
        assert!(reply(Caller::Direct, Err(fault()), "r").is_err());
    }

    #[test]
    fn a_background_event_is_tried_again_when_that_can_help() {
        assert!(reply(Caller::Background, Err(unreachable()), "r").is_err());
        assert!(reply(Caller::Background, Err(fault()), "r").is_err());
        assert_eq!(reply(Caller::Background, Err(Error::KeyReused), "r").unwrap()["status"], 409);
    }
}
