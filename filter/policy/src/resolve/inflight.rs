//! Lookups under way: one per tenant and worker, however many requests wait.

use std::collections::HashMap;

use super::breaker::Permit;
use super::lookup;
use super::shared::Stamp;
use crate::config::{Config, TenantManager};
use crate::errand::Callout;
use crate::seats::{Seat, Seats};
use crate::tenant_id::TenantId;

/// Names one lookup of this worker. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookupId(u64);

impl LookupId {
    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// A place among the waiting requests. Dropping it frees the place, however the wait ends.
#[derive(Debug)]
pub(crate) struct LookupSeat {
    lookup: LookupId,
    _here: Seat,
    _everywhere: Seat,
}

impl LookupSeat {
    /// The lookup that is waited for.
    pub(crate) fn lookup(&self) -> LookupId {
        self.lookup
    }
}

/// A lookup under way.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) tenant: TenantId,
    pub(super) traceparent: Option<String>,
    /// The API keys tried so far, the last of them being `key`.
    pub(super) attempts: usize,
    /// The place of the API key that was tried last.
    pub(super) key: usize,
    /// When it was begun (monotonic milliseconds).
    pub(super) begun_ms: u64,
    /// When it is over, answered or not.
    pub(super) ends_ms: u64,
    /// What the node knew of the tenant when it was begun; `None` where the node cannot be asked.
    pub(super) stamp: Option<Stamp>,
    /// As what it was let through.
    pub(super) permit: Permit,
    waiters: Seats,
}

/// What a lookup begins with.
#[derive(Debug)]
pub(super) struct Start {
    /// The API key to try first, by its place.
    pub(super) key: usize,
    pub(super) stamp: Option<Stamp>,
    pub(super) permit: Permit,
    pub(super) now_ms: u64,
    pub(super) ends_ms: u64,
}

impl Lookup {
    /// Notes an attempt and gives its call.
    pub(super) fn ask(&mut self, config: &Config, manager: &TenantManager, key: usize, timeout_ms: u32) -> Callout {
        self.attempts = self.attempts.saturating_add(1);
        self.key = key;
        lookup::question(
            manager,
            &config.service,
            &self.tenant,
            key,
            self.traceparent.as_deref(),
            timeout_ms,
        )
    }
}

/// There is no place to wait, or for another lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overloaded;

/// The lookups of a worker.
#[derive(Debug)]
pub(super) struct Inflight {
    lookups: HashMap<LookupId, Lookup>,
    by_tenant: HashMap<TenantId, LookupId>,
    waiting: Seats,
    max_waiters: usize,
    next: u64,
}

impl Inflight {
    pub(super) fn new(max_waiters: usize) -> Self {
        Self {
            lookups: HashMap::new(),
            by_tenant: HashMap::new(),
            waiting: Seats::new(max_waiters),
            max_waiters,
            next: 0,
        }
    }

    /// The lookup of `tenant` that is under way. One past its end is not joined any more: its answer
    /// got lost with whatever should have brought it.
    pub(super) fn of(&mut self, tenant: &TenantId, now_ms: u64) -> Option<LookupId> {
        let id = self.by_tenant.get(tenant).copied()?;
        match self.lookups.get(&id) {
            Some(lookup) if now_ms < lookup.ends_ms => Some(id),
            _ => {
                self.finish(id);
                None
            }
        }
    }

    /// Whether another lookup may be begun: at most `max_waiters` are under way, also when nobody
    /// waits for them any more.
    pub(super) fn has_room(&self) -> bool {
        self.lookups.len() < self.max_waiters && self.waiting.are_left()
    }

    /// Begins a lookup. The caller has seen that there is none of the tenant, and room for one.
    pub(super) fn begin(&mut self, tenant: &TenantId, start: Start) -> LookupId {
        let id = LookupId(self.next);
        self.next = self.next.wrapping_add(1);
        let lookup = Lookup {
            tenant: tenant.clone(),
            traceparent: None,
            attempts: 0,
            key: start.key,
            begun_ms: start.now_ms,
            ends_ms: start.ends_ms,
            stamp: start.stamp,
            permit: start.permit,
            waiters: Seats::new((self.max_waiters / 8).max(1)),
        };
        self.lookups.insert(id, lookup);
        self.by_tenant.insert(tenant.clone(), id);
        id
    }

