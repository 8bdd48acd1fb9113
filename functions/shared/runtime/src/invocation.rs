//! One invocation: its id, its deadline, and its answer.

use chrono::{DateTime, TimeDelta};
use milvault_gateway::{Answer, Caller, code_of, reply};
use milvault_jobs::{Class, Error};
use milvault_model::Time;
use milvault_ports::Deadline;
use serde_json::Value;

use crate::error::RuntimeError;

/// API Gateway waits 30 seconds, so an answer has to be sent before that.
const HTTP: TimeDelta = TimeDelta::seconds(25);
/// The time for an invocation on an emulator that reports no deadline.
const WITHOUT_DEADLINE: TimeDelta = TimeDelta::minutes(10);

/// One invocation of a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Lambda's id of the invocation, which its log lines contain.
    pub request_id: String,
    /// The time at which its work has to be over.
    pub deadline: Deadline,
}

impl Invocation {
    /// Makes an invocation that Lambda ends at `ends_at_ms` (milliseconds since 1970).
    ///
    /// A fifth of the time, 1 to 20 seconds, is kept for the current step, the checkpoint and the hand-over. An end in
    /// the past means that there is none: `cargo lambda` sends 1970.
    pub fn new(request_id: String, ends_at_ms: u64, now: Time) -> Self {
        let ends_at = i64::try_from(ends_at_ms).ok().and_then(DateTime::from_timestamp_millis);
        let deadline = match ends_at {
            Some(ends_at) if ends_at > now => {
                let margin = ((ends_at - now) / 5).clamp(TimeDelta::seconds(1), TimeDelta::seconds(20));
                ends_at - margin
            }
            _ => now + WITHOUT_DEADLINE,
        };
        Self { request_id, deadline: Deadline::at(deadline) }
    }

    /// The time at which work for this caller has to be over.
    pub fn deadline_for(&self, caller: Caller, now: Time) -> Deadline {
        let left = TimeDelta::from_std(self.deadline.left(now)).unwrap_or(WITHOUT_DEADLINE);
        match caller {
            Caller::Http => Deadline::at(now + left.min(HTTP)),
            Caller::Direct | Caller::Background => self.deadline,
        }
    }

    /// The invocation's result, in the form that its caller gets. An error is logged with its cause.
    ///
    /// # Errors
    /// See [`reply`].
    pub fn reply(&self, caller: Caller, outcome: Result<Answer, Error>) -> Result<Value, RuntimeError> {
        if let Err(error) = &outcome {
            let code = code_of(error);
            match error.class() {
                Class::Damaged | Class::Fault => tracing::error!(%error, ?caller, "the invocation failed"),
                Class::Unavailable | Class::Refused => {
                    tracing::warn!(%error, ?code, ?caller, "a service doesn't answer");
                }
                Class::Request | Class::Busy => tracing::info!(%error, ?code, ?caller, "refused"),
            }
        }
        Ok(reply(caller, outcome, &self.request_id)?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn now() -> Time {
        DateTime::from_timestamp_millis(1_800_000_000_000).unwrap()
    }

    /// The seconds for work of an invocation that Lambda ends in this number of seconds.
    fn left(ends_in: i64) -> Duration {
        let ends_at = (now() + TimeDelta::seconds(ends_in)).timestamp_millis();
        Invocation::new(String::new(), ends_at.try_into().unwrap(), now()).deadline.left(now())
    }

    #[test]
    fn work_ends_a_margin_before_lambda_does() {
        assert_eq!(left(900), Duration::from_secs(880));
        assert_eq!(left(30), Duration::from_secs(24));
        assert_eq!(left(2), Duration::from_secs(1));
        assert_eq!(left(1), Duration::ZERO);
    }

    #[test]
    fn an_end_that_is_past_is_none() {
        for nonsense in [0, 1, u64::MAX] {
            let deadline = Invocation::new(String::new(), nonsense, now()).deadline;
            assert_eq!(deadline.left(now()), Duration::from_secs(600), "{nonsense}");
        }
    }

    #[test]
    fn over_http_work_ends_before_api_gateway_stops_waiting() {
        let invocation =
            Invocation { request_id: String::new(), deadline: Deadline::at(now() + TimeDelta::minutes(14)) };
        assert_eq!(invocation.deadline_for(Caller::Http, now()).left(now()), Duration::from_secs(25));
        assert_eq!(invocation.deadline_for(Caller::Direct, now()).left(now()), Duration::from_secs(840));
    }
}
