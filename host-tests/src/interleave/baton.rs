//! Workers as threads of which only one runs: the one that holds the baton.
//!
//! A worker keeps it until it is about to act on what all share; then the pilot says whose act is
//! next, and that worker has it. Until somebody acts each worker runs to its first act, in order.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::interleave::crew::Job;
use crate::interleave::op::Op;
use crate::interleave::pilot::{Pending, Pilot};

/// What the workers of one run pass around.
#[derive(Debug)]
pub(crate) struct Baton {
    state: Mutex<State>,
    /// Where each worker waits for its turn.
    turns: Vec<(usize, Turn)>,
    /// Every schedule is to be run, not one.
    explores: bool,
}

struct State {
    /// Workers that have not begun, and what makes them begin.
    fresh: VecDeque<Job>,
    pending: Pending,
    pilot: Pilot,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

/// Whether it is a worker's turn.
#[derive(Debug, Default)]
struct Turn {
    has_come: Mutex<bool>,
    changed: Condvar,
}

impl Turn {
    fn give(&self) {
        *self.has_come.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    fn take(&self) {
        let mut has_come = self.has_come.lock().unwrap_or_else(PoisonError::into_inner);
        while !std::mem::take(&mut *has_come) {
            has_come = self.changed.wait(has_come).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Baton {
    /// For these workers. Whoever makes it is the first of them, and has it.
    pub(crate) fn new(workers: &[usize], pilot: Pilot, explores: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                fresh: VecDeque::new(),
                pending: Pending::new(),
                pilot,
            }),
            turns: workers.iter().map(|worker| (*worker, Turn::default())).collect(),
            explores,
        })
    }

    /// Another worker is to begin, by this job, after those before it.
    pub(crate) fn enqueue(&self, begin: Job) {
        self.lock().fresh.push_back(begin);
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

    /// Whose turn is next, unless it is one's who only now begins or there is nobody.
    fn next(&self, mut state: MutexGuard<'_, State>) -> Option<usize> {
        if let Some(begin) = state.fresh.pop_front() {
            drop(state);
            begin();
            return None;
        }
        let State { pending, pilot, .. } = &mut *state;
        if pending.is_empty() {
            return None;
        }
        let chosen = pilot.choose(pending);
        pending.remove(&chosen);
        Some(chosen)
    }

    fn turn(&self, worker: usize) -> &Turn {
        let turn = self.turns.iter().find(|(known, _)| *known == worker);
        &turn.expect("one of ours").1
    }
}

/// A worker's place among those that pass the baton around.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    baton: Arc<Baton>,
    pub(crate) worker: usize,
}

impl Seat {
    /// Whether this is one run of many that together make every schedule.
    pub(crate) fn explores(&self) -> bool {
        self.baton.explores
    }

    /// The worker is about to act: others may act before it. Returns when it is its turn.
    pub(crate) fn point(&self, op: Op) {
        let mut state = self.baton.lock();
        state.pending.insert(self.worker, Arc::new(op));
        match self.baton.next(state) {
            Some(next) if next == self.worker => return,
            Some(next) => self.baton.turn(next).give(),
            None => {}
        }
        self.baton.turn(self.worker).take();
    }

    /// The worker has nothing more to do.
    pub(crate) fn leave(&self) {
        if let Some(next) = self.baton.next(self.baton.lock()) {
            self.baton.turn(next).give();
        }
    }
}