    /// A seat at a lookup. At most `max_waiters` requests wait, at most an eighth of them (and at
    /// least one) for the same tenant.
    pub(super) fn join(&self, id: LookupId) -> Result<LookupSeat, Overloaded> {
        let everywhere = self.waiting.take().ok_or(Overloaded)?;
        let here = self.lookups.get(&id).and_then(|lookup| lookup.waiters.take());
        Ok(LookupSeat {
            lookup: id,
            _here: here.ok_or(Overloaded)?,
            _everywhere: everywhere,
        })
    }

    /// Forgets lookups past their end: whatever should have brought the answer is gone.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        self.lookups.retain(|_, lookup| now_ms < lookup.ends_ms);
        self.by_tenant.retain(|_, id| self.lookups.contains_key(id));
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.lookups.is_empty()
    }

    pub(super) fn find(&mut self, id: LookupId) -> Option<&mut Lookup> {
        self.lookups.get_mut(&id)
    }

    /// Ends a lookup; the next request for its tenant begins a new one.
    pub(super) fn finish(&mut self, id: LookupId) -> Option<Lookup> {
        let lookup = self.lookups.remove(&id)?;
        if self.by_tenant.get(&lookup.tenant) == Some(&id) {
            self.by_tenant.remove(&lookup.tenant);
        }
        Some(lookup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name, false).unwrap()
    }

    fn start(now_ms: u64) -> Start {
        Start {
            key: 0,
            stamp: None,
            permit: Permit::Ordinary(0),
            now_ms,
            ends_ms: now_ms + 1_000,
        }
    }

    /// A seat at the lookup of a tenant, begun where there is none.
    fn join(inflight: &mut Inflight, name: &str) -> Result<LookupSeat, Overloaded> {
        let id = match inflight.of(&tenant(name), 0) {
            Some(id) => id,
            None if inflight.has_room() => inflight.begin(&tenant(name), start(0)),
            None => return Err(Overloaded),
        };
        inflight.join(id)
    }

    #[test]
    fn a_lookup_outlives_whoever_began_it() {
        let mut inflight = Inflight::new(64);
        let first = join(&mut inflight, "a").unwrap();
        let second = join(&mut inflight, "a").unwrap();
        assert_eq!(first.lookup(), second.lookup());
        drop(first);
        assert_eq!(join(&mut inflight, "a").unwrap().lookup(), second.lookup());
        assert!(inflight.finish(second.lookup()).is_some());
        assert_ne!(join(&mut inflight, "a").unwrap().lookup(), second.lookup());
    }

    #[test]
    fn seats_are_bounded_in_all_and_per_tenant_and_are_freed() {
        let mut inflight = Inflight::new(16);
        let seats: Vec<_> = (0..2).map(|_| join(&mut inflight, "a").unwrap()).collect();
        assert!(join(&mut inflight, "a").is_err(), "an eighth per tenant");
        let others: Vec<_> = (0..14)
            .map(|n| join(&mut inflight, &format!("t{n}")).unwrap())
            .collect();
        assert!(join(&mut inflight, "b").is_err(), "all of them");
        drop(seats);
        assert!(join(&mut inflight, "b").is_ok());
        drop(others);
        assert_eq!(inflight.waiting.taken(), 0);
    }

    #[test]
    fn lookups_that_nobody_waits_for_any_more_are_bounded_too() {
        let mut inflight = Inflight::new(4);
        for n in 0..4 {
            assert!(join(&mut inflight, &format!("t{n}")).is_ok());
        }
        assert_eq!(inflight.waiting.taken(), 0, "all of them have left");
        assert!(join(&mut inflight, "t4").is_err());
        assert!(join(&mut inflight, "t0").is_ok());
        inflight.sweep(1_000);
        assert!(join(&mut inflight, "t4").is_ok());
    }

    #[test]
    fn a_lookup_past_its_end_is_not_joined() {
        let mut inflight = Inflight::new(64);
        let lost = inflight.begin(&tenant("a"), start(0));
        assert_eq!(inflight.of(&tenant("a"), 999), Some(lost));
        assert_eq!(inflight.of(&tenant("a"), 1_000), None);
        let anew = inflight.begin(&tenant("a"), start(1_000));
        assert_ne!(lost, anew);
        assert!(inflight.finish(lost).is_none(), "the lost one is forgotten");
        assert_eq!(inflight.of(&tenant("a"), 1_001), Some(anew));
    }
}
