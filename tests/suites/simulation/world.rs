//! Simulated time: the agenda of events, and the tasks that wait for them.
//!
//! Everything that happens is an event of the agenda, and the clock jumps from one event to the next. So a history is a
//! function of its seed, takes no real time, and can't go on without end: events are counted.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use chrono::{DateTime, TimeDelta};
use milvault_harness::{Random, locked};
use milvault_model::Time;

use crate::{
    history::Invocation,
    rules::{Rule, is_known},
};

/// A change of the world.
pub(crate) type Effect = Box<dyn FnOnce() + Send>;

/// An invocation at work.
pub(crate) type WorkerId = u64;

/// The place of an event in the agenda.
pub(crate) type Ticket = (Time, u64);

/// More events than any history needs that ends.
const MOST_EVENTS: u32 = 120_000;

enum Event {
    Wake(Waker),
    Effect(Effect),
}

/// What happens to a worker from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// Its process ends at this point of its work.
    Killed,
    /// It stands still until this time and doesn't notice.
    Frozen(Time),
}

/// How a history is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Only violations are kept.
    Quietly,
    /// A fingerprint, so that two runs can be compared.
    Fingerprint,
    /// Everything that happens is printed.
    Aloud,
}

/// The time, the random draws and the agenda.
pub(crate) struct World {
    follow: Follow,
    state: Mutex<State>,
}

struct State {
    now: Time,
    random: Random,
    agenda: BTreeMap<Ticket, Event>,
    events: u32,
    sequence: u64,
    arrivals: Vec<Invocation>,
    blows: Vec<(WorkerId, Blow)>,
    violation: Option<String>,
    /// Whether the history has ended early.
    is_over: bool,
    is_late: bool,
    known: BTreeMap<Rule, u32>,
    /// The fingerprint of everything that happened, if it is followed.
    fingerprint: u64,
}

