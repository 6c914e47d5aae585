//! Reasons that the filter may have had.

use std::collections::BTreeMap;

use super::knowledge::{Applied, Effect, Lookup, Meaning};
use super::{Model, Settled, breaker};
use crate::script::Knobs;

/// How long a tenant is not asked about after an answer that cannot be understood, in milliseconds.
pub(super) const TENANT_PAUSE_MS: u64 = 1_000;

/// The longest that a record is fresh, in milliseconds.
pub(super) fn longest_ttl_ms(knobs: &Knobs) -> u64 {
    let ttl_ms = knobs.ttl_s * 1_000;
    ttl_ms + ttl_ms / 10
}

/// The shortest.
pub(super) fn shortest_ttl_ms(knobs: &Knobs) -> u64 {
    let ttl_ms = knobs.ttl_s * 1_000;
    ttl_ms - ttl_ms / 10
}

impl Model {
    /// Whether anybody could have been told since `from_ms` that the circuit is open.
    pub(super) fn may_be_open(&self, knobs: &Knobs, from_ms: u64, request: u32) -> bool {
        self.breaker.may_be_open(knobs, from_ms, |until_ms| {
            let waits = |seen: &super::Seen| seen.begun_ms >= until_ms && !self.deciding.contains(&seen.request.id);
            // What an event has dropped is asked for anew, by whoever comes to it next.
            let is_told = |event: &Applied| event.at_ms >= until_ms.max(from_ms);
            // Who is answered by what is stale may ask too, in the instant in which he came.
            let came = |(other, at_ms): &(u32, u64)| *other != request && *at_ms >= until_ms.max(from_ms);
            // Whoever was let through may have died before he could ask: his lease lasts.
            let lease_ms = knobs.timeout_ms + breaker::GRACE_MS;
            let died = self
                .died_ms
                .is_some_and(|at_ms| until_ms <= at_ms && from_ms < at_ms + lease_ms);
            // Of what has ended in this instant the filter may not have heard yet.
            died || !self.arriving.is_empty()
                || self.waiting.values().flat_map(BTreeMap::values).any(waits)
                || self.latest.iter().any(came)
                || self.knowledge.applied.iter().rev().any(is_told)
        })
    }

    /// Whether the worker of a request may have found that the Tenant Manager has no answer about its
    /// tenant: a lookup has failed, somebody may not be asked, or the request has waited too long.
    pub(super) fn may_be_unavailable(&self, tenant: &str, settled: &Settled) -> bool {
        let Settled { seen, decided_ms, .. } = settled;
        let knobs = self.knobs(seen.config);
        let has_waited = decided_ms - seen.begun_ms >= knobs.timeout_ms + breaker::GRACE_MS;
        let has_failed = |lookup: &Lookup| {
            let is_here = lookup.worker.is_none_or(|worker| worker == seen.request.worker);
            let is_heard = lookup
                .delivered
                .is_some_and(|span| !span.is_before(seen.begun) && !settled.decided.is_before(span));
            is_here && is_heard && lookup.meaning.is_failure() && !lookup.is_retried
        };
        let is_paused = |lookup: &Lookup| {
            lookup.delivered.is_some()
                && lookup.meaning == Meaning::Rejected
                && seen.begun_ms < lookup.ends_ms + TENANT_PAUSE_MS
        };
        has_waited
            || self.breaker.may_be_paused(seen.begun_ms)
            || self.may_be_open(knobs, seen.begun_ms, seen.request.id)
            || self
                .knowledge
                .about(tenant)
                .any(|lookup| has_failed(lookup) || is_paused(lookup))
    }

    /// Whether a lookup of this meaning may have answered a request: it waited for it, or found it
    /// remembered for so many milliseconds.
    fn may_know(&self, settled: &Settled, lookup: &Lookup, for_ms: u64, is_everywhere: bool) -> bool {
        let Settled {
            seen,
            decided,
            decided_ms,
        } = settled;
        let Some(delivered) = lookup.delivered.filter(|_| !lookup.is_lost) else {
            return false;
        };
        let is_here = is_everywhere
            || lookup
                .worker
                .is_none_or(|worker| worker == seen.request.worker && lookup.life == seen.life);
        let is_heard = !decided.is_before(delivered) && lookup.ends_ms <= *decided_ms;
        let is_remembered = seen.begun_ms < lookup.ends_ms + for_ms || !delivered.is_before(seen.begun);
        // Where tenants pass unverified, who was refused stays known as such until he is served.
        let stays = lookup.meaning.refuses() && self.knobs(seen.config).allows_unverified;
        is_here && is_heard && is_remembered && (stays || !self.knowledge.is_void(lookup, seen.begun))
    }

