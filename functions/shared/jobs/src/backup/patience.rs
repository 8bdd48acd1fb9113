//! How often something is tried again that the source doesn't let come to an end: each thing for itself, so that one that
//! never rests costs no other.

use chrono::TimeDelta;
use milvault_model::{Time, Unsettled};

/// Of so many things at most it is known how long they have been tried: the state of a job is one item.
const KNOWN: usize = 1_000;

/// When to give up: after so many rounds and so long, whichever is later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) rounds: u32,
    pub(super) lasts: TimeDelta,
}

/// Whether something is worth another round.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Again,
    /// It has been so all this time.
    GiveUp(TimeDelta),
}

impl Patience {
    /// Notes one more round of `what` in `known`, and judges it.
    pub(super) fn judge<T: PartialEq>(self, known: &mut Vec<Unsettled<T>>, what: T, now: Time) -> Verdict {
        let is_full = known.len() >= KNOWN;
        match known.iter_mut().find(|unsettled| unsettled.what == what) {
            Some(found) if found.rounds >= self.rounds && now - found.since > self.lasts => {
                Verdict::GiveUp(now - found.since)
            }
            Some(found) => {
                found.rounds += 1;
                Verdict::Again
            }
            // The others are judged once these are settled.
            None if is_full => Verdict::Again,
            None => {
                known.push(Unsettled { what, rounds: 1, since: now });
                Verdict::Again
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_rests_is_given_up_and_what_moved_once_is_not() {
        let patience = Patience { rounds: 3, lasts: TimeDelta::seconds(60) };
        let at = |seconds| Time::default() + TimeDelta::seconds(seconds);
        let mut known = Vec::new();
        let mut judge = |what, seconds| patience.judge(&mut known, what, at(seconds));
        for seconds in [0, 30, 50] {
            assert_eq!(judge("restless", seconds), Verdict::Again);
        }
        assert_eq!(judge("restless", 60), Verdict::Again, "as long as it may be");
        assert_eq!(judge("once", 61), Verdict::Again);
        assert_eq!(judge("restless", 61), Verdict::GiveUp(TimeDelta::seconds(61)));
        assert_eq!(judge("once", 1_000), Verdict::Again, "long ago, and only its second round");
    }
}
