//! The outcome of a job: waiting for its end, and checking its status and completeness.

use milvault_wire::{CompletenessView, FailureView, Open};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error,
    api::{Answer, Api},
    arguments::Waiting,
    show::{known, reasons, text},
    wait::Job,
};

/// Waits for a job's end, unless the user doesn't want to, and returns the object.
pub(super) async fn wait_for<T: DeserializeOwned>(
    api: &Api,
    job: Job<'_, T>,
    waiting: Waiting,
    accepted: Answer<T>,
) -> Result<Answer<T>, Error> {
    if waiting.no_wait {
        job.print_hint();
        return Ok(accepted);
    }
    job.wait(api).await
}

/// Checks that a backup or restore isn't known to be incomplete.
pub(super) fn require_complete(
    found: &CompletenessView,
    what: &'static str,
    status: &'static str,
) -> Result<(), Error> {
    if found.complete != Some(false) {
        return Ok(());
    }
    Err(Error::Incomplete { what, status, reasons: reasons(found).collect::<Vec<_>>().join("; ") })
}

/// Checks that a job that was waited for ended with this status.
pub(super) fn require_status<S: PartialEq + Serialize>(
    status: &Open<S>,
    failure: Option<&FailureView>,
    waiting: Waiting,
    expected: S,
) -> Result<(), Error> {
    if waiting.no_wait || *status == expected {
        return Ok(());
    }
    Err(Error::Ended(match known(failure.map(|failure| &failure.message)) {
        message if message.is_empty() => format!("it is {}", text(status)),
        message => format!("it is {}: {message} ({})", text(status), known(failure.map(|failure| &failure.code))),
    }))
}

#[cfg(test)]
mod tests {
    use milvault_model::RestoreStatus;
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn only_an_object_that_is_known_to_be_incomplete_is_an_error() {
        let check = |found| require_complete(&from_value(found).unwrap(), "backup", "available");
        let incomplete = check(json!({ "complete": false, "incompleteReasons": ["a", "b"] })).unwrap_err();
        assert_eq!(incomplete.to_string(), "the backup is available and incomplete: a; b");
        assert!(check(json!({ "complete": true })).is_ok());
        assert!(check(json!({ "complete": null })).is_ok() && check(json!({})).is_ok());
    }

    #[test]
    fn an_unexpected_status_is_an_error_with_its_cause() {
        let ended = |status: &str, failure| {
            let (status, failure): (_, Option<FailureView>) = from_value(json!([status, failure])).unwrap();
            require_status(&status, failure.as_ref(), Waiting { no_wait: false }, RestoreStatus::Completed)
        };
        assert!(ended("COMPLETED", json!(null)).is_ok());
        let failed = ended("FAILED", json!({ "code": "DISK_FULL", "message": "no\nroom" })).unwrap_err();
        assert_eq!(failed.to_string(), "it is FAILED: no\u{fffd}room (DISK_FULL)");
        assert_eq!(ended("PAUSED", json!(null)).unwrap_err().to_string(), "it is PAUSED");
    }
}
