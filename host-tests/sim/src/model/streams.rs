//! Streams that were let go and are still open when their tenant is refused.

use super::calls::FEW_SLOTS;
use super::keys::{Place, place};
use super::knowledge::{Effect, Lookup, Meaning};
use super::{Model, Settled};
use crate::script::Credential;

/// How soon a stream is cut, in milliseconds.
const CUT_WITHIN_MS: u64 = 250;

impl Model {
    fn tenant_of(settled: &Settled) -> Option<&str> {
        let request = &settled.seen.request;
        if let Some(note) = &settled.seen.note
            && place(&request.method, &request.path) != Place::Public
        {
            return Some(&note.tenant);
        }
        match &request.credential {
            // What is public goes on in nobody's name.
            Credential::Token(_) if place(&request.method, &request.path) == Place::Public => None,
            Credential::Token(token) => Some(&token.tenant),
            _ => None,
        }
    }

    fn cuts(&self, settled: &Settled) -> bool {
        let knobs = self.knobs(settled.seen.config);
        knobs.cuts_streams && !knobs.reports
    }

    /// Whether a stream that was let go may have been ended: its tenant has been refused since.
    pub fn may_be_cut(&self, settled: &Settled) -> bool {
        let Some(tenant) = Self::tenant_of(settled).filter(|_| self.cuts(settled)) else {
            return false;
        };
        let by_event = self
            .knowledge
            .events(tenant)
            .any(|event| event.effect == Effect::Refuse && !event.span.is_before(settled.decided));
        let by_lookup = self.knowledge.about(tenant).any(|lookup| {
            let is_since = lookup.delivered.is_some_and(|span| !span.is_before(settled.decided));
            let is_here = lookup.meaning != Meaning::Unknown || lookup.worker == Some(settled.seen.request.worker);
            lookup.meaning.refuses() && is_since && is_here
        });
        by_event || by_lookup
    }

    /// By when a stream that was let go must have been ended, in milliseconds; `None`: it may go on.
    pub fn must_be_cut_by(&self, settled: &Settled) -> Option<u64> {
        let tenant = Self::tenant_of(settled).filter(|_| self.cuts(settled))?;
        let refusing = |event: &&super::knowledge::Applied| {
            let is_lifted = self.knowledge.events(tenant).any(|later| {
                let lifts = later.effect == Effect::Lift || later.tenant.is_none();
                lifts && !later.span.is_before(event.span)
            });
            event.effect == Effect::Refuse && settled.decided.is_before(event.span) && !is_lifted
        };
        let by_event = self.knowledge.events(tenant).filter(refusing).map(|event| event.at_ms);
        let by_lookup = self.refusals_heard(settled, tenant);
        let first = by_event.chain(by_lookup).min();
        first.map(|at_ms| at_ms + CUT_WITHIN_MS)
    }

    /// When every worker of the configuration that let a stream go must have heard the Tenant Manager refuse its
    /// tenant, in milliseconds.
    fn refusals_heard<'m>(&'m self, settled: &'m Settled, tenant: &'m str) -> impl Iterator<Item = u64> {
        let config = settled.seen.config;
        let knobs = self.knobs(config);
        // What leaves the list is forgotten, its refusal too, and asked about anew where streams are open.
        let is_listed = knobs.discovery_s.is_some();
        let is_alone = !self.is_mixed && self.config == config && knobs.shared_slots >= FEW_SLOTS && !is_listed;
        let refusing = move |lookup: &&Lookup| {
            // Whoever is unknown is so to the worker that asked alone.
            let is_heard = lookup.meaning.refuses() && lookup.meaning != Meaning::Unknown && !lookup.is_lost;
            let is_since = settled.decided.is_before(lookup.asked) && lookup.config == config && !lookup.is_mixed;
            let is_kept = lookup.delivered.is_some_and(|delivered| {
                !self.knowledge.may_be_overtaken(lookup, delivered)
                    && !self
                        .knowledge
                        .events(tenant)
                        .any(|event| !event.span.is_before(delivered))
            });
            is_alone && is_heard && is_since && is_kept
        };
        self.knowledge
            .about(tenant)
            .filter(refusing)
            .map(|lookup| lookup.ends_ms)
    }
}
