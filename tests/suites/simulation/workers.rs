//! The executor: one thread, on which invocations take turns in an order that the seed decides.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use milvault_model::Time;

use crate::{
    rules::Rule,
    world::{Blow, WorkerId, World},
};

/// More polls than any future needs at one moment.
const MOST_POLLS: u32 = 10_000;

struct Alarm(AtomicBool);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    future: Pin<Box<dyn Future<Output = ()>>>,
    alarm: Arc<Alarm>,
    frozen_until: Option<Time>,
}

/// The running invocations.
pub(crate) struct Workers {
    world: Arc<World>,
    at_work: BTreeMap<WorkerId, Worker>,
    next: WorkerId,
}

impl Workers {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, at_work: BTreeMap::new(), next: 1 }
    }

    /// The id of the next invocation.
    pub(crate) fn next(&mut self) -> WorkerId {
        self.next += 1;
        self.next
    }

    pub(crate) fn start(&mut self, id: WorkerId, future: Pin<Box<dyn Future<Output = ()>>>) {
        let alarm = Arc::new(Alarm(AtomicBool::new(true)));
        self.at_work.insert(id, Worker { future, alarm, frozen_until: None });
    }

    pub(crate) fn are_idle(&self) -> bool {
        self.at_work.is_empty()
    }

    /// Polls workers in random order until all of them wait.
    pub(crate) fn work(&mut self) {
        for _ in 0..MOST_POLLS {
            self.suffer();
            let now = self.world.now();
            let able: Vec<WorkerId> = self
                .at_work
                .iter()
                .filter(|(_, worker)| worker.frozen_until.is_none_or(|until| until <= now))
                .filter(|(_, worker)| worker.alarm.0.load(Ordering::Relaxed))
                .map(|(id, _)| *id)
                .collect();
            let Some(id) = self.world.draw(|random| random.pick(&able).copied()) else { return };
            self.poll(id);
        }
        self.world.violate(Rule::Rest, "a worker runs in circles without waiting for anything");
    }

    fn poll(&mut self, id: WorkerId) {
        let Some(worker) = self.at_work.get_mut(&id) else { return };
        worker.frozen_until = None;
        worker.alarm.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(worker.alarm.clone());
        if worker.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.at_work.remove(&id);
        }
    }

    fn suffer(&mut self) {
        for (id, blow) in self.world.take_blows() {
            let Some(worker) = self.at_work.get_mut(&id) else { continue };
            self.world.note(|| format!("[{id}] {blow:?}"));
            match blow {
                Blow::Killed => drop(self.at_work.remove(&id)),
                Blow::Frozen(until) => {
                    worker.frozen_until = Some(until);
                    // An empty event makes the clock stop at this time.
                    self.world.at(until, Box::new(|| {}));
                }
            }
        }
    }
}
