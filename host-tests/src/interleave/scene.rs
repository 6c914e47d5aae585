//! What is run interleaved: a world, and what each of its workers does.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;

use crate::envoy::TinyEnvoy;
use crate::interleave::baton::{Baton, Seat};
use crate::interleave::op::{Access, Op, Place};
use crate::interleave::pilot::Pilot;
use crate::interleave::run::Run;

pub(super) type Step = Box<dyn FnOnce(&mut TinyEnvoy) + Send>;
type Check = Box<dyn FnOnce(&mut TinyEnvoy, &Run)>;

/// A world whose workers are about to run interleaved, what each of them does, and what must hold
/// afterwards.
///
/// A step sees the world as one worker does. It may send requests to that worker, pieces of body,
/// and [`settle`](TinyEnvoy::settle): what is due for that worker then happens. Time stands still;
/// [`TinyEnvoy::stall`] beforehand makes due what is wanted. What steps tell each other or the
/// check goes through their own variables; a step must not look at what other workers change,
/// neither through those nor through the world.
pub struct Scene {
    envoy: TinyEnvoy,
    steps: BTreeMap<usize, Vec<Step>>,
    check: Option<Check>,
}

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene")
            .field("envoy", &self.envoy)
            .finish_non_exhaustive()
    }
}

/// What became of one run.
pub(super) struct Played {
    pub(super) pilot: Pilot,
    /// The message of a step or a check that panicked.
    pub(super) failure: Option<String>,
}

impl Scene {
    /// A world in which nobody does anything yet.
    pub fn new(envoy: TinyEnvoy) -> Self {
        Self {
            envoy,
            steps: BTreeMap::new(),
            check: None,
        }
    }

    /// Adds to what a worker does, one thing after the other. The number of workers stands for the
    /// main thread.
    #[must_use]
    pub fn step(mut self, worker: usize, step: impl FnOnce(&mut TinyEnvoy) + Send + 'static) -> Self {
        assert!(worker <= self.envoy.workers(), "there is no worker {worker}");
        self.steps.entry(worker).or_default().push(Box::new(step));
        self
    }

    /// What must hold when every worker has done everything. The world is whole again then, and
    /// nothing in it runs interleaved.
    #[must_use]
    pub fn check(mut self, check: impl FnOnce(&mut TinyEnvoy, &Run) + 'static) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    /// Runs the steps under a pilot, then the check unless the run is redundant.
    pub(super) fn play(self, pilot: Pilot, in_real_time: bool) -> Played {
        let Self {
            mut envoy,
            steps,
            check,
        } = self;
        let Played { pilot, mut failure } = play(&mut envoy, steps, pilot, Some(in_real_time));
        if let Some(check) = check
            && failure.is_none()
            && pilot.fault.is_none()
            && !pilot.is_redundant
        {
            let run = Run::of(&pilot);
            failure = caught(|| check(&mut envoy, &run)).err();
        }
        Played { pilot, failure }
    }
}

/// Runs the steps of some workers under a pilot: one run of an exploration, in real time perhaps, or a
/// run for itself.
pub(super) fn play(
    envoy: &mut TinyEnvoy,
    steps: BTreeMap<usize, Vec<Step>>,
    pilot: Pilot,
    exploration: Option<bool>,
) -> Played {
    let in_real_time = exploration.unwrap_or_default();
    let workers: Vec<usize> = steps.keys().copied().collect();
    let baton = Baton::new(&workers, pilot, exploration.is_some());
    let mut crew = std::mem::take(&mut envoy.crew);
    let hands = crew.hands(workers.len().saturating_sub(1));
    let mut steps = steps.into_iter();
    let first = steps.next();
    let first = first.map(|(worker, steps)| (envoy.part(baton.seat(worker)), steps));
    let (ended, ends) = channel();
    for ((worker, steps), hand) in steps.zip(hands) {
        let part = envoy.part(baton.seat(worker));
        let ended = ended.clone();
        let job = Box::new(move || {
            // Nobody listens only where the world itself is being given up.
            let _heard = ended.send(work(part, steps, in_real_time));
        });
        baton.enqueue(Box::new(move || {
            hand.send(job).expect("its thread takes jobs until the crew is gone");
        }));
    }
    drop(ended);
    let mut all: Vec<_> = first
        .map(|(part, steps)| work(part, steps, in_real_time))
        .into_iter()
        .collect();
    all.extend(ends);
    all.sort_by_key(|(worker, ..)| *worker);
    let mut failure = None;
    for (worker, part, outcome) in all {
        envoy.rejoin(part);
        failure = failure.or(outcome.err().map(|message| format!("worker {worker}: {message}")));
    }
    envoy.crew = crew;
    Played {
        pilot: baton.pilot(),
        failure,
    }
}

fn work(mut part: TinyEnvoy, steps: Vec<Step>, in_real_time: bool) -> (usize, TinyEnvoy, Result<(), String>) {
    let seat: Seat = part.seat.clone().expect("a part has a seat");
    let outcome = caught(|| {
        let observe = |name, number, access| {
            if in_real_time {
                // Beginnings commute with beginnings, and ends with ends.
                let touches = vec![(Place::Step(number), Access::Read), (Place::RealTime, access)];
                seat.point(Op { name, touches });
            }
        };
        for (number, step) in steps.into_iter().enumerate() {
            observe("beginning", number, Access::Read);
            step(&mut part);
            observe("end", number, Access::Add);
        }
    });
    seat.leave();
    (seat.worker, part, outcome)
}

/// Runs what may panic; the message if it does.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a message").to_owned()
    })
}
