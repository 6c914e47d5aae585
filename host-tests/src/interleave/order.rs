//! Which acts of one run had to come before which others, and which could have come the other way
//! round.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::interleave::op::Op;

/// More states than this and the schedules that a run stands for are not counted.
const MOST_STATES: usize = 1 << 20;

/// The acts of a run, each with what happened before it as a vector clock: of each worker, the
/// number of its acts that this one had to wait for, itself included.
#[derive(Debug)]
pub(crate) struct Order {
    acts: Vec<Act>,
    workers: Vec<usize>,
}

#[derive(Debug)]
struct Act {
    /// The place of its worker among all workers.
    lane: usize,
    op: Arc<Op>,
    clock: Vec<usize>,
}

impl Order {
    pub(crate) fn of(acts: &[(usize, Arc<Op>)]) -> Self {
        let mut workers: Vec<usize> = acts.iter().map(|(worker, _)| *worker).collect();
        workers.sort_unstable();
        workers.dedup();
        let mut order = Self {
            acts: Vec::with_capacity(acts.len()),
            workers,
        };
        for (worker, op) in acts {
            let lane = order.workers.binary_search(worker).expect("collected above");
            let mut clock = vec![0; order.workers.len()];
            for earlier in &order.acts {
                if earlier.lane == lane || earlier.op.conflicts(op) {
                    for (own, theirs) in clock.iter_mut().zip(&earlier.clock) {
                        *own = (*own).max(*theirs);
                    }
                }
            }
            clock[lane] += 1;
            let op = Arc::clone(op);
            order.acts.push(Act { lane, op, clock });
        }
        order
    }

    /// Whether act `earlier` had to come before act `later`; `earlier < later`.
    fn is_before(&self, earlier: usize, later: usize) -> bool {
        let earlier = &self.acts[earlier];
        self.acts[later].clock[earlier.lane] >= earlier.clock[earlier.lane]
    }

    /// Acts that conflict with act `later` and that nothing but this conflict keeps before it: the
    /// two could have come the other way round.
    pub(crate) fn races_with(&self, later: usize) -> Vec<usize> {
        let act = &self.acts[later];
        let conflicting = (0..later).filter(|earlier| {
            let earlier = &self.acts[*earlier];
            earlier.lane != act.lane && earlier.op.conflicts(&act.op)
        });
        let is_direct = |earlier: &usize| {
            let mut between = (*earlier + 1)..later;
            !between.any(|middle| self.is_before(*earlier, middle) && self.is_before(middle, later))
        };
        conflicting.filter(is_direct).collect()
    }

    /// The workers that can begin a run in which `later` comes before `earlier`: each can take its
    /// next act at once where `earlier` was taken.
    pub(crate) fn initials(&self, earlier: usize, later: usize) -> Vec<usize> {
        let mut sequence: Vec<usize> = ((earlier + 1)..later)
            .filter(|act| !self.is_before(earlier, *act))
            .collect();
        sequence.push(later);
        let mut seen = Vec::new();
        let mut initials = Vec::new();
        for (position, act) in sequence.iter().enumerate() {
            let lane = self.acts[*act].lane;
            if seen.contains(&lane) {
                continue;
            }
            seen.push(lane);
            if !sequence[..position].iter().any(|before| self.is_before(*before, *act)) {
                initials.push(self.workers[lane]);
            }
        }
        initials
    }

    /// The number of schedules that differ from this run only in the order of acts whose order
    /// makes no difference, this one included. `None` when they are too many to count.
    pub(crate) fn schedules(&self) -> Option<u128> {
        let mut lanes: Vec<Vec<&Act>> = vec![Vec::new(); self.workers.len()];
        for act in &self.acts {
            lanes[act.lane].push(act);
        }
        let total = lanes
            .iter()
            .try_fold(1_usize, |states, lane| states.checked_mul(lane.len() + 1))?;
        if total > MOST_STATES {
            return None;
        }
        // States by how far each worker has come; the ways that lead there.
        let mut level = BTreeMap::from([(vec![0; lanes.len()], 1_u128)]);
        for _ in &self.acts {
            let mut next = BTreeMap::new();
            for (state, ways) in &level {
                for (number, lane) in lanes.iter().enumerate() {
                    let Some(act) = lane.get(state[number]) else { continue };
                    let mut after = state.clone();
                    after[number] += 1;
                    if act.clock.iter().zip(&after).all(|(needed, done)| needed <= done) {
                        let sum = next.entry(after).or_insert(0_u128);
                        *sum = sum.checked_add(*ways)?;
                    }
                }
            }
            level = next;
        }
        level.into_values().next()
    }
}
