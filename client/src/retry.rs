//! Which calls are retried, and after which pause, as pure functions.
//!
//! A retry is safe because a repeated call has no further effect: a POST has an idempotency key.

use std::time::{Duration, Instant};

use milvault_wire::{Code, Open};
use reqwest::StatusCode;

/// The maximum number of attempts at a call.
const ATTEMPTS: u32 = 5;
/// The first pause. Each pause is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
/// The longest pause that an answer can ask for. If it asks for a longer one, the error is reported instead.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// How long a job is polled without an answer: longer than a router takes to restart, or a function to be available
/// again.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whether an error answer may be transient: it comes from API Gateway, not from a function, whose answers have a code.
pub(crate) fn is_transient(status: StatusCode, code: Option<&Open<Code>>) -> bool {
    code.is_none() && matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

/// Returns the pause after this attempt, counted from 1; `None` if it was the last. `retry_after` is the pause that the
/// answer asked for. `random` spreads the retries of clients that failed at the same time.
pub(crate) fn pause(attempt: u32, retry_after: Option<Duration>, random: u32) -> Option<Duration> {
    let retry_after = retry_after.unwrap_or_default();
    (attempt < ATTEMPTS && retry_after <= LONGEST_RETRY_AFTER).then(|| retry_after.max(backoff(attempt, random)))
}

/// Returns a pause between one half and the whole of a time that doubles with every attempt.
fn backoff(attempt: u32, random: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
    let half = FIRST.saturating_mul(doubled).min(LONGEST) / 2;
    half + half * random / u32::MAX
}

/// Returns a random number, or the middle of the range if there is no randomness.
pub(crate) fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

/// Parses the seconds of a `Retry-After` header. A date, which AWS never sends, is ignored.
pub(crate) fn parse_retry_after(retry_after: &str) -> Option<Duration> {
    retry_after.trim().parse().ok().map(Duration::from_secs)
}

/// Limits how long a job is polled without an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    last_answer: Instant,
    failures: u32,
}

impl Patience {
    /// Starts the limit at an answer.
    pub(crate) fn since(answer: Instant) -> Self {
        Self { last_answer: answer, failures: 0 }
    }

    /// Counts a failed poll. Returns the pause before the next one; `None` if the limit is reached.
    pub(crate) fn failed(&mut self, now: Instant, random: u32) -> Option<Duration> {
        self.failures += 1;
        // The pauses begin at about a second, because the failed call has already been retried after shorter ones.
        let pause = backoff(self.failures + 2, random);
        (now.duration_since(self.last_answer) < PATIENCE).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_answer_is_final_and_api_gateways_errors_are_transient() {
        for status in [429, 500, 502, 503, 504] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(is_transient(status, None));
            assert!(!is_transient(status, Some(&Open::Known(Code::MilvusUnreachable))));
        }
        assert!(!is_transient(StatusCode::FORBIDDEN, None));
    }

    #[test]
    fn pauses_double_are_spread_and_end() {
        let longest: Vec<_> = (1..).map_while(|attempt| pause(attempt, None, u32::MAX)).collect();
        assert_eq!(longest, [250, 500, 1000, 2000].map(Duration::from_millis));
        assert_eq!(pause(1, None, 0), Some(Duration::from_millis(125)));
        assert_eq!(backoff(u32::MAX, u32::MAX), LONGEST);
    }

    #[test]
    fn the_requested_pause_is_kept_unless_it_is_too_long() {
        assert_eq!(pause(1, parse_retry_after("7"), 0), Some(Duration::from_secs(7)));
        assert_eq!(pause(1, parse_retry_after("0"), 0), Some(Duration::from_millis(125)));
        assert_eq!(pause(1, parse_retry_after("3600"), 0), None);
        assert_eq!(parse_retry_after("Tue, 24 Nov 2026 22:00:00 GMT"), None);
    }

    #[test]
    fn a_job_is_polled_for_minutes_after_its_last_answer() {
        let started = Instant::now();
        let gives_up_after = |mut patience: Patience, mut now: Instant| {
            while let Some(pause) = patience.failed(now, u32::MAX) {
                assert!(pause <= LONGEST);
                now += pause;
            }
            now
        };
        let first = gives_up_after(Patience::since(started), started);
        assert!((PATIENCE..PATIENCE + LONGEST).contains(&(first - started)));
        assert!(gives_up_after(Patience::since(first), first) >= first + PATIENCE);
    }
}
