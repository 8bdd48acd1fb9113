//! Limits on repeating work whose source keeps changing. Each thing has its own limit, so that one that never settles
//! doesn't affect the others.

use chrono::TimeDelta;
use milvault_model::{Time, Unsettled};

/// The most things whose rounds are tracked: a job's state has to fit into one item of the catalog.
const MOST_TRACKED: usize = 1_000;

/// When to give up: after this number of rounds and this time, whichever is later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) rounds: u32,
    pub(super) lasts: TimeDelta,
}

/// Whether to try another round.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Again,
    /// Gives up after it was repeated for this time.
    GiveUp(TimeDelta),
}

impl Patience {
    /// Counts one more round of `what` in `tracked`, and decides whether to try it.
    pub(super) fn judge<T: PartialEq>(self, tracked: &mut Vec<Unsettled<T>>, what: T, now: Time) -> Verdict {
        let is_full = tracked.len() >= MOST_TRACKED;
        match tracked.iter_mut().find(|unsettled| unsettled.what == what) {
            Some(found) if found.rounds >= self.rounds && now - found.since > self.lasts => {
                Verdict::GiveUp(now - found.since)
            }
            Some(found) => {
                found.rounds += 1;
                Verdict::Again
            }
            // Not tracked until there is room.
            None if is_full => Verdict::Again,
            None => {
                tracked.push(Unsettled { what, rounds: 1, since: now });
                Verdict::Again
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_that_keeps_changing_is_given_up_and_one_that_changed_twice_is_not() {
        let patience = Patience { rounds: 3, lasts: TimeDelta::seconds(60) };
        let at = |seconds| Time::default() + TimeDelta::seconds(seconds);
        let mut tracked = Vec::new();
        let mut judge = |what, seconds| patience.judge(&mut tracked, what, at(seconds));
        for seconds in [0, 30, 50] {
            assert_eq!(judge("restless", seconds), Verdict::Again);
        }
        assert_eq!(judge("restless", 60), Verdict::Again, "the limit isn't exceeded");
        assert_eq!(judge("calm", 61), Verdict::Again);
        assert_eq!(judge("restless", 61), Verdict::GiveUp(TimeDelta::seconds(61)));
        assert_eq!(judge("calm", 1_000), Verdict::Again, "only its second round, long after the first");
    }
}
