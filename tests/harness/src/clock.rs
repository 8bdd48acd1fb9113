//! A clock whose time passes only when everyone waits, and the real one.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use milvault_model::Time;
use milvault_ports::Clock;

use crate::locked;

/// How often a sleeper lets all other tasks run before it assumes that they sleep too. A task that waits for another task
/// and not for the time needs one round for each link of that chain.
const PATIENCE: u8 = 16;

/// A clock that stands until it is set, or until every task sleeps: then it jumps to the end of the shortest sleep. So no
/// test waits, and of several sleepers the right one wakes first.
#[derive(Debug)]
pub struct TestClock(Mutex<State>);

#[derive(Debug)]
struct State {
    now: Time,
    next_sleeper: u64,
    /// When each sleeper's sleep ends.
    sleepers: BTreeMap<u64, Time>,
}

impl TestClock {
    /// A clock that shows this time.
    pub fn new(now: Time) -> Self {
        Self(Mutex::new(State { now, next_sleeper: 0, sleepers: BTreeMap::new() }))
    }

    /// Makes it show this time, which may be an earlier one.
    pub fn set(&self, now: Time) {
        self.state().now = now;
    }

    /// Lets this much time pass.
    pub fn advance(&self, by: TimeDelta) {
        self.state().now += by;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0)
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Time {
        self.state().now
    }

    async fn sleep(&self, duration: Duration) {
        let sleeper = {
            let mut state = self.state();
            // A sleep too long for the calendar never ends on its own; ten years are as good.
            let duration = TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(3650));
            let until = state.now + duration;
            let sleeper = state.next_sleeper;
            state.next_sleeper += 1;
            state.sleepers.insert(sleeper, until);
            Sleeper { clock: self, number: sleeper, until, rounds: 0 }
        };
        sleeper.await;
    }
}

struct Sleeper<'a> {
    clock: &'a TestClock,
    number: u64,
    until: Time,
    rounds: u8,
}

impl Future for Sleeper<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.state();
        let is_next = state.sleepers.values().all(|until| self.until <= *until);
        // Even a sleep of zero lets the others run once, as a real one does.
        let is_over = state.now >= self.until && self.rounds > 0;
        if is_over || (is_next && self.rounds >= PATIENCE) {
            state.now = state.now.max(self.until);
            return Poll::Ready(());
        }
        drop(state);
        self.rounds = self.rounds.saturating_add(1);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.clock.state().sleepers.remove(&self.number);
    }
}

/// The real time, for a server that needs some.
#[derive(Debug, Clone, Copy)]
pub struct RealClock;

#[async_trait]
impl Clock for RealClock {
    fn now(&self) -> Time {
        Utc::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use chrono::DateTime;
    use futures::future::{Either, join, select};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_sleep_takes_no_time_and_moves_the_clock() {
        let clock = TestClock::new(DateTime::UNIX_EPOCH);
        clock.sleep(3600 * SECOND).await;
        assert_eq!(clock.now(), DateTime::UNIX_EPOCH + TimeDelta::hours(1));
    }

    #[tokio::test]
    async fn sleeps_at_the_same_time_overlap_and_end_in_order() {
        let clock = TestClock::new(DateTime::UNIX_EPOCH);
        let sleep = async |seconds: u32| {
            clock.sleep(seconds * SECOND).await;
            clock.now()
        };
        let (long, short) = join(sleep(10), sleep(3)).await;
        assert_eq!(short, DateTime::UNIX_EPOCH + TimeDelta::seconds(3));
        assert_eq!(long, DateTime::UNIX_EPOCH + TimeDelta::seconds(10));
    }

    #[tokio::test]
    async fn a_sleeper_in_an_endless_loop_starves_no_other_task_and_work_without_sleep_takes_no_time() {
        let clock = TestClock::new(DateTime::UNIX_EPOCH);
        let renewing = async {
            loop {
                clock.sleep(20 * SECOND).await;
            }
        };
        let work = async {
            for _ in 0..PATIENCE {
                tokio::task::yield_now().await;
            }
            clock.now()
        };
        match select(pin!(work), pin!(renewing)).await {
            Either::Left((now, _)) => assert_eq!(now, DateTime::UNIX_EPOCH),
            Either::Right(((), _)) => unreachable!(),
        }
    }

    #[tokio::test]
    async fn a_sleeper_that_is_dropped_is_not_waited_for() {
        let clock = TestClock::new(DateTime::UNIX_EPOCH);
        {
            let mut dropped = pin!(clock.sleep(SECOND));
            assert!(futures::poll!(&mut dropped).is_pending());
        }
        clock.sleep(5 * SECOND).await;
        assert_eq!(clock.now(), DateTime::UNIX_EPOCH + TimeDelta::seconds(5));
    }
}