impl World {
    pub(crate) fn new(seed: u64, follow: Follow) -> Arc<Self> {
        let mut random = Random::new(seed);
        // The history begins shortly before midnight, so that hours and a day end in it.
        let before = TimeDelta::seconds(random.below(5_400).cast_signed());
        let state = Mutex::new(State {
            now: DateTime::UNIX_EPOCH + TimeDelta::days(20_000) - before,
            random,
            agenda: BTreeMap::new(),
            events: 0,
            sequence: 0,
            arrivals: Vec::new(),
            blows: Vec::new(),
            violation: None,
            is_over: false,
            is_late: false,
            known: BTreeMap::new(),
            fingerprint: 0xCBF2_9CE4_8422_2325,
        });
        Arc::new(Self { follow, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    pub(crate) fn now(&self) -> Time {
        self.state().now
    }

    /// Draws from the seed's random numbers.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state().random)
    }

    /// Plans an effect for this time, or for now if the time is past.
    pub(crate) fn at(&self, time: Time, effect: Effect) {
        self.state().plan(time, Event::Effect(effect));
    }

    /// Plans an effect after a delay.
    pub(crate) fn after(&self, delay: TimeDelta, effect: Effect) -> Ticket {
        let mut state = self.state();
        let time = state.now + delay;
        state.plan(time, Event::Effect(effect))
    }

    /// Applies the effect of a request that its sender has given up.
    pub(crate) fn arrive_late(&self, effect: Effect) {
        self.state().is_late = true;
        effect();
        self.state().is_late = false;
    }

    /// Whether the request that is taking effect was given up by its sender.
    pub(crate) fn is_late(&self) -> bool {
        self.state().is_late
    }

    /// Cancels an effect that hasn't happened.
    pub(crate) fn cancel(&self, ticket: Ticket) -> Option<Effect> {
        match self.state().agenda.remove(&ticket) {
            Some(Event::Effect(effect)) => Some(effect),
            _ => None,
        }
    }

    /// Waits.
    pub(crate) fn pause(self: &Arc<Self>, duration: TimeDelta) -> Pause {
        // Even a sleep of zero lets time pass, so that every loop causes events.
        let duration = duration.max(TimeDelta::microseconds(1));
        Pause { world: self.clone(), until: self.now() + duration, planned: None }
    }

    /// Starts an invocation.
    pub(crate) fn invoke(&self, invocation: Invocation) {
        self.state().arrivals.push(invocation);
    }

    pub(crate) fn strike(&self, worker: WorkerId, blow: Blow) {
        self.state().blows.push((worker, blow));
    }

    /// The invocations since the last call.
    pub(crate) fn take_arrivals(&self) -> Vec<Invocation> {
        std::mem::take(&mut self.state().arrivals)
    }

    /// The blows to workers since the last call.
    pub(crate) fn take_blows(&self) -> Vec<(WorkerId, Blow)> {
        std::mem::take(&mut self.state().blows)
    }

    /// Lets the next event happen if it is due by this time; returns whether there was one.
    pub(crate) fn step(&self, until: Time) -> bool {
        let event = {
            let mut state = self.state();
            let Some(((at, sequence), event)) = state.agenda.pop_first() else { return false };
            if at > until {
                state.agenda.insert((at, sequence), event);
                return false;
            }
            state.events += 1;
            if state.events > MOST_EVENTS {
                state.is_over = true;
                state.violation.get_or_insert_with(|| format!("Rest: no end after {MOST_EVENTS} events"));
                return false;
            }
            state.now = state.now.max(at);
            event
        };
        match event {
            Event::Wake(waker) => waker.wake(),
            Event::Effect(effect) => effect(),
        }
        true
    }

    /// Moves the clock to this time.
    pub(crate) fn pass(&self, until: Time) {
        let mut state = self.state();
        state.now = state.now.max(until);
    }

    /// The name of a call, if anybody follows the history.
    pub(crate) fn title(&self, title: impl FnOnce() -> String) -> String {
        if self.follow == Follow::Quietly { String::new() } else { title() }
    }

    /// Records what happened, for a run that follows the history.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if self.follow == Follow::Quietly {
            return;
        }
        let mut state = self.state();
        let what = what();
        for byte in what.bytes() {
            state.fingerprint = (state.fingerprint ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.follow == Follow::Aloud {
            eprintln!("{} {what}", state.now.format("%d %H:%M:%S%.3f"));
        }
    }

    /// The fingerprint of everything that happened.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.state().fingerprint
    }

    /// Records that an invariant doesn't hold; the first violation counts.
    pub(crate) fn violate(&self, rule: Rule, what: impl Into<String>) {
        let what = what.into();
        self.note(|| format!("VIOLATION of {rule:?}: {what}"));
        let mut state = self.state();
        if state.is_over {
            return;
        }
        if is_known(rule) {
            *state.known.entry(rule).or_default() += 1;
            return;
        }
        state.is_over = true;
        let at = state.now.format("%d %H:%M:%S%.3f").to_string();
        state.violation.get_or_insert_with(|| format!("{rule:?}: at {at}, {what}"));
    }

    /// How often each known violation occurred.
    pub(crate) fn known(&self) -> BTreeMap<Rule, u32> {
        self.state().known.clone()
    }

    /// Whether the history has ended early.
    pub(crate) fn is_over(&self) -> bool {
        self.state().is_over
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.state().violation.clone()
    }
}

impl State {
    fn plan(&mut self, time: Time, event: Event) -> Ticket {
        self.sequence += 1;
        let key = (time.max(self.now), self.sequence);
        self.agenda.insert(key, event);
        key
    }
}

/// Waits for a time; the event is cancelled when the waiting future is dropped.
pub(crate) struct Pause {
    world: Arc<World>,
    until: Time,
    planned: Option<Ticket>,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.world.state();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        if let Some(planned) = self.planned {
            state.agenda.remove(&planned);
        }
        let planned = state.plan(self.until, Event::Wake(context.waker().clone()));
        drop(state);
        self.planned = Some(planned);
        Poll::Pending
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if let Some(planned) = self.planned {
            // The event's waker is dropped after the lock.
            let event = self.world.state().agenda.remove(&planned);
            drop(event);
        }
    }
}
