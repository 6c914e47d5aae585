//! Who goes on: first as prescribed, then as is best for the search.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::interleave::op::Op;

/// More acts than a run has reason for.
const MOST_ACTS: usize = 10_000;

/// The acts that workers are about to take, by worker.
pub(crate) type Pending = BTreeMap<usize, Arc<Op>>;

/// A point of a run at which somebody had to go on.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) pending: Pending,
    /// Workers whose next act is known to lead only to runs that are made elsewhere.
    pub(crate) asleep: Pending,
    pub(crate) chosen: usize,
}

/// Decides at each point of one run.
#[derive(Debug, Default)]
pub(crate) struct Pilot {
    prescribed: Vec<usize>,
    /// Who is asleep when the prescription ends.
    asleep: Pending,
    pub(crate) points: Vec<Point>,
    /// Everybody was asleep: the rest of this run is made elsewhere, and is not recorded.
    pub(crate) is_redundant: bool,
    /// What the prescription asked for and nobody could do, or that the run has no end.
    pub(crate) fault: Option<String>,
    /// Who went on last.
    last: Option<usize>,
    /// Draws who goes on when the prescription has ended.
    dice: Option<fastrand::Rng>,
    /// What nobody can do of the prescription is passed over.
    is_lenient: bool,
    /// How much of the prescription has been followed or passed over.
    followed: usize,
}

impl Pilot {
    pub(crate) fn new(prescribed: Vec<usize>, asleep: Pending) -> Self {
        Self {
            prescribed,
            asleep,
            ..Self::default()
        }
    }

    /// Draws each time, from a seed.
    pub(crate) fn drawing(seed: u64) -> Self {
        Self {
            dice: Some(fastrand::Rng::with_seed(seed)),
            ..Self::default()
        }
    }

    /// Follows a prescription as far as that is possible.
    pub(crate) fn following(prescribed: Vec<usize>) -> Self {
        Self {
            prescribed,
            is_lenient: true,
            ..Self::default()
        }
    }

    /// Chooses among workers that are about to act. Somebody is.
    pub(crate) fn choose(&mut self, pending: &Pending) -> usize {
        let chosen = self.decide(pending).unwrap_or_else(|| {
            // Nothing is recorded any more; each in turn, so that nobody waits for ever for another.
            let next = pending.keys().find(|worker| Some(**worker) > self.last);
            *next.or(pending.keys().next()).expect("somebody is about to act")
        });
        self.last = Some(chosen);
        chosen
    }

    /// `None` when it does not matter any more.
    fn decide(&mut self, pending: &Pending) -> Option<usize> {
        if self.is_redundant || self.fault.is_some() {
            return None;
        }
        let depth = self.points.len();
        if depth == MOST_ACTS {
            self.fault = Some(format!("a run has more than {MOST_ACTS} acts"));
            return None;
        }
        if let Some(dice) = &mut self.dice {
            let chosen = *pending.keys().nth(dice.usize(..pending.len()))?;
            return Some(self.record_only(pending, chosen));
        }
        while self.is_lenient
            && let Some(chosen) = self.prescribed.get(self.followed).copied()
        {
            self.followed += 1;
            if pending.contains_key(&chosen) {
                return Some(self.record_only(pending, chosen));
            }
        }
        if let Some(chosen) = self.prescribed.get(depth).copied().filter(|_| !self.is_lenient) {
            if !pending.contains_key(&chosen) {
                self.fault = Some(format!("choice {depth} is worker {chosen}, which has nothing to do"));
                return None;
            }
            // Nobody chooses here: who is asleep does not matter.
            self.record(pending, Pending::new(), chosen);
            return Some(chosen);
        }
        let is_awake = |worker: &usize| pending.contains_key(worker) && !self.asleep.contains_key(worker);
        // Staying with a worker costs no switch of threads.
        let Some(chosen) = (self.last.filter(is_awake)).or_else(|| pending.keys().copied().find(is_awake)) else {
            self.is_redundant = true;
            return None;
        };
        let asleep = self.asleep.clone();
        let op = &pending[&chosen];
        self.asleep.retain(|_, sleeping| !sleeping.conflicts(op));
        self.record(pending, asleep, chosen);
        Some(chosen)
    }

    /// Records a choice of a run to which there are no others.
    fn record_only(&mut self, pending: &Pending, chosen: usize) -> usize {
        let taken = Pending::from([(chosen, Arc::clone(&pending[&chosen]))]);
        self.record(&taken, Pending::new(), chosen);
        chosen
    }

    fn record(&mut self, pending: &Pending, asleep: Pending, chosen: usize) {
        self.points.push(Point {
            pending: pending.clone(),
            asleep,
            chosen,
        });
    }
}
