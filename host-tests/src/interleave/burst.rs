//! A burst: workers of a world that goes on run interleaved for a while, under one schedule.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::envoy::TinyEnvoy;
use crate::interleave::pilot::Pilot;
use crate::interleave::run::{Run, Schedule};
use crate::interleave::scene::{Played, Step, play};

/// What some workers of a world are about to do at the same time. See [`TinyEnvoy::burst`].
///
/// Steps return values of one type, `()` perhaps.
#[must_use = "nothing happens before it is run"]
pub struct Burst<'a, T = ()> {
    envoy: &'a mut TinyEnvoy,
    steps: BTreeMap<usize, Vec<Step>>,
    /// What each step has returned.
    returned: Vec<Returned<T>>,
}

type Returned<T> = Arc<Mutex<Option<T>>>;

impl<T> std::fmt::Debug for Burst<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Burst")
            .field("workers", &self.steps.keys())
            .finish_non_exhaustive()
    }
}

/// A burst that failed. The world is whole all the same.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}\nunder the schedule \"{}\":\n{run}", run.schedule())]
pub struct BurstError {
    /// The message of the step that panicked first, by the number of its worker; or why the schedule is
    /// none of this burst.
    pub message: String,
    /// What happened.
    pub run: Run,
}

impl TinyEnvoy {
    /// Lets workers run interleaved for a while, as threads do: each may be overtaken just before each of
    /// its acts on what workers share, as with an [`Explorer`](crate::Explorer), but under one schedule
    /// only. The world goes on afterwards. Threads are kept for the next burst, and a burst of one worker
    /// needs none.
    ///
    /// ```no_run
    /// # let mut envoy = tiny_envoy::TinyEnvoy::builder().workers(2).start().expect("a world");
    /// let (run, streams) = envoy
    ///     .burst()
    ///     .step(0, |envoy| envoy.get("/v1/accounts").send())
    ///     .step(1, |envoy| envoy.get("/v1/accounts").send())
    ///     .run(42)
    ///     .expect("nothing panics");
    /// println!("{run}{:?}", envoy.outcome(streams[0]));
    /// ```
    pub fn burst<T>(&mut self) -> Burst<'_, T> {
        Burst {
            envoy: self,
            steps: BTreeMap::new(),
            returned: Vec::new(),
        }
    }
}

impl<T: Send + 'static> Burst<'_, T> {
    /// Adds to what a worker does, one thing after the other. The number of workers stands for the main
    /// thread. What a step sees of the world, and what it may do, is as in a [`Scene`](crate::Scene).
    pub fn step(mut self, worker: usize, step: impl FnOnce(&mut TinyEnvoy) -> T + Send + 'static) -> Self {
        assert!(worker <= self.envoy.workers(), "there is no worker {worker}");
        let returned = Returned::default();
        self.returned.push(Arc::clone(&returned));
        let step = move |envoy: &mut TinyEnvoy| {
            let value = step(envoy);
            *returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        };
        self.steps.entry(worker).or_default().push(Box::new(step));
        self
    }

    /// Runs the steps under a schedule drawn from a seed: before each act one of the workers that are
    /// about to act is drawn to go on, each as likely as the others. With
    /// what happened comes what the steps returned, in the order in which they were added.
    ///
    /// # Errors
    /// A step panicked. The others have gone on to their ends.
    pub fn run(self, seed: u64) -> Result<(Run, Vec<T>), BurstError> {
        self.play(Pilot::drawing(seed))
    }

    /// Runs the steps under the schedule of an earlier run.
    ///
    /// # Errors
    /// A step panicked, or the schedule asks for somebody who has nothing to do. What the schedule leaves
    /// open happens in some order.
    pub fn replay(self, schedule: &Schedule) -> Result<(Run, Vec<T>), BurstError> {
        self.play(Pilot::new(schedule.0.clone(), BTreeMap::new()))
    }

    /// Runs the steps under a schedule of a burst that was alike, as when a failure is made smaller: whom
    /// the schedule asks for and who has nothing to do is passed over, and when it has ended each worker
    /// goes on as long as it can. Under the empty schedule they run one after the other.
    ///
    /// # Errors
    /// A step panicked.
    pub fn follow(self, schedule: &Schedule) -> Result<(Run, Vec<T>), BurstError> {
        self.play(Pilot::following(schedule.0.clone()))
    }

    fn play(self, pilot: Pilot) -> Result<(Run, Vec<T>), BurstError> {
        let Self { envoy, steps, returned } = self;
        let Played { pilot, failure } = play(envoy, steps, pilot, None);
        let run = Run::of(&pilot);
        match failure.or(pilot.fault) {
            None => {
                let values = returned
                    .iter()
                    .map(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).take());
                Ok((run, values.map(|value| value.expect("no step panicked")).collect()))
            }
            Some(message) => Err(BurstError { message, run }),
        }
    }
}
