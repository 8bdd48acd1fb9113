//! How many copies are in flight: more while object storage keeps up, half as many when it doesn't.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use milvault_model::Time;
use milvault_ports::{CopyOutcome, CopyRequest, ObjectsError};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::halt::backoff;
use crate::Jobs;

/// How often a copy is tried in a row.
const TRIES: u32 = 6;

/// How many to begin with: at S3's tenth of a second each, well below the 3,500 a second that an idle prefix takes.
const FIRST: usize = 128;

/// An answer that takes longer than this and the size at [`SLOW_RATE`] is slow. S3 answers in a tenth of a second and
/// copies tens of megabytes a second (its user guide, "Performance design patterns").
const SLOW: Duration = Duration::from_secs(3);
/// Bytes a second.
const SLOW_RATE: u64 = 4_000_000;

/// A bound on copies in flight that finds its size: it grows by one per good answer until the first bad one, from then
/// on by one per round of good answers, and halves on a bad one.
#[derive(Debug)]
pub(crate) struct Throttle {
    permits: Semaphore,
    state: Mutex<State>,
}

/// What an answer says about object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// It keeps up.
    Good,
    /// It is slow, or asked for fewer requests.
    Bad,
}

impl Signal {
    /// Of an answer about so many bytes after so long.
    fn of_answer(bytes: u64, took: Duration) -> Self {
        match took <= SLOW + Duration::from_secs(bytes / SLOW_RATE) {
            true => Self::Good,
            false => Self::Bad,
        }
    }
}

#[derive(Debug)]
struct State {
    limit: usize,
    most: usize,
    growth: Growth,
    /// Permits that are out and have to be given up when they come back.
    excess: usize,
    /// When it was halved last: what was asked before says nothing about the new size.
    halved_at: Option<Time>,
}

#[derive(Debug, PartialEq, Eq)]
enum Growth {
    /// Doubles per round of answers.
    Fast,
    /// One more per round: this many good answers since the last step.
    Slow(usize),
}

impl Throttle {
    /// For at most so many copies in flight.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1);
        let limit = FIRST.min(most);
        let state = State { limit, most, growth: Growth::Fast, excess: 0, halved_at: None };
        Self { permits: Semaphore::new(limit), state: Mutex::new(state) }
    }

    /// Makes a copy when its turn comes, again if object storage doesn't answer; `None` if its turn comes too late.
    ///
    /// # Errors
    /// After so many tries, or one that another try wouldn't mend.
    pub(crate) async fn copy(
        &self,
        jobs: &Jobs,
        request: CopyRequest<'_>,
        is_over: impl Fn() -> bool,
    ) -> Result<Option<CopyOutcome>, ObjectsError> {
        let clock = &jobs.ports.clock;
        for attempt in 1.. {
            let Some(permit) = self.enter().await else { return Ok(None) };
            if is_over() {
                return Ok(None);
            }
            let asked_at = clock.now();
            let outcome = jobs.ports.objects.copy(request.clone()).await;
            let now = clock.now();
            let took = (now - asked_at).to_std().unwrap_or_default();
            let signal = if outcome.is_ok() { Signal::of_answer(request.size, took) } else { Signal::Bad };
            self.learn(signal, asked_at, now);
            drop(permit);
            match outcome {
                Ok(outcome) => return Ok(Some(outcome)),
                Err(ObjectsError::Unavailable(reason)) if attempt < TRIES => {
                    tracing::debug!(reason, attempt, key = request.to_key, "the copy is tried again");
                    // Any part of the time: those that failed together don't come back together.
                    let share = jobs.ports.ids.ulid(now).random() % 1000;
                    clock.sleep(backoff(attempt).mul_f64(share as f64 / 1000.0)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Waits until one more may be in flight; it is until the permit is given back.
    async fn enter(&self) -> Option<Permit<'_>> {
        let permit = self.permits.acquire().await.ok()?;
        Some(Permit { throttle: self, permit: Some(permit) })
    }

    /// Learns from the answer to what was asked at `asked_at`.
    fn learn(&self, signal: Signal, asked_at: Time, now: Time) {
        let mut state = self.state();
        match signal {
            Signal::Good => {
                if state.limit == state.most {
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
                tracing::info!(in_flight = state.limit, "object storage doesn't keep up");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to have one copy in flight.
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

    /// As many permits as can be had now.
    fn all(throttle: &Throttle) -> Vec<Permit<'_>> {
        std::iter::from_fn(|| throttle.enter().now_or_never().flatten()).collect()
    }

    #[test]
    fn it_doubles_per_round_up_to_its_bound() {
        let throttle = Throttle::new(400);
        let mut sizes = Vec::new();
        for round in 0..3 {
            let permits = all(&throttle);
            sizes.push(permits.len());
            permits.iter().for_each(|_| throttle.learn(Signal::Good, at(round), at(round + 1)));
        }
        assert_eq!(sizes, [128, 256, 400]);
        assert_eq!(all(&throttle).len(), 400);
    }

    #[test]
    fn it_halves_once_per_round_and_then_grows_by_one_per_round() {
        let throttle = Throttle::new(64);
        let permits = all(&throttle);
        permits.iter().for_each(|_| throttle.learn(Signal::Bad, at(0), at(10)));
        drop(permits);
        let permits = all(&throttle);
        assert_eq!(permits.len(), 32);
        permits.iter().for_each(|_| throttle.learn(Signal::Good, at(20), at(30)));
        throttle.learn(Signal::Good, at(20), at(30));
        drop(permits);
        assert_eq!(all(&throttle).len(), 33);
    }

    #[test]
    fn it_never_falls_below_one_and_a_large_object_may_take_longer() {
        let throttle = Throttle::new(2);
        for round in 0..5 {
            throttle.learn(Signal::Bad, at(round * 10), at(round * 10 + 5));
        }
        assert_eq!(all(&throttle).len(), 1);
        assert_eq!(Signal::of_answer(1_000_000, Duration::from_secs(4)), Signal::Bad);
        assert_eq!(Signal::of_answer(1_000_000_000, Duration::from_secs(100)), Signal::Good);
    }
}
