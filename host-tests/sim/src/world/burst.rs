//! Several workers at the same instant.

use fastrand::Rng;
use tiny_envoy::{Outcome, Schedule, StreamId};

use super::World;
use super::events::deliver;
use super::send::sent;
use crate::fault::{Fault, Rule};
use crate::ledger::{Ledger, Span, Tick};
use crate::model::Seen;
use crate::script::Act;

/// What a part of a burst has come to when its worker went on to the next.
struct Report {
    stream: Option<StreamId>,
    outcome: Outcome,
    span: Span,
}

impl World<'_> {
    pub(super) fn bursts(&mut self, schedule: u64, acts: &[Act]) -> Result<(), Fault> {
        let workers = self.script.setup.workers;
        let acts: Vec<_> = acts.iter().filter(|act| act.worker() < workers).cloned().collect();
        let mut seen: Vec<Option<Seen>> = Vec::new();
        for act in &acts {
            seen.push(match act {
                Act::Request(request) => Some(self.sees(request, true)),
                Act::Settle(worker) => {
                    self.gets_to_it(*worker);
                    None
                }
                Act::Tell(_) => None,
            });
        }
        self.tally.count("bursts");
        let from = self.ledger.tick();
        let mut burst = self.envoy.burst();
        for act in acts.clone() {
            let ledger = self.ledger.clone();
            burst = burst.step(act.worker(), move |envoy| plays(envoy, &act, &ledger));
        }
        // Any worker before every act, or each for a while: what must be overtaken as a whole is not otherwise.
        let played = if schedule.is_multiple_of(2) {
            burst.run(schedule)
        } else {
            burst.follow(&by_turns(schedule, workers))
        };
        let to = self.ledger.tick();
        let (run, reports) =
            played.or_else(|error| Rule::Integrity.broken(format!("a burst broke off: {}", error.message)))?;
        self.story.tell(self.envoy.elapsed(), || {
            format!(
                "workers act at the same instant, {} acts on what they share:",
                run.acts().len()
            )
        });
        let span = Span { from, to };
        if self.model.has_due(self.now_ms()) || self.has_sudden_answers() {
            self.model.blur(self.now_ms());
        }
        let mut waits = Vec::new();
        for ((act, seen), report) in acts.iter().zip(seen).zip(reports) {
            match (act, seen) {
                (Act::Request(request), Some(mut seen)) => {
                    self.story
                        .tell(self.envoy.elapsed(), || super::story::of_request(request));
                    seen.begun = Span {
                        from: report.span.from,
                        to: report.span.from,
                    };
                    // What was decided later than its step was not decided before the step's end.
                    let not_before: Tick = match report.outcome {
                        Outcome::Pending => report.span.to,
                        _ => report.span.from,
                    };
                    let not_after = match report.outcome {
                        Outcome::Pending => to,
                        _ => report.span.to,
                    };
                    let stream = report.stream.expect("a request has a stream");
                    waits.push((
                        seen,
                        stream,
                        Span {
                            from: not_before,
                            to: not_after,
                        },
                    ));
                }
                (Act::Tell(delivery), _) => self.hears(delivery, report.outcome, report.span)?,
                _ => {}
            }
        }
        for (seen, stream, within) in waits {
            let id = seen.request.id;
            self.sent(seen, stream);
            self.live.entry(id).and_modify(|live| live.within = Some(within));
        }
        let observed = self.observe(span);
        for live in self.live.values_mut() {
            live.within = None;
        }
        observed
    }

    /// Whether somebody has been asked who answers in the same instant.
    fn has_sudden_answers(&self) -> bool {
        self.ledger.book().calls[self.calls..]
            .iter()
            .any(|call| call.delay_ms == 0 || call.is_refused)
    }
}

/// A schedule under which each worker goes on for one act, or for several.
fn by_turns(seed: u64, workers: usize) -> Schedule {
    /// More than a burst has acts.
    const ACTS: usize = 400;
    let mut rng = Rng::with_seed(seed);
    let mut choices = Vec::new();
    while choices.len() < ACTS {
        let worker = rng.usize(..workers).to_string();
        let turn = [1, 2, 4, 10, 40][rng.usize(..5)];
        choices.extend(std::iter::repeat_n(worker, turn));
    }
    choices.join(" ").parse().expect("numbers")
}

impl Act {
    /// The worker that it comes to.
    #[must_use]
    pub fn worker(&self) -> usize {
        match self {
            Self::Request(request) => request.worker,
            Self::Tell(delivery) => delivery.worker,
            Self::Settle(worker) => *worker,
        }
    }
}

fn plays(envoy: &mut tiny_envoy::TinyEnvoy, act: &Act, ledger: &Ledger) -> Report {
    let from = ledger.tick();
    let stream = match act {
        Act::Request(request) => Some(sent(envoy, request)),
        Act::Tell(delivery) => Some(deliver(envoy, delivery)),
        Act::Settle(_) => {
            envoy.settle();
            None
        }
    };
    let outcome = stream.map_or(Outcome::Gone, |stream| envoy.outcome(stream));
    Report {
        stream,
        outcome,
        span: Span {
            from,
            to: ledger.tick(),
        },
    }
}
