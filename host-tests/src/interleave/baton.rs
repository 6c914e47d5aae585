//! Workers as threads of which only one runs: the one that holds the baton.
//!
//! A worker keeps it until it is about to act on what all share; then the pilot says whose act is
//! next, and that worker has it. Until somebody acts each worker runs to its first act, in order.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::interleave::op::Op;
use crate::interleave::pilot::{Pending, Pilot};

/// What the workers of one run pass around.
#[derive(Debug)]
pub(crate) struct Baton {
    state: Mutex<State>,
    /// By the number of the worker among those that run.
    moved: Vec<Condvar>,
    workers: Vec<usize>,
}

#[derive(Debug)]
struct State {
    holder: Option<usize>,
    /// Workers that have not run to their first act yet.
    fresh: VecDeque<usize>,
    pending: Pending,
    pilot: Pilot,
}

impl Baton {
    /// For these workers, none of which runs yet.
    pub(crate) fn new(workers: &[usize], pilot: Pilot) -> Arc<Self> {
        let mut fresh: VecDeque<usize> = workers.iter().copied().collect();
        Arc::new(Self {
            moved: workers.iter().map(|_| Condvar::new()).collect(),
            workers: workers.to_vec(),
            state: Mutex::new(State {
                holder: fresh.pop_front(),
                fresh,
                pending: Pending::new(),
                pilot,
            }),
        })
    }

    pub(crate) fn seat(self: &Arc<Self>, worker: usize) -> Seat {
        Seat {
            baton: Arc::clone(self),
            worker,
        }
    }

    /// What the pilot has seen. Nobody runs any more.
    pub(crate) fn pilot(&self) -> Pilot {
        std::mem::take(&mut self.lock().pilot)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the baton to whoever is next.
    fn hand_on(&self, state: &mut State) {
        state.holder = state.fresh.pop_front().or_else(|| {
            let State { pending, pilot, .. } = state;
            (!pending.is_empty()).then(|| pilot.choose(pending))
        });
        if let Some(holder) = state.holder {
            state.pending.remove(&holder);
            let place = self.workers.iter().position(|worker| *worker == holder);
            self.moved[place.expect("one of ours")].notify_one();
        }
    }

    fn wait(&self, mut state: MutexGuard<'_, State>, worker: usize) {
        let place = self.workers.iter().position(|known| *known == worker);
        let moved = &self.moved[place.expect("one of ours")];
        while state.holder != Some(worker) {
            state = moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A worker's place among those that pass the baton around.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    baton: Arc<Baton>,
    pub(crate) worker: usize,
}

impl Seat {
    /// Waits until the worker may run for the first time.
    pub(crate) fn enter(&self) {
        self.baton.wait(self.baton.lock(), self.worker);
    }

    /// The worker is about to act: others may act before it. Returns when it is its turn.
    pub(crate) fn point(&self, op: Op) {
        let mut state = self.baton.lock();
        state.pending.insert(self.worker, Arc::new(op));
        self.baton.hand_on(&mut state);
        self.baton.wait(state, self.worker);
    }

    /// The worker has nothing more to do.
    pub(crate) fn leave(&self) {
        self.baton.hand_on(&mut self.baton.lock());
    }
}
