//! Running every schedule.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::interleave::pilot::{Pending, Pilot};
use crate::interleave::run::{Run, Schedule};
use crate::interleave::scene::{Played, Scene, caught};
use crate::interleave::tree::{Tally, Tree};

/// Runs the workers of a world interleaved, under every schedule there is.
///
/// A worker may be overtaken just before each of its acts on what workers share; the act itself is
/// indivisible. Such acts are the hostcalls on shared data, metrics and queues, callouts, the
/// forwarding of a request, and a look at what is due for the worker. Everything else belongs to
/// one worker, and when it happens makes no difference to the others.
///
/// Schedules that differ only in the order of acts that commute are run once: acts on different
/// keys, metrics, queues or clusters, reads of the same one, and additions to one counter. So must
/// not matter in a check: the numbers of compare-and-set but for being equal, the order of log lines,
/// callouts and events of different workers. Clusters and foreign functions that have state in
/// common, or make a difference by it, are beyond this rule: see [`Self::without_pruning`].
#[derive(Debug, Clone)]
pub struct Explorer {
    is_pruned: bool,
    in_real_time: bool,
    threads: NonZeroUsize,
    most_runs: u64,
}

/// More runs than a test has time for.
const MOST_RUNS: u64 = 100_000;

impl Default for Explorer {
    fn default() -> Self {
        Self {
            is_pruned: true,
            in_real_time: false,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            most_runs: MOST_RUNS,
        }
    }
}

/// How much was explored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explored {
    /// Runs that were made and checked.
    pub runs: u64,
    /// Runs that were given up because they turned out to be equivalent to another.
    pub redundant: u64,
    /// The schedules that the runs stand for: all there are. `None` if they are too many to count.
    pub schedules: Option<u128>,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, redundant, .. } = self;
        match self.schedules {
            Some(schedules) => write!(f, "{schedules} schedules, shown by {runs} runs")?,
            None => write!(f, "uncounted schedules, shown by {runs} runs")?,
        }
        write!(f, " ({redundant} more were given up as equivalent)")
    }
}

impl Explorer {
    /// Skips schedules that are equivalent to others, and uses all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs every schedule, those too that differ from others only in the order of acts that
    /// commute.
    #[must_use]
    pub fn without_pruning(mut self) -> Self {
        self.is_pruned = false;
        self
    }

    /// Makes the beginning and the end of each step an act, so that every order of one step's end
    /// and another's beginning is run. Needed by checks that ask whether something began only
    /// after something else was over.
    #[must_use]
    pub fn in_real_time(mut self) -> Self {
        self.in_real_time = true;
        self
    }

    /// The number of schedules that are run at the same time, each in a world of its own.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// The most runs that are made, 100 000 unless set: a search that needs more fails.
    #[must_use]
    pub fn at_most(mut self, runs: u64) -> Self {
        self.most_runs = runs;
        self
    }

    /// Runs every schedule of a scene, which is set up anew for each. It must be the same each
    /// time.
    ///
    /// # Panics
    /// A step or a check panicked. The message has the schedule, for [`Self::replay`]. Or the scene
    /// was not the same each time, or there was no end of runs.
    pub fn explore(&self, stage: impl Fn() -> Scene + Sync) -> Explored {
        let search = Mutex::new(Search {
            tree: Tree::new(self.is_pruned),
            busy: 0,
            failure: None,
        });
        let changed = Condvar::new();
        std::thread::scope(|scope| {
            for _ in 1..self.threads.get() {
                scope.spawn(|| self.take_part(&search, &changed, &stage));
            }
            self.take_part(&search, &changed, &stage);
        });
        let search = search.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = search.failure {
            panic!("{failure}");
        }
        let Tally {
            runs,
            redundant,
            schedules,
        } = search.tree.tally;
        Explored {
            runs,
            redundant,
            schedules,
        }
    }

    /// Runs a scene under one schedule. What the schedule leaves open happens in some order.
    ///
    /// # Panics
    /// A step or the check panicked, or the schedule is not one of this scene.
    pub fn replay(&self, schedule: &Schedule, stage: impl FnOnce() -> Scene) -> Run {
        match self.run(Pilot::new(schedule.0.clone(), Pending::new()), stage) {
            Ok(pilot) => Run::of(&pilot),
            Err(failure) => panic!("{failure}"),
        }
    }

    fn take_part(&self, search: &Mutex<Search>, changed: &Condvar, stage: &(impl Fn() -> Scene + Sync)) {
        let lock = || search.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state: MutexGuard<'_, Search> = lock();
        while state.failure.is_none() {
            let Some(job) = state.tree.next() else {
                if state.busy == 0 {
                    return;
                }
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy += 1;
            drop(state);
            let made = self.run(job.pilot(), stage);
            state = lock();
            state.busy -= 1;
            let taken_in = made.and_then(|pilot| state.tree.absorb(&job, pilot));
            let Tally { runs, redundant, .. } = state.tree.tally;
            let taken_in = taken_in.and_then(|()| {
                let is_bounded = runs + redundant <= self.most_runs;
                is_bounded
                    .then_some(())
                    .ok_or_else(|| format!("more than {} runs", self.most_runs))
            });
            state.failure = state.failure.take().or(taken_in.err());
            changed.notify_all();
        }
    }

    /// Makes one run. `Err` has why it failed.
    fn run(&self, pilot: Pilot, stage: impl FnOnce() -> Scene) -> Result<Pilot, String> {
        let scene = caught(stage).map_err(|message| format!("the scene was not set up: {message}"))?;
        let Played { pilot, failure } = scene.play(pilot, self.in_real_time);
        if let Some(fault) = pilot.fault {
            return Err(format!("the schedule is none of this scene: {fault}"));
        }
        let Some(failure) = failure else { return Ok(pilot) };
        let run = Run::of(&pilot);
        let schedule = run.schedule();
        Err(format!("{failure}\nunder the schedule \"{schedule}\":\n{run}"))
    }
}

/// What the threads of a search share.
struct Search {
    tree: Tree,
    /// Runs that are being made.
    busy: usize,
    failure: Option<String>,
}
