//! What is stale is asked about anew.

use super::breaker::GRACE_MS;
use super::calls::FEW_SLOTS;
use super::evidence::longest_ttl_ms;
use super::knowledge::Lookup;
use super::{Model, Settled};
use crate::fault::{Fault, Rule};

/// How long a worker that has found the lease taken leaves it at that, and to spare.
const LOOKS_AGAIN_MS: u64 = 100;

/// A question that whoever has used a stale record is to ask.
#[derive(Debug)]
pub(super) struct Owed {
    tenant: String,
    worker: usize,
    life: u32,
    since_ms: u64,
    request: u32,
    learned_ms: u64,
}

impl Model {
    /// What a request that was forwarded by a record of this age brings about, unless somebody has just asked
    /// or nobody may.
    pub(super) fn owed(&self, settled: &Settled, used: &Lookup, age_ms: u64) -> Option<Owed> {
        let Settled { seen, decided_ms, .. } = settled;
        let knobs = self.knobs(seen.config);
        // A lease ends with the time of the call, whether its holder lives or not, and whether he could ask or not.
        let lease_ms = knobs.timeout_ms + GRACE_MS + LOOKS_AGAIN_MS;
        let since_ms = decided_ms.saturating_sub(lease_ms);
        let is_asked = |other: &Lookup| other.call != used.call && *decided_ms < other.asked_ms + lease_ms;
        // Whoever has taken the lease may have died before he could ask.
        let is_leased = self.stale.iter().any(|owed| owed.tenant == used.tenant)
            || self
                .lost_leases
                .iter()
                .any(|(of, since_ms)| *of == used.tenant && *decided_ms < since_ms + lease_ms);
        let is_excused = is_leased
            || age_ms <= longest_ttl_ms(knobs)
            || seen.is_in_burst
            || self.has_updated()
            || knobs.shared_slots < FEW_SLOTS
            || self.knowledge.about(&used.tenant).any(is_asked)
            || self.may_be_unavailable(&used.tenant, settled)
            || self.may_be_overloaded(&used.tenant, settled)
            || self.breaker.may_be_paused(since_ms)
            || self.may_be_open(knobs, since_ms, seen.request.id);
        (!is_excused).then(|| Owed {
            tenant: used.tenant.clone(),
            worker: seen.request.worker,
            life: seen.life,
            since_ms: *decided_ms,
            request: seen.request.id,
            learned_ms: used.ends_ms,
        })
    }

    /// A question about a tenant goes out.
    pub(super) fn asks_about(&mut self, tenant: &str) {
        self.stale.retain(|owed| owed.tenant != tenant);
    }

    /// Whatever was due at `now_ms` has been done: what was owed before has been asked.
    ///
    /// # Errors
    /// Where it has not.
    pub fn check_refreshed(&mut self, now_ms: u64) -> Result<(), Fault> {
        let (alive, dead) = std::mem::take(&mut self.stale)
            .into_iter()
            .partition(|owed| self.lives[owed.worker] == owed.life);
        self.stale = alive;
        let dead: Vec<Owed> = dead;
        self.lost_leases
            .extend(dead.into_iter().map(|owed| (owed.tenant, owed.since_ms)));
        match self.stale.iter().find(|owed| owed.since_ms < now_ms) {
            Some(owed) => Rule::Decision.broken(format!(
                "request {} of `{}` was forwarded at {} ms by a stale record of {} ms, and nobody asks anew",
                owed.request, owed.tenant, owed.since_ms, owed.learned_ms
            )),
            None => Ok(()),
        }
    }
}
