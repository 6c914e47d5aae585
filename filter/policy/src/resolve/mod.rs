//! Stage 4: what is known about the tenant? From the worker's cache, or from the Tenant Manager.
//!
//! Rules in the order they are applied:
//!
//! 1. A fresh outcome in the worker's cache answers at once ([`local`]).
//! 2. Otherwise the request waits for the one lookup of this tenant and worker ([`inflight`]);
//!    the first to wait begins it, and it outlives every request that waits. Beyond
//!    `max_waiters` requests, or an eighth of them for one tenant: 503
//!    `TENANT_LOOKUP_OVERLOADED`.
//! 3. The Tenant Manager is asked with the API key that worked last; a 401 is asked again once
//!    with the other one. `timeout_ms` covers both ([`lookup`]).
//! 4. An outcome is cached, a failure is not. Whoever waited gets what was learned; who has
//!    waited for `timeout_ms` + 500 ms gets 503 `TENANT_MANAGER_UNAVAILABLE`.

mod inflight;
mod local;
mod lookup;
mod record;

use std::collections::HashMap;
use std::rc::Rc;

pub use inflight::LookupId;
pub use lookup::Outcome;
pub use record::{Isolation, Record};

use crate::config::{Config, TenantManager};
use crate::denial::Denial;
use crate::errand::{Answer, Answered, Awaited, Callout, Errand, GRACE_MS, Learned, deadline_ms};
use crate::node::{Node, Now};
use crate::remark::Remark;
use crate::telemetry::{Counter, Gauge, LookupFailure};
use crate::tenant_id::TenantId;
use inflight::{Inflight, Joined, LookupSeat};
use local::Local;

/// How often the log hears of lookups that go on failing.
const COMPLAINT_MS: u64 = 60_000;
/// How often expired entries are swept out of the cache.
const SWEEP_MS: u64 = 10_000;

/// The state of this stage, per worker.
#[derive(Debug)]
pub(crate) struct Resolver {
    local: Local,
    inflight: Inflight,
    /// The place of the API key that was accepted last.
    preferred_key: usize,
    /// Until when a kind of failure is not complained about again.
    quiet_until_ms: HashMap<LookupFailure, u64>,
    next_sweep_ms: Option<u64>,
}

/// What stage 4 makes of a request.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// It is known.
    Known(Rc<Outcome>),
    /// It must wait.
    Wait(Wait),
}

/// A wait for a lookup.
#[derive(Debug)]
pub(crate) struct Wait {
    seat: LookupSeat,
    /// The lookup that must be started for it.
    pub(crate) begins: Option<Errand>,
    /// When the request is answered by itself, in monotonic milliseconds.
    pub(crate) deadline_ms: u64,
}

impl Wait {
    pub(crate) fn awaits(&self) -> Awaited {
        Awaited::Lookup(self.seat.lookup())
    }
}

impl Resolver {
    pub(crate) fn new(manager: &TenantManager) -> Self {
        Self {
            local: Local::new(manager.cache),
            inflight: Inflight::new(manager.max_waiters),
            preferred_key: 0,
            quiet_until_ms: HashMap::new(),
            next_sweep_ms: None,
        }
    }

    pub(crate) fn resolve(
        &mut self,
        manager: &TenantManager,
        tenant: &TenantId,
        traceparent: impl FnOnce() -> Option<String>,
        now: Now,
        node: &impl Node,
    ) -> Result<Resolution, Denial> {
        let now_ms = now.monotonic_ms;
        if let Some(outcome) = self.with_local(node, |local| local.lookup(tenant, now_ms)) {
            return Ok(Resolution::Known(outcome));
        }
        let deadline_ms = deadline_ms(now_ms, manager.timeout_ms);
        let (seat, begins) = match self.inflight.join(tenant, traceparent, now_ms, deadline_ms) {
            Joined::Following(seat) => (seat, None),
            Joined::Leading(seat) => {
                self.next_sweep_ms.get_or_insert(now_ms.saturating_add(SWEEP_MS));
                let begins = Errand::Lookup(seat.lookup());
                (seat, Some(begins))
            }
            Joined::Overloaded => {
                node.count(Counter::LookupsOverloaded);
                return Err(Denial::LookupOverloaded);
            }
        };
        Ok(Resolution::Wait(Wait {
            seat,
            begins,
            deadline_ms,
        }))
    }

