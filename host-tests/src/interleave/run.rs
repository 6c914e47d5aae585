//! What happened in one run, and the choices that make it happen again.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use crate::interleave::pilot::Pilot;

/// Who goes on at each point of a run: the choices, in order. Its text can be parsed again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule(pub(super) Vec<usize>);

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let choices: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&choices.join(" "))
    }
}

impl FromStr for Schedule {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// One act of a worker on what all workers share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The worker that acted; the number of workers for the main thread.
    pub worker: usize,
    /// The hostcall, or what the host did by itself: `forward`, `delivery`, or the `beginning` and
    /// the `end` of a step where those are observed.
    pub name: &'static str,
    /// What it acted on: a key, the name of a metric, queue or cluster; of a step, `step 0` for the
    /// worker's first.
    pub on: String,
}

/// What happened in one run, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    acts: Vec<Act>,
}

impl Run {
    pub(super) fn of(pilot: &Pilot) -> Self {
        let acts = pilot.points.iter().map(|point| {
            let op = &point.pending[&point.chosen];
            Act {
                worker: point.chosen,
                name: op.name,
                on: op
                    .touches
                    .first()
                    .map(|(place, _)| place.to_string())
                    .unwrap_or_default(),
            }
        });
        Self { acts: acts.collect() }
    }

    /// All acts on what workers share.
    #[must_use]
    pub fn acts(&self) -> &[Act] {
        &self.acts
    }

    /// The choices that lead to this run.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule(self.acts.iter().map(|act| act.worker).collect())
    }
}

/// A line per act.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Act { worker, name, on } in &self.acts {
            writeln!(f, "worker {worker}: {name} of {on}")?;
        }
        Ok(())
    }
}
