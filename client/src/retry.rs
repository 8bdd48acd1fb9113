//! When a call is made again, and after which pause: pure, so that nobody has to wait to see it.
//!
//! A call may be made again because each does once what it does, a POST by its idempotency key.

use std::time::{Duration, Instant};

use milvault_wire::{Code, Open};
use reqwest::StatusCode;

/// How often a call is made at most.
const ATTEMPTS: u32 = 5;
/// The first pause; each is twice the one before.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
/// Who is asked to wait for longer rather hears of it.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// For how long a job is asked for in vain: longer than a router needs to start, or a function to be had again.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whether an answer is of something that passes: what API Gateway says in a function's place, and not a function, whose
/// answers have a code.
pub(crate) fn passes(status: StatusCode, code: Option<&Open<Code>>) -> bool {
    code.is_none() && matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

/// How long to pause after the `attempt`th attempt, counted from 1; `None` if it was the last. `asked` is what the answer
/// asked for, and `random` spreads those who were turned away together.
pub(crate) fn pause(attempt: u32, asked: Option<Duration>, random: u32) -> Option<Duration> {
    let asked = asked.unwrap_or_default();
    (attempt < ATTEMPTS && asked <= LONGEST_ASKED).then(|| asked.max(backoff(attempt, random)))
}

/// Between a half and the whole of what is twice as long with every attempt.
fn backoff(attempt: u32, random: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
    let half = FIRST.saturating_mul(doubled).min(LONGEST) / 2;
    half + half * random / u32::MAX
}

/// A random number; without randomness, one in the middle does as well.
pub(crate) fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

/// How many seconds an answer asks to wait for. A date there, which nothing of AWS sends, is as if nothing was said.
pub(crate) fn asked(retry_after: &str) -> Option<Duration> {
    retry_after.trim().parse().ok().map(Duration::from_secs)
}

/// How long it is since a job was last heard of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    heard: Instant,
    in_vain: u32,
}

impl Patience {
    /// The job was heard of now.
    pub(crate) fn heard(now: Instant) -> Self {
        Self { heard: now, in_vain: 0 }
    }

    /// It was asked for in vain. How long to pause before asking again; `None` if there is no more patience.
    pub(crate) fn in_vain(&mut self, now: Instant, random: u32) -> Option<Duration> {
        self.in_vain += 1;
        // From a second on: the call that was in vain has had shorter ones.
        let pause = backoff(self.in_vain + 2, random);
        (now.duration_since(self.heard) < PATIENCE).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_answers_is_final_and_what_stands_in_its_way_passes() {
        for status in [429, 500, 502, 503, 504] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(passes(status, None));
            assert!(!passes(status, Some(&Open::Known(Code::MilvusUnreachable))));
        }
        assert!(!passes(StatusCode::FORBIDDEN, None));
    }

    #[test]
    fn pauses_double_are_spread_and_come_to_an_end() {
        let longest: Vec<_> = (1..).map_while(|attempt| pause(attempt, None, u32::MAX)).collect();
        assert_eq!(longest, [250, 500, 1000, 2000].map(Duration::from_millis));
        assert_eq!(pause(1, None, 0), Some(Duration::from_millis(125)));
        assert_eq!(backoff(u32::MAX, u32::MAX), LONGEST);
    }

    #[test]
    fn what_the_api_asks_for_is_waited_unless_that_is_long() {
        assert_eq!(pause(1, asked("7"), 0), Some(Duration::from_secs(7)));
        assert_eq!(pause(1, asked("0"), 0), Some(Duration::from_millis(125)));
        assert_eq!(pause(1, asked("3600"), 0), None);
        assert_eq!(asked("Tue, 24 Nov 2026 22:00:00 GMT"), None);
    }

    #[test]
    fn a_job_is_asked_for_in_vain_for_minutes_and_each_answer_begins_them_anew() {
        let started = Instant::now();
        let gives_up_after = |mut patience: Patience, mut now: Instant| {
            while let Some(pause) = patience.in_vain(now, u32::MAX) {
                assert!(pause <= LONGEST);
                now += pause;
            }
            now
        };
        let first = gives_up_after(Patience::heard(started), started);
        assert!((PATIENCE..PATIENCE + LONGEST).contains(&(first - started)));
        assert!(gives_up_after(Patience::heard(first), first) >= first + PATIENCE);
    }
}