    /// Whether a request may have been denied since the Tenant Manager says so of its tenant.
    pub(super) fn may_be_told(&self, tenant: &str, settled: &Settled, meaning: &Meaning) -> bool {
        let knobs = self.knobs(settled.seen.config);
        let fallback_ms = if knobs.allows_unverified {
            knobs.fallback_s * 1_000
        } else {
            0
        };
        let for_ms = fallback_ms
            + match meaning {
                Meaning::Inactive => longest_ttl_ms(knobs) + knobs.stale_s * 1_000,
                _ => knobs.negative_s * 1_000,
            };
        let is_everywhere = *meaning != Meaning::Unknown;
        self.knowledge
            .about(tenant)
            .any(|lookup| lookup.meaning == *meaning && self.may_know(settled, lookup, for_ms, is_everywhere))
    }

    /// Whether a request may have been denied for what the record of its tenant says of modules and schema.
    pub(super) fn may_say(
        &self,
        tenant: &str,
        settled: &Settled,
        says: impl Fn(&[String], Option<&str>) -> bool,
    ) -> bool {
        let knobs = self.knobs(settled.seen.config);
        let is_ill = self.may_be_unavailable(tenant, settled);
        let fallback_ms = if is_ill { knobs.fallback_s * 1_000 } else { 0 };
        let for_ms = longest_ttl_ms(knobs) + knobs.stale_s * 1_000 + fallback_ms;
        self.knowledge.about(tenant).any(|lookup| {
            let is_so = matches!(&lookup.meaning, Meaning::Record(modules, schema) if says(modules, schema.as_deref()));
            is_so && self.may_know(settled, lookup, for_ms, true)
        })
    }

    /// Whether a request may have been denied since an event says so.
    pub(super) fn may_be_refused_by_event(&self, tenant: &str, settled: &Settled) -> bool {
        let Settled { seen, decided, .. } = settled;
        let knobs = self.knobs(seen.config);
        let fallback_ms = if knobs.allows_unverified {
            knobs.fallback_s * 1_000
        } else {
            0
        };
        self.knowledge.events(tenant).any(|event| {
            let is_lifted = || {
                self.knowledge.events(tenant).any(|later| {
                    (later.effect == Effect::Lift || later.tenant.is_none())
                        && event.span.is_before(later.span)
                        && later.span.is_before(seen.begun)
                })
            };
            event.effect == Effect::Refuse
                && !decided.is_before(event.span)
                && seen.begun_ms < event.at_ms + event.for_most_ms + fallback_ms
                && !is_lifted()
        })
    }

    /// Whether so many may have waited that there was no place.
    pub(super) fn may_be_overloaded(&self, tenant: &str, settled: &Settled) -> bool {
        let seen = &settled.seen;
        let knobs = self.knobs(seen.config);
        let most = usize::try_from(knobs.max_waiters).expect("a small number");
        let of_tenant = (most / 8).max(1);
        let waiting = self.waiting.get(&seen.request.worker);
        let others = || {
            waiting
                .into_iter()
                .flatten()
                .filter(|(id, _)| **id != seen.request.id)
                .map(|(_, other)| other)
        };
        let is_of_tenant = |other: &&super::Seen| self.may_name(other).as_deref() == Some(tenant);
        if others().count() >= most || others().filter(is_of_tenant).count() >= of_tenant {
            return true;
        }
        let is_under_way = |lookup: &&Lookup| {
            lookup.worker.is_none_or(|worker| worker == seen.request.worker)
                && lookup.asked_ms <= settled.decided_ms
                && seen.begun_ms < lookup.asked_ms + knobs.timeout_ms + breaker::GRACE_MS
        };
        self.knowledge.lookups.values().filter(is_under_way).count() >= most
    }
}
