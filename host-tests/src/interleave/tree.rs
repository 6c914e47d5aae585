//! The search: which schedules are still to be run.
//!
//! Depth first over the choices at each point. Two schedules that differ only in the order of acts
//! that commute are one to the search: sleep sets keep it from running the second one to its end,
//! and where nothing conflicts it does not branch at all (source sets, found by the races of each
//! run as in optimal dynamic partial-order reduction).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::interleave::op::Op;
use crate::interleave::order::Order;
use crate::interleave::pilot::{Pending, Pilot, Point};

/// A run that is to be made.
#[derive(Debug)]
pub(crate) struct Job {
    /// The point at which it leaves earlier runs, and whom it lets go on there.
    branch: Option<(usize, usize)>,
    prescribed: Vec<usize>,
    asleep: Pending,
}

impl Job {
    pub(crate) fn pilot(&self) -> Pilot {
        Pilot::new(self.prescribed.clone(), self.asleep.clone())
    }
}

/// A point that runs have passed.
#[derive(Debug)]
struct Node {
    pending: Pending,
    asleep: Pending,
    /// Who has gone on from here, or is to, in that order.
    claimed: Vec<usize>,
    children: BTreeMap<usize, usize>,
}

/// How far a search has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Runs to the end, no two of them equivalent.
    pub(crate) runs: u64,
    /// Runs that were seen to be superfluous on their way.
    pub(crate) redundant: u64,
    /// The schedules that the runs stand for.
    pub(crate) schedules: Option<u128>,
}

/// The points of all runs, and the runs that are still to be made.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    jobs: Vec<Job>,
    is_pruned: bool,
    pub(crate) tally: Tally,
}

impl Tree {
    /// A search that has not begun. Unless it is pruned it makes every run there is.
    pub(crate) fn new(is_pruned: bool) -> Self {
        let first = Job {
            branch: None,
            prescribed: Vec::new(),
            asleep: Pending::new(),
        };
        Self {
            nodes: Vec::new(),
            jobs: vec![first],
            is_pruned,
            tally: Tally {
                runs: 0,
                redundant: 0,
                schedules: Some(0),
            },
        }
    }

    pub(crate) fn next(&mut self) -> Option<Job> {
        self.jobs.pop()
    }

    /// Takes in a run that was made.
    ///
    /// # Errors
    /// It did not do what the same choices did before: the world is not deterministic.
    pub(crate) fn absorb(&mut self, job: &Job, pilot: Pilot) -> Result<(), String> {
        let Pilot {
            points, is_redundant, ..
        } = pilot;
        let acts: Vec<(usize, Arc<Op>)> = points
            .iter()
            .map(|point| (point.chosen, Arc::clone(&point.pending[&point.chosen])))
            .collect();
        let choices: Vec<usize> = acts.iter().map(|(worker, _)| *worker).collect();
        let path = self.extend(job, points, &choices)?;
        let order = Order::of(&acts);
        if is_redundant {
            self.tally.redundant += 1;
        } else {
            self.tally.runs += 1;
            let stands_for = if self.is_pruned { order.schedules() } else { Some(1) };
            let sum = self.tally.schedules.zip(stands_for);
            self.tally.schedules = sum.and_then(|(sum, more)| sum.checked_add(more));
        }
        if !self.is_pruned {
            return Ok(());
        }
        // The acts before the branch have met in an earlier run.
        let first_new = job.prescribed.len().saturating_sub(1);
        for later in first_new..acts.len() {
            for earlier in order.races_with(later) {
                self.reverse(&path, &choices, earlier, &order.initials(earlier, later));
            }
        }
        Ok(())
    }

    /// Sees to it that one of these workers goes on at a point of the run.
    fn reverse(&mut self, path: &[usize], choices: &[usize], depth: usize, initials: &[usize]) {
        let node = &self.nodes[path[depth]];
        let is_seen_to = |worker: &usize| node.claimed.contains(worker) || node.asleep.contains_key(worker);
        if !initials.iter().any(is_seen_to) {
            self.claim(path, choices, depth, initials[0]);
        }
    }

    fn claim(&mut self, path: &[usize], choices: &[usize], depth: usize, worker: usize) {
        let node = &mut self.nodes[path[depth]];
        let op = &node.pending[&worker];
        let mut asleep = Pending::new();
        if self.is_pruned {
            let claimed = node.claimed.iter().map(|claimed| (claimed, &node.pending[claimed]));
            asleep = claimed
                .chain(&node.asleep)
                .filter(|(_, other)| !other.conflicts(op))
                .map(|(other, op)| (*other, Arc::clone(op)))
                .collect();
        }
        node.claimed.push(worker);
        self.jobs.push(Job {
            branch: Some((path[depth], worker)),
            prescribed: [&choices[..depth], &[worker]].concat(),
            asleep,
        });
    }

    /// Adds the points of a run that are new. The run as numbers of points.
    fn extend(&mut self, job: &Job, points: Vec<Point>, choices: &[usize]) -> Result<Vec<usize>, String> {
        let known = job.prescribed.len();
        let mut path: Vec<usize> = Vec::with_capacity(points.len());
        if points.len() < known {
            return Err(format!("a run ended after {} points of {known}", points.len()));
        }
        let mut points = points.into_iter().enumerate();
        for (depth, point) in points.by_ref().take(known) {
            let number = match path.last() {
                None => 0,
                Some(parent) => self.nodes[*parent].children[&job.prescribed[depth - 1]],
            };
            if self.nodes[number].pending != point.pending {
                return Err(format!(
                    "the same choices led to different acts at choice {depth}: {:?}, then {:?}",
                    self.nodes[number].pending, point.pending
                ));
            }
            path.push(number);
        }
        let mut parent = job.branch;
        for (_, point) in points {
            let number = self.nodes.len();
            if let Some((parent, chosen)) = parent {
                self.nodes[parent].children.insert(chosen, number);
            }
            parent = Some((number, point.chosen));
            self.nodes.push(Node {
                pending: point.pending,
                asleep: point.asleep,
                claimed: vec![point.chosen],
                children: BTreeMap::new(),
            });
            path.push(number);
        }
        if !self.is_pruned {
            for depth in known..path.len() {
                let node = &self.nodes[path[depth]];
                let chosen = node.claimed[0];
                let others: Vec<usize> = node.pending.keys().copied().filter(|w| *w != chosen).collect();
                for other in others {
                    self.claim(&path, choices, depth, other);
                }
            }
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests;
