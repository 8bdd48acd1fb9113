//! A call of a port, and everything that can happen to it.
//!
//! The in-memory ports answer at once. Here a call takes time; it fails; it takes effect and its answer is lost, or it
//! takes effect long after it was given up; its caller dies before or after the effect, or is dropped while the request is
//! on its way, which then may or may not arrive.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use chrono::TimeDelta;
use milvault_harness::{Random, locked};

use crate::world::{Blow, Effect, Ticket, WorkerId, World};

/// When a call may take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Nothing.
    Read,
    /// A change with its own condition: it may arrive at any time.
    Guarded,
    /// A change that only its worker's lease guards: it arrives soon or never.
    Unguarded,
}

impl Nature {
    /// The longest delay, in milliseconds, after which a request still arrives.
    ///
    /// The lease allows for a delay of a third of its length and not more: the next worker waits for at least that long
    /// after the last request of a worker that died.
    fn latest(self) -> u64 {
        match self {
            Self::Read => 0,
            Self::Guarded => 180_000,
            Self::Unguarded => 15_000,
        }
    }
}

/// How many calls of a thousand fail in each way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) refused: u64,
    pub(crate) answer_lost: u64,
    pub(crate) late: u64,
    pub(crate) dies_before: u64,
    pub(crate) dies_after: u64,
    pub(crate) freezes: u64,
    pub(crate) slow: u64,
    /// The most milliseconds that a call takes each way, unless it is slow.
    pub(crate) pace: u64,
}

impl Faults {
    /// Draws rates from a quiet day to a very bad one.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let worst = *random.pick(&[0, 2, 8, 25, 60]).unwrap_or(&0);
        let mut times = || random.below(worst + 1);
        let [refused, answer_lost, late, dies_before, dies_after, freezes, slow] = [(); 7].map(|()| times());
        Self {
            refused: refused * 2,
            answer_lost,
            late,
            dies_before,
            dies_after,
            freezes,
            slow: slow * 2,
            pace: *random.pick(&[50, 400, 400, 2000]).unwrap_or(&50),
        }
    }

    pub(crate) fn are_none(&self) -> bool {
        let Self { refused, answer_lost, late, dies_before, dies_after, freezes, slow, pace: _ } = *self;
        refused + answer_lost + late + dies_before + dies_after + freezes + slow == 0
    }
}

enum Fate {
    Answered,
    Refused,
    AnswerLost,
    Late,
    DiesBefore,
    DiesAfter,
}

/// A call that a worker makes.
pub(crate) struct Call {
    pub(crate) worker: WorkerId,
    pub(crate) nature: Nature,
    /// Its name in the history, if anybody follows the history.
    pub(crate) name: String,
}

/// The network that every call goes through.
pub(crate) struct Network {
    pub(crate) world: Arc<World>,
    faults: Faults,
    is_calm: AtomicBool,
}

impl Network {
    pub(crate) fn new(world: Arc<World>, faults: Faults) -> Self {
        Self { world, faults, is_calm: AtomicBool::new(faults.are_none()) }
    }

    /// Ends all faults.
    pub(crate) fn calm_down(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    pub(crate) fn faults(&self) -> Faults {
        if self.is_calm() { Faults::default() } else { self.faults }
    }

    fn fate(&self, nature: Nature) -> Fate {
        let faults = self.faults();
        let fate = self.world.draw(|random| {
            let mut lot = random.below(1000);
            for (times, fate) in [
                (faults.refused, Fate::Refused),
                (faults.answer_lost, Fate::AnswerLost),
                (faults.late, Fate::Late),
                (faults.dies_before, Fate::DiesBefore),
                (faults.dies_after, Fate::DiesAfter),
            ] {
                if lot < times {
                    return fate;
                }
                lot -= times;
            }
            Fate::Answered
        });
        match fate {
            Fate::AnswerLost | Fate::Late if nature == Nature::Read => Fate::Refused,
            fate => fate,
        }
    }

    fn latency(&self) -> TimeDelta {
        let (is_calm, faults) = (self.is_calm(), self.faults());
        let micros = self.world.draw(|random| {
            let slow = random.permille(faults.slow);
            match (is_calm, slow) {
                (true, _) => random.between(1_000, 30_000),
                (false, false) => random.between(1_000, faults.pace * 1000),
                (false, true) => random.between(400_000, 9_000_000),
            }
        });
        TimeDelta::microseconds(micros.cast_signed())
    }

    /// Makes a call: `effect` is what it does, `failed` makes the answer of a failure.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        call: Call,
        effect: impl FnOnce() -> T + Send + 'static,
        failed: impl FnOnce(String) -> T + Send,
    ) -> T {
        let (world, Call { worker, nature, name }) = (&self.world, call);
        let (fate, there, back) = (self.fate(nature), self.latency(), self.latency());
        if world.draw(|random| random.permille(self.faults().freezes)) {
            let until = world.now() + TimeDelta::milliseconds(world.draw(|r| r.between(1, 10_000)).cast_signed());
            world.strike(worker, Blow::Frozen(until));
        }
        let outcome = match fate {
            Fate::Answered => "",
            Fate::Refused => " is refused",
            Fate::AnswerLost => " loses its answer",
            Fate::Late => " comes late",
            Fate::DiesBefore => " and dies before",
            Fate::DiesAfter => " and dies after",
        };
        world.note(|| format!("[{worker}] {name}{outcome}"));
        if matches!(fate, Fate::DiesBefore) {
            return self.die(worker).await;
        }
        if matches!(fate, Fate::Refused) {
            world.pause(there + back).await;
            return failed("refused".to_owned());
        }
        let answer = Arc::new(Mutex::new(None));
        let slot = answer.clone();
        let arrives: Effect = Box::new(move || *locked(&slot) = Some(effect()));
        let mut flight = Flight { world: world.clone(), nature, ticket: Some(world.after(there, arrives)) };
        if matches!(fate, Fate::Late) {
            flight.drift();
            world.pause(there + back).await;
            return failed("no answer in time".to_owned());
        }
        world.pause(there + TimeDelta::microseconds(1)).await;
        flight.ticket = None;
        if matches!(fate, Fate::DiesAfter) {
            return self.die(worker).await;
        }
        world.pause(back).await;
        match (fate, locked(&answer).take()) {
            (Fate::Answered, Some(answer)) => answer,
            _ => failed("the answer got lost".to_owned()),
        }
    }

    async fn die<T>(&self, worker: WorkerId) -> T {
        self.world.strike(worker, Blow::Killed);
        std::future::pending().await
    }
}

/// A request on its way, which arrives whatever its sender does. If the sender is gone, it may arrive later or never.
struct Flight {
    world: Arc<World>,
    nature: Nature,
    ticket: Option<Ticket>,
}

impl Flight {
    /// Delays the arrival to a later time.
    fn drift(&mut self) {
        let Some(effect) = self.ticket.take().and_then(|ticket| self.world.cancel(ticket)) else { return };
        let delay = self.world.draw(|random| random.below(self.nature.latest() + 1));
        let world = self.world.clone();
        let arrives: Effect = Box::new(move || {
            world.note(|| "a late request arrives".to_owned());
            world.arrive_late(effect);
        });
        self.world.after(TimeDelta::milliseconds(delay.cast_signed()), arrives);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.nature != Nature::Read && self.world.draw(|random| random.permille(500)) {
            self.drift();
        } else if let Some(ticket) = self.ticket.take() {
            drop(self.world.cancel(ticket));
        }
    }
}
