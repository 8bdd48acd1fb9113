//! The outcome of what was asked for: waited for or not, as hoped or not.

use milvault_wire::{CompletenessView, FailureView, Open};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error,
    api::{Answer, Api},
    arguments::Waiting,
    show::{known, reasons, text},
    wait::Job,
};

/// What was accepted, or what became of it once it is over.
pub(super) async fn ended<T: DeserializeOwned>(
    api: &Api,
    job: Job<'_, T>,
    waiting: Waiting,
    accepted: Answer<T>,
) -> Result<Answer<T>, Error> {
    if waiting.no_wait {
        job.leave();
        return Ok(accepted);
    }
    job.ended(api).await
}

/// Whether what was waited for has everything that was asked for.
pub(super) fn whole(found: &CompletenessView, what: &'static str, status: &'static str) -> Result<(), Error> {
    if found.complete != Some(false) {
        return Ok(());
    }
    Err(Error::Incomplete { what, status, reasons: reasons(found).collect::<Vec<_>>().join("; ") })
}

/// Whether what was waited for ended as it should.
pub(super) fn succeeded<S: PartialEq + Serialize>(
    status: &Open<S>,
    failure: Option<&FailureView>,
    waiting: Waiting,
    hoped: S,
) -> Result<(), Error> {
    if waiting.no_wait || *status == hoped {
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
    fn only_what_is_known_to_be_incomplete_isnt_whole() {
        let whole = |found| whole(&from_value(found).unwrap(), "backup", "available");
        let incomplete = whole(json!({ "complete": false, "incompleteReasons": ["a", "b"] })).unwrap_err();
        assert_eq!(incomplete.to_string(), "the backup is available and incomplete: a; b");
        assert!(whole(json!({ "complete": true })).is_ok());
        assert!(whole(json!({ "complete": null })).is_ok() && whole(json!({})).is_ok());
    }

    #[test]
    fn what_ended_otherwise_than_hoped_says_why() {
        let ended = |status: &str, failure| {
            let (status, failure): (_, Option<FailureView>) = from_value(json!([status, failure])).unwrap();
            succeeded(&status, failure.as_ref(), Waiting { no_wait: false }, RestoreStatus::Completed)
        };
        assert!(ended("COMPLETED", json!(null)).is_ok());
        let failed = ended("FAILED", json!({ "code": "DISK_FULL", "message": "no\nroom" })).unwrap_err();
        assert_eq!(failed.to_string(), "it is FAILED: no\u{fffd}room (DISK_FULL)");
        assert_eq!(ended("PAUSED", json!(null)).unwrap_err().to_string(), "it is PAUSED");
    }
}
