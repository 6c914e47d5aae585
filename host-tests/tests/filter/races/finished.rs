//! What must hold after a race.

use serde_json::{Value, json};
use tiny_envoy::{Act, Outcome, Run, StreamId, TinyEnvoy};

use super::race::{Asked, Change, Host, Place, TENANT, ask};
use crate::tenant_manager::TenantManager;
use crate::world::{code, ms};

const BELL: &str = "tenantgate_epoch";
const CHANGES: &str = "tenantgate.changes";
/// Past the end of every record's freshness.
const LATER_MS: u64 = 170_000;

/// A world after a race.
pub(crate) struct Finished<'a> {
    pub(crate) envoy: &'a mut TinyEnvoy,
    pub(crate) run: &'a Run,
    /// How often the Tenant Manager was asked in the race.
    pub(crate) questions: usize,
    pub(super) manager: TenantManager,
    pub(super) bearer: Vec<u8>,
    pub(super) other_bearer: Vec<u8>,
    pub(super) host: Host,
    pub(super) change: Change,
    pub(super) told: Vec<Place>,
    pub(super) asked: Vec<Asked>,
    pub(super) forwarded: Vec<usize>,
}

impl Finished<'_> {
    /// Every request is decided by what was known before or by what is known now, and by the latter if
    /// it began after an event had been answered, or looked for news after the event was announced.
    pub(crate) fn assert_nobody_served_too_late(&self) {
        let (before, after) = (self.change.before.1, self.change.after.1);
        for asked in &self.asked {
            let said = said(self.envoy.outcome(asked.stream));
            if said == after {
                continue;
            }
            assert_eq!(said, before, "{asked:?}");
            for told in &self.told {
                let over = self.end(*told);
                if let Some(begun) = asked.begun {
                    assert!(self.beginning(begun) < over, "{asked:?} began after the event");
                }
                let Some(forwarded) = self.forwarding(asked) else {
                    continue;
                };
                let worker = self.run.acts()[forwarded].worker;
                let woken = self.last(forwarded, |act| {
                    act.worker == worker && (act.name == "delivery" || act.name == "beginning")
                });
                assert!(woken < Some(over), "{asked:?} was woken after the event");
                let looked = self.last(forwarded, |act| act.worker == worker && self.is_look(act));
                let begun = self.beginning(*told);
                let is_announcement = |act: &Act| act.worker == told.worker && self.is_announcement(act);
                let announced = self.last(over, is_announcement).filter(|announced| *announced > begun);
                assert!(
                    announced.is_none() || looked < announced,
                    "{asked:?} could have heard of the event"
                );
            }
        }
    }

    /// The memory of the node is free of what was known before.
    pub(crate) fn assert_erased(&self) {
        let before = self.change.before.1;
        for (key, entry) in self.envoy.shared_data() {
            let mut windows = entry.value.windows(before.len());
            let is_left = windows.any(|window| window == before.as_bytes());
            assert!(!is_left, "{} still holds {before}", key.escape_ascii());
        }
    }

    /// Nobody is served by what was known before, now or when the Tenant Manager is gone and what the
    /// caches hold has aged.
    pub(crate) fn assert_nothing_left(&mut self) {
        self.envoy.settle();
        assert_eq!(self.envoy.pending(), Vec::<StreamId>::new());
        let (before, after) = (self.change.before.1, self.change.after.1);
        for worker in 0..self.envoy.workers() {
            assert_eq!(self.probe(worker), after, "worker {worker}");
        }
        self.says(json!({ "status": 500 }));
        self.envoy.advance(ms(LATER_MS));
        for worker in 0..self.envoy.workers() {
            assert_ne!(self.probe(worker), before, "worker {worker}, later");
        }
        self.envoy.assert_alive();
        assert_eq!(self.manager.strange_paths(), Vec::<String>::new());
    }

    /// Every worker says the same, and it is one of these.
    pub(crate) fn assert_everybody_says(&mut self, allowed: &[&str]) {
        self.envoy.settle();
        let first = self.probe(0);
        assert!(allowed.contains(&first.as_str()), "{first}, not one of {allowed:?}");
        for worker in 1..self.envoy.workers() {
            assert_eq!(self.probe(worker), first, "worker {worker}");
        }
        self.envoy.assert_alive();
    }

    /// What a request to a worker leads to now.
    pub(crate) fn probe(&mut self, worker: usize) -> String {
        let stream = ask(self.envoy, &self.bearer, worker, 0);
        said(self.envoy.decide(stream))
    }

    /// What a request of another tenant leads to, about which the Tenant Manager can say nothing.
    pub(crate) fn probe_other(&mut self, worker: usize) -> String {
        let stream = ask(self.envoy, &self.other_bearer, worker, 0);
        said(self.envoy.decide(stream))
    }

    /// What the requests of the race were decided by.
    pub(crate) fn said(&self) -> Vec<String> {
        let outcomes = self.asked.iter().map(|asked| self.envoy.outcome(asked.stream));
        outcomes.map(said).collect()
    }

    /// From now on the Tenant Manager says this.
    pub(crate) fn says(&self, answer: Value) {
        let answers = serde_json::from_value(json!({ TENANT: answer })).expect("an answer");
        self.manager.change(&answers);
    }

    fn is_look(&self, act: &Act) -> bool {
        match self.host {
            Host::WithBell => act.name == "proxy_get_metric" && act.on.starts_with(BELL),
            Host::WithoutBell => act.name == "proxy_get_shared_data" && act.on == CHANGES,
        }
    }

    fn is_announcement(&self, act: &Act) -> bool {
        match self.host {
            Host::WithBell => act.name == "proxy_increment_metric" && act.on.starts_with(BELL),
            Host::WithoutBell => act.name == "proxy_set_shared_data" && act.on == CHANGES,
        }
    }

    /// The last act of this kind before another, by its number.
    fn last(&self, before: usize, is_it: impl Fn(&Act) -> bool) -> Option<usize> {
        self.run.acts()[..before].iter().rposition(is_it)
    }

    fn forwarding(&self, asked: &Asked) -> Option<usize> {
        let nth = self.forwarded.iter().position(|label| *label == asked.label)?;
        let acts = self.run.acts().iter().enumerate();
        let mut forwardings = acts.filter(|(_, act)| act.name == "forward").map(|(number, _)| number);
        Some(
            forwardings
                .nth(nth)
                .expect("an act per request that reached the upstream"),
        )
    }

    fn beginning(&self, place: Place) -> usize {
        self.edge("beginning", place)
    }

    fn end(&self, place: Place) -> usize {
        self.edge("end", place)
    }

    fn edge(&self, name: &str, place: Place) -> usize {
        let on = format!("step {}", place.step);
        let is_it = |act: &Act| act.name == name && act.worker == place.worker && act.on == on;
        self.run.acts().iter().position(is_it).expect("the step was run")
    }
}

/// The slug that a request was forwarded with, or the code of its denial.
#[track_caller]
pub(super) fn said(outcome: Outcome) -> String {
    match outcome {
        Outcome::Forwarded(request) => request.headers.text("x-tenant-slug").unwrap_or_default(),
        outcome => code(&outcome.replied()),
    }
}