    /// The first call of a lookup; `None` when the lookup is over or was started before.
    pub(crate) fn question(&mut self, config: &Config, id: LookupId) -> Option<Callout> {
        let manager = config.tenant_manager.as_ref()?;
        let lookup = self.inflight.find(id).filter(|lookup| lookup.attempts == 0)?;
        Some(lookup.ask(config, manager, self.preferred_key, manager.timeout_ms))
    }

    /// Takes an answer in. Gives the outcome for whoever waits, or the next call to make.
    pub(crate) fn answered(&mut self, config: &Config, id: LookupId, answer: Answer<'_>, node: &impl Node) -> Answered {
        let Some(manager) = config.tenant_manager.as_ref() else {
            return Answered::FORGOTTEN;
        };
        let now_ms = node.monotonic_ms();
        if let Some(callout) = self.other_key(config, manager, id, answer, now_ms) {
            return Answered::Again(callout);
        }
        let Some(lookup) = self.inflight.finish(id) else {
            return Answered::FORGOTTEN;
        };
        let result = lookup::outcome(answer, &lookup.tenant, config);
        let remarks = self
            .complaint(result.as_ref().err().copied(), now_ms)
            .into_iter()
            .collect();
        let outcome = Rc::new(match result {
            Ok(outcome) => {
                self.preferred_key = lookup.key;
                outcome
            }
            Err(failure) => {
                node.count(Counter::TenantConnectionErrors(failure));
                Outcome::Unavailable(failure)
            }
        });
        if matches!(*outcome, Outcome::Found(_)) {
            node.count(Counter::TenantConnections);
        }
        self.with_local(node, |local| {
            local.insert(lookup.tenant, Rc::clone(&outcome), now_ms);
        });
        Answered::Over {
            news: Some((Awaited::Lookup(id), Learned::Outcome(outcome))),
            remarks,
        }
    }

    /// A failure that the log should hear of: each kind at most once a minute.
    fn complaint(&mut self, failure: Option<LookupFailure>, now_ms: u64) -> Option<Remark> {
        let failure = failure?;
        let quiet_until_ms = self.quiet_until_ms.entry(failure).or_default();
        if now_ms < *quiet_until_ms {
            return None;
        }
        *quiet_until_ms = now_ms.saturating_add(COMPLAINT_MS);
        Some(Remark::LookupsFail(failure))
    }

    /// After the first 401, the call with the other API key in what is left of the time.
    fn other_key(
        &mut self,
        config: &Config,
        manager: &TenantManager,
        id: LookupId,
        answer: Answer<'_>,
        now_ms: u64,
    ) -> Option<Callout> {
        if !matches!(answer, Answer::Http { status: 401, .. }) {
            return None;
        }
        let lookup = self
            .inflight
            .find(id)
            .filter(|lookup| lookup.attempts < manager.api_keys.len())?;
        let left_ms = lookup.ends_ms.saturating_sub(GRACE_MS).saturating_sub(now_ms);
        let timeout_ms = u32::try_from(left_ms).ok().filter(|left| *left > 0)?;
        let other = if lookup.key == 0 { 1 } else { 0 };
        Some(lookup.ask(config, manager, other, timeout_ms))
    }

    /// Does what is due by time alone.
    pub(crate) fn tick(&mut self, node: &impl Node) {
        let now_ms = node.monotonic_ms();
        if self.next_sweep_ms.is_some_and(|due| due <= now_ms) {
            self.with_local(node, |local| local.sweep(now_ms));
            self.inflight.sweep(now_ms);
            let idle = self.local.is_empty() && self.inflight.is_empty();
            self.next_sweep_ms = (!idle).then(|| now_ms.saturating_add(SWEEP_MS));
        }
    }

    /// When [`Resolver::tick`] has something to do, in monotonic milliseconds.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.next_sweep_ms
    }

    /// Takes the records of this cache out of the gauge, before they go.
    pub(crate) fn close(&mut self, node: &impl Node) {
        self.with_local(node, Local::clear);
    }

    /// Works on the cache and moves the gauge by what that changed.
    fn with_local<T>(&mut self, node: &impl Node, work: impl FnOnce(&mut Local) -> T) -> T {
        let before = self.local.records();
        let evicted = self.local.evictions();
        let result = work(&mut self.local);
        if self.local.evictions() != evicted {
            node.count(Counter::CacheEvictions);
        }
        let change = self.local.records().saturating_sub(before);
        if change != 0 {
            node.adjust(Gauge::TenantConsumersActive, change);
        }
        result
    }
}

#[cfg(test)]
mod tests;
