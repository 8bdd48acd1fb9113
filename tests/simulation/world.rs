//! Simulated time: what happens when, and who waits for it.
//!
//! Nothing happens but by an event of the agenda, and the clock jumps from one to the next. So a history is a function of
//! its seed, takes no time, and can't go on without end: events are counted.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use chrono::{DateTime, TimeDelta};
use milvault_model::Time;

use crate::{
    history::Invocation,
    random::Random,
    rules::{Rule, is_known},
};

/// Something that is done to the world.
pub(crate) type Effect = Box<dyn FnOnce() + Send>;

/// An invocation at work.
pub(crate) type WorkerId = u64;

/// An event's place in the agenda.
pub(crate) type Ticket = (Time, u64);

/// More events than any history needs that comes to rest.
const MOST_EVENTS: u32 = 120_000;

enum Event {
    Wake(Waker),
    Effect(Effect),
}

/// What happens to a worker from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// Its process is gone, at this very point of its work.
    Killed,
    /// It stands still until then, and doesn't notice.
    Frozen(Time),
}

/// What is kept of what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Nothing but what is wrong.
    Quietly,
    /// A fingerprint, so that two runs can be compared.
    Fingerprint,
    /// All of it is shown.
    Aloud,
}

/// The time, the draws, and what is to come.
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
    /// Whether it makes no sense to go on.
    is_over: bool,
    is_late: bool,
    known: BTreeMap<Rule, u32>,
    /// Of everything that happened, if it is wanted.
    fingerprint: u64,
}

impl World {
    pub(crate) fn new(seed: u64, follow: Follow) -> Arc<Self> {
        let mut random = Random::new(seed);
        // Close before midnight, so that hours and a day end in it.
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Time {
        self.state().now
    }

    /// Draws.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state().random)
    }

    /// Has this done at that time, or now if it is past.
    pub(crate) fn at(&self, time: Time, effect: Effect) {
        self.state().plan(time, Event::Effect(effect));
    }

    /// Has this done after so long.
    pub(crate) fn after(&self, delay: TimeDelta, effect: Effect) -> Ticket {
        let mut state = self.state();
        let time = state.now + delay;
        state.plan(time, Event::Effect(effect))
    }

    /// Has the effect of a request that its sender has given up.
    pub(crate) fn arrive_late(&self, effect: Effect) {
        self.state().is_late = true;
        effect();
        self.state().is_late = false;
    }

    /// Whether the sender of the request that is having its effect has given it up.
    pub(crate) fn is_late(&self) -> bool {
        self.state().is_late
    }

    /// Takes it back, if it hasn't happened.
    pub(crate) fn cancel(&self, ticket: Ticket) -> Option<Effect> {
        match self.state().agenda.remove(&ticket) {
            Some(Event::Effect(effect)) => Some(effect),
            _ => None,
        }
    }

    /// Waits.
    pub(crate) fn pause(self: &Arc<Self>, duration: TimeDelta) -> Pause {
        // Even a sleep of no length lets time pass, so that no loop can do without events.
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

    /// What came since it was last asked.
    pub(crate) fn take_arrivals(&self) -> Vec<Invocation> {
        std::mem::take(&mut self.state().arrivals)
    }

    /// What befell workers since it was last asked.
    pub(crate) fn take_blows(&self) -> Vec<(WorkerId, Blow)> {
        std::mem::take(&mut self.state().blows)
    }

    /// Lets the next event happen if it is due by then; whether there was one.
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

    /// Lets the time pass in which nothing happens.
    pub(crate) fn pass(&self, until: Time) {
        let mut state = self.state();
        state.now = state.now.max(until);
    }

    /// The name of a call, if anybody follows what happens.
    pub(crate) fn title(&self, title: impl FnOnce() -> String) -> String {
        if self.follow == Follow::Quietly { String::new() } else { title() }
    }

    /// Writes down what happened, for the one who looks into a seed.
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

    /// Of all that happened.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.state().fingerprint
    }

    /// An invariant doesn't hold; the first one counts.
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

    /// How often which rule was broken of which that is known.
    pub(crate) fn known(&self) -> BTreeMap<Rule, u32> {
        self.state().known.clone()
    }

    /// Whether something happened after which it makes no sense to go on.
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

/// Waiting for a time. Who is dropped meanwhile isn't waited for.
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
