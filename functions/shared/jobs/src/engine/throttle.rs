//! The number of copies in flight: grows while object storage keeps up, and halves when it doesn't.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use milvault_model::Time;
use milvault_ports::{CopyOutcome, CopyRequest, ObjectsError};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::halt::backoff;
use crate::Jobs;

/// The most attempts at a copy in a row.
const MAX_ATTEMPTS: u32 = 6;

/// The initial limit: at a tenth of a second per copy in S3, well below the 3,500 requests a second of an idle prefix.
const INITIAL_LIMIT: usize = 128;

/// A response is slow if it takes longer than this plus the time for the object's size at [`SLOW_RATE`]. S3 responds in
/// a tenth of a second and copies tens of megabytes a second (its user guide, "Performance design patterns").
const SLOW_AFTER: Duration = Duration::from_secs(3);
/// In bytes per second.
const SLOW_RATE: u64 = 4_000_000;

/// A limit on copies in flight that adapts to object storage: it grows by one per good response until the first bad
/// one, then by one per round of good responses, and halves on a bad one.
#[derive(Debug)]
pub(crate) struct Throttle {
    permits: Semaphore,
    state: Mutex<State>,
}

/// What a response says about object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// Object storage keeps up.
    Good,
    /// Object storage is slow, or asked for fewer requests.
    Bad,
}

impl Signal {
    /// Classifies the response to a copy of an object of this size.
    fn from_response(bytes: u64, took: Duration) -> Self {
        match took <= SLOW_AFTER + Duration::from_secs(bytes / SLOW_RATE) {
            true => Self::Good,
            false => Self::Bad,
        }
    }
}

#[derive(Debug)]
struct State {
    limit: usize,
    max: usize,
    growth: Growth,
    /// The permits in use that exceed the limit: they are discarded when they are returned.
    excess: usize,
    /// When the limit was last halved: a request made before then says nothing about the new limit.
    halved_at: Option<Time>,
}

#[derive(Debug, PartialEq, Eq)]
enum Growth {
    /// Doubles per round of responses.
    Fast,
    /// Adds one per round; holds the number of good responses since the last step.
    Slow(usize),
}

impl Throttle {
    /// Creates a throttle for at most `max` copies in flight.
    pub(crate) fn new(max: usize) -> Self {
        let max = max.max(1);
        let limit = INITIAL_LIMIT.min(max);
        let state = State { limit, max, growth: Growth::Fast, excess: 0, halved_at: None };
        Self { permits: Semaphore::new(limit), state: Mutex::new(state) }
    }

    /// Waits for a permit and makes a copy; retries if object storage is unavailable. Returns `None` if `is_over` holds
    /// when the permit is granted.
    ///
    /// # Errors
    /// After [`MAX_ATTEMPTS`] attempts, or on an error that a retry wouldn't fix.
    pub(crate) async fn copy(
        &self,
        jobs: &Jobs,
        request: CopyRequest<'_>,
        is_over: impl Fn() -> bool,
    ) -> Result<Option<CopyOutcome>, ObjectsError> {
        let clock = &jobs.ports.clock;
        for attempt in 1.. {
            let Some(permit) = self.acquire().await else { return Ok(None) };
            if is_over() {
                return Ok(None);
            }
            let asked_at = clock.now();
            let outcome = jobs.ports.objects.copy(request.clone()).await;
            let now = clock.now();
            let took = (now - asked_at).to_std().unwrap_or_default();
            let signal = if outcome.is_ok() { Signal::from_response(request.size, took) } else { Signal::Bad };
            self.record(signal, asked_at, now);
            drop(permit);
            match outcome {
                Ok(outcome) => return Ok(Some(outcome)),
                Err(ObjectsError::Unavailable(reason)) if attempt < MAX_ATTEMPTS => {
                    tracing::debug!(reason, attempt, key = request.to_key, "retrying the copy");
                    // A random part of the backoff, so that copies that failed together aren't retried together.
                    let share = jobs.ports.ids.ulid(now).random() % 1000;
                    clock.sleep(backoff(attempt).mul_f64(share as f64 / 1000.0)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Waits for a permit for one copy in flight.
    async fn acquire(&self) -> Option<Permit<'_>> {
        let permit = self.permits.acquire().await.ok()?;
        Some(Permit { throttle: self, permit: Some(permit) })
    }

    /// Adapts the limit to the response to a request made at `asked_at`.
    fn record(&self, signal: Signal, asked_at: Time, now: Time) {
        let mut state = self.state();
        match signal {
            Signal::Good => {
                if state.limit == state.max {
                    return;
                }
                let step = match &mut state.growth {
                    Growth::Fast => true,
                    Growth::Slow(good) => {
                        *good += 1;
                        *good > state.limit
                    }
                };
                if step {
                    if state.growth != Growth::Fast {
                        state.growth = Growth::Slow(0);
                    }
                    state.limit += 1;
                    match state.excess.checked_sub(1) {
                        Some(fewer) => state.excess = fewer,
                        None => self.permits.add_permits(1),
                    }
                }
            }
            Signal::Bad => {
                if state.halved_at.is_some_and(|halved| asked_at <= halved) {
                    return;
                }
                let fewer = state.limit - (state.limit / 2).max(1);
                state.limit -= fewer;
                state.excess += fewer - self.permits.forget_permits(fewer);
                state.growth = Growth::Slow(0);
                state.halved_at = Some(now);
                tracing::info!(in_flight = state.limit, "object storage does not keep up");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit for one copy in flight.
struct Permit<'a> {
    throttle: &'a Throttle,
    permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.state();
        if let Some(fewer) = state.excess.checked_sub(1) {
            state.excess = fewer;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use futures::FutureExt;

    use super::*;

    fn at(ms: i64) -> Time {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms)
    }

    /// Takes every permit that is available now.
    fn all(throttle: &Throttle) -> Vec<Permit<'_>> {
        std::iter::from_fn(|| throttle.acquire().now_or_never().flatten()).collect()
    }

    #[test]
    fn the_limit_doubles_per_round_up_to_its_maximum() {
        let throttle = Throttle::new(400);
        let mut sizes = Vec::new();
        for round in 0..3 {
            let permits = all(&throttle);
            sizes.push(permits.len());
            permits.iter().for_each(|_| throttle.record(Signal::Good, at(round), at(round + 1)));
        }
        assert_eq!(sizes, [128, 256, 400]);
        assert_eq!(all(&throttle).len(), 400);
    }

    #[test]
    fn the_limit_halves_once_per_round_and_then_grows_by_one_per_round() {
        let throttle = Throttle::new(64);
        let permits = all(&throttle);
        permits.iter().for_each(|_| throttle.record(Signal::Bad, at(0), at(10)));
        drop(permits);
        let permits = all(&throttle);
        assert_eq!(permits.len(), 32);
        permits.iter().for_each(|_| throttle.record(Signal::Good, at(20), at(30)));
        throttle.record(Signal::Good, at(20), at(30));
        drop(permits);
        assert_eq!(all(&throttle).len(), 33);
    }

    #[test]
    fn the_limit_never_falls_below_one_and_a_large_object_may_take_longer() {
        let throttle = Throttle::new(2);
        for round in 0..5 {
            throttle.record(Signal::Bad, at(round * 10), at(round * 10 + 5));
        }
        assert_eq!(all(&throttle).len(), 1);
        assert_eq!(Signal::from_response(1_000_000, Duration::from_secs(4)), Signal::Bad);
        assert_eq!(Signal::from_response(1_000_000_000, Duration::from_secs(100)), Signal::Good);
    }
}
