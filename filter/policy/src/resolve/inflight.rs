//! Lookups under way: one per tenant and worker, however many requests wait.

use std::collections::HashMap;

use super::lookup;
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
    /// When it is over, answered or not (monotonic milliseconds).
    pub(super) ends_ms: u64,
    waiters: Seats,
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

/// How a request gets to wait.
#[derive(Debug)]
pub(super) enum Joined {
    /// A lookup is under way already.
    Following(LookupSeat),
    /// This one begins it.
    Leading(LookupSeat),
    /// Too many wait.
    Overloaded,
}

/// The lookups of one worker.
#[derive(Debug)]
pub(super) struct Inflight {
    by_tenant: HashMap<TenantId, LookupId>,
    lookups: HashMap<LookupId, Lookup>,
    waiting: Seats,
    max_waiters: usize,
    next: u64,
}

impl Inflight {
    pub(super) fn new(max_waiters: usize) -> Self {
        Self {
            by_tenant: HashMap::new(),
            lookups: HashMap::new(),
            waiting: Seats::new(max_waiters),
            max_waiters,
            next: 0,
        }
    }

    /// A seat at the lookup of `tenant`. At most `max_waiters` wait, at most an eighth of them
    /// (and at least one) for the same tenant; at most `max_waiters` lookups are under way, also
    /// when nobody waits for them any more. A lookup past its end is not joined any more: its
    /// answer got lost with whatever should have brought it.
    pub(super) fn join(
        &mut self,
        tenant: &TenantId,
        traceparent: impl FnOnce() -> Option<String>,
        now_ms: u64,
        ends_ms: u64,
    ) -> Joined {
        let Some(everywhere) = self.waiting.take() else {
            return Joined::Overloaded;
        };
        if let Some(id) = self.by_tenant.get(tenant).copied() {
            match self.lookups.get(&id) {
                Some(lookup) if now_ms < lookup.ends_ms => {
                    return match lookup.waiters.take() {
                        Some(here) => Joined::Following(LookupSeat {
                            lookup: id,
                            _here: here,
                            _everywhere: everywhere,
                        }),
                        None => Joined::Overloaded,
                    };
                }
                _ => {
                    self.finish(id);
                }
            }
        }
        if self.lookups.len() >= self.max_waiters {
            return Joined::Overloaded;
        }
        let id = LookupId(self.next);
        self.next = self.next.wrapping_add(1);
        let waiters = Seats::new((self.max_waiters / 8).max(1));
        let Some(here) = waiters.take() else {
            return Joined::Overloaded;
        };
        let seat = LookupSeat {
            lookup: id,
            _here: here,
            _everywhere: everywhere,
        };
        let lookup = Lookup {
            tenant: tenant.clone(),
            traceparent: traceparent(),
            attempts: 0,
            key: 0,
            ends_ms,
            waiters,
        };
        self.lookups.insert(id, lookup);
        self.by_tenant.insert(tenant.clone(), id);
        Joined::Leading(seat)
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

    fn join(inflight: &mut Inflight, name: &str) -> Joined {
        inflight.join(&tenant(name), || None, 0, 1_000)
    }

    #[test]
    fn the_first_leads_and_the_others_follow() {
        let mut inflight = Inflight::new(64);
        let Joined::Leading(first) = join(&mut inflight, "a") else {
            panic!("the first leads")
        };
        let Joined::Following(second) = join(&mut inflight, "a") else {
            panic!("the second follows")
        };
        assert_eq!(first.lookup(), second.lookup());
        drop(first);
        let Joined::Following(_third) = join(&mut inflight, "a") else {
            panic!("the leader's leaving changes nothing")
        };
        assert!(inflight.finish(second.lookup()).is_some());
        assert!(matches!(join(&mut inflight, "a"), Joined::Leading(_)));
    }

    #[test]
    fn seats_are_bounded_in_all_and_per_tenant_and_are_freed() {
        let mut inflight = Inflight::new(16);
        let seats: Vec<Joined> = (0..2).map(|_| join(&mut inflight, "a")).collect();
        assert!(
            matches!(join(&mut inflight, "a"), Joined::Overloaded),
            "an eighth per tenant"
        );
        let others: Vec<Joined> = (0..14).map(|n| join(&mut inflight, &format!("t{n}"))).collect();
        assert!(matches!(join(&mut inflight, "b"), Joined::Overloaded), "all of them");
        drop(seats);
        assert!(matches!(join(&mut inflight, "b"), Joined::Leading(_)));
        drop(others);
        assert_eq!(inflight.waiting.taken(), 0);
    }

    #[test]
    fn lookups_that_nobody_waits_for_any_more_are_bounded_too() {
        let mut inflight = Inflight::new(4);
        for n in 0..4 {
            assert!(matches!(join(&mut inflight, &format!("t{n}")), Joined::Leading(_)));
        }
        assert_eq!(inflight.waiting.taken(), 0, "all of them have left");
        assert!(matches!(join(&mut inflight, "t4"), Joined::Overloaded));
        assert!(matches!(join(&mut inflight, "t0"), Joined::Following(_)));
        inflight.sweep(1_000);
        assert!(matches!(join(&mut inflight, "t4"), Joined::Leading(_)));
    }

    #[test]
    fn a_lookup_past_its_end_is_begun_anew() {
        let mut inflight = Inflight::new(64);
        let Joined::Leading(lost) = join(&mut inflight, "a") else {
            panic!("leads")
        };
        let Joined::Leading(anew) = inflight.join(&tenant("a"), || None, 1_000, 2_000) else {
            panic!("leads again")
        };
        assert_ne!(lost.lookup(), anew.lookup());
        assert!(inflight.finish(lost.lookup()).is_none(), "the lost one is forgotten");
        assert!(matches!(
            inflight.join(&tenant("a"), || None, 1_001, 2_001),
            Joined::Following(_)
        ));
    }
}
