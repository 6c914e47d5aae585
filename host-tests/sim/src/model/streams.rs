//! Streams that were let go and are still open when their tenant is refused.

use super::keys::{Place, place};
use super::knowledge::{Effect, Meaning};
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
        let first = self
            .knowledge
            .events(tenant)
            .filter(refusing)
            .map(|event| event.at_ms)
            .min();
        first.map(|at_ms| at_ms + CUT_WITHIN_MS)
    }
}
