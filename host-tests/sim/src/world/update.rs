//! Configurations that are put in force, and those that end.

use std::collections::BTreeSet;

use super::World;
use crate::config;
use crate::fault::{Fault, Rule};
use crate::ledger::Span;

/// A configuration that workers take over when they get to it.
#[derive(Debug)]
pub(super) struct Late {
    /// Its place.
    config: usize,
    /// Workers that have.
    by: BTreeSet<usize>,
}

impl World<'_> {
    /// The configuration that a worker has for new requests, and how many it has had before.
    pub(super) fn serves(&self, worker: usize) -> (usize, u32) {
        match &self.late {
            Some(late) if late.by.contains(&worker) => (late.config, self.updates + 1),
            _ => (self.model.config, self.updates),
        }
    }

    /// The configurations that some worker has for new requests.
    pub(super) fn in_force(&self) -> Vec<usize> {
        let late = self.late.as_ref().map(|late| late.config);
        std::iter::once(self.model.config).chain(late).collect()
    }

    /// A worker does what is due for it.
    pub(super) fn gets_to_it(&mut self, worker: usize) {
        if let Some(late) = &mut self.late {
            late.by.insert(worker);
        }
    }

    /// Everybody has done what was due.
    pub(super) fn takes_over(&mut self, span: Span) {
        if let Some(late) = self.late.take() {
            self.updates += 1;
            self.model.updates(late.config, span, self.now_ms());
        }
    }

    /// A configuration is put in force.
    pub(super) fn updates(&mut self, place: usize) -> Result<(), Fault> {
        let Some(text) = self.text_of(place)? else {
            return Ok(());
        };
        self.story.tell(self.envoy.elapsed(), || {
            format!("configuration {place} is put in force")
        });
        let mut outcome = Ok(());
        let span = self.span(|world| outcome = world.envoy.update(text));
        if let Err(error) = outcome {
            return Rule::Integrity.broken(format!("configuration {place} is refused: {error}"));
        }
        self.updates += 1;
        self.model.updates(place, span, self.now_ms());
        self.observe(span)
    }

    /// A configuration is put in force, and every worker takes it over when it gets to it.
    pub(super) fn updates_later(&mut self, place: usize) -> Result<(), Fault> {
        let Some(text) = self.text_of(place)? else {
            return Ok(());
        };
        self.story.tell(self.envoy.elapsed(), || {
            format!("configuration {place} is put in force, worker by worker")
        });
        self.tally.count("configurations put in force worker by worker");
        let mut outcome = Ok(());
        let span = self.span(|world| outcome = world.envoy.update_later(text));
        if let Err(error) = outcome {
            return Rule::Integrity.broken(format!("configuration {place} is refused: {error}"));
        }
        self.late = Some(Late {
            config: place,
            by: BTreeSet::new(),
        });
        self.model.may_update(span, self.now_ms());
        self.observe(span)
    }

    /// The text of a configuration, once an earlier one is in force everywhere.
    fn text_of(&mut self, place: usize) -> Result<Option<String>, Fault> {
        let Some(knobs) = self.script.setup.configs.get(place) else {
            return Ok(None);
        };
        self.passes_until(self.now_ms())?;
        self.tally.count("configurations put in force");
        Ok(Some(config::text(knobs)))
    }

    /// What is there of old configurations ends, and the requests that came to them.
    pub(super) fn drains(&mut self) -> Result<(), Fault> {
        self.passes_until(self.now_ms())?;
        self.story.tell(self.envoy.elapsed(), || {
            "what is there of old configurations ends".to_owned()
        });
        self.tally.count("drains");
        let span = self.span(|world| world.envoy.drained());
        self.model.drains(span, self.now_ms());
        let there = self.pending.iter().chain(&self.open);
        let old: Vec<_> = there
            .copied()
            .filter(|id| self.live[id].seen.number < self.updates)
            .collect();
        for id in old {
            let live = &self.live[&id];
            if !self.envoy.is_finished(live.stream) {
                return Rule::Answered.broken(format!("request {id} has outlived its configuration"));
            }
            if self.envoy.response(live.stream).is_none() {
                self.tally.count("requests ended by a drain");
                self.model.leaves(&live.seen);
                self.pending.retain(|other| *other != id);
                self.open.retain(|other| *other != id);
            }
        }
        self.observe(span)
    }
}
