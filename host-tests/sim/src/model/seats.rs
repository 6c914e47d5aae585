//! How many may wait.

use std::collections::BTreeMap;

use super::knowledge::Lookup;
use super::{Model, Seen};
use crate::fault::{Fault, Rule};

/// Most requests of a worker that wait for keys.
const KEY_SEATS: usize = 256;
/// Most lookups of a worker that are under way though no request waits for them.
const BACKGROUND_SEATS: usize = 4;

impl Model {
    /// Of those about whom it has not been decided no more wait than there are places for them.
    ///
    /// # Errors
    /// Where there are too many, of a worker or of a tenant.
    pub fn check_seats(&self) -> Result<(), Fault> {
        for (worker, waiting) in &self.waiting {
            let mut of_tenant: BTreeMap<(usize, String), usize> = BTreeMap::new();
            let mut of_config: BTreeMap<usize, usize> = BTreeMap::new();
            let mut for_keys: BTreeMap<usize, usize> = BTreeMap::new();
            for seen in waiting.values().filter(|seen| seen.life == self.lives[*worker]) {
                if seen.request.credential.is_remote() {
                    *for_keys.entry(seen.config).or_default() += 1;
                    continue;
                }
                let Some(tenant) = self.may_name(seen).filter(|tenant| !self.may_be_woken(tenant, seen)) else {
                    continue;
                };
                *of_config.entry(seen.config).or_default() += 1;
                *of_tenant.entry((seen.config, tenant)).or_default() += 1;
            }
            let most = |config: usize| usize::try_from(self.knobs(config).max_waiters).expect("a small number");
            for (config, many) in of_config {
                check(*worker, "requests", many, most(config))?;
            }
            for ((config, tenant), many) in of_tenant {
                check(
                    *worker,
                    &format!("requests of `{tenant}`"),
                    many,
                    (most(config) / 8).max(1),
                )?;
            }
            for (config, many) in for_keys {
                let for_tenants = if self.has_keys(*worker) { most(config) } else { 0 };
                check(
                    *worker,
                    "requests whose keys are fetched",
                    many,
                    KEY_SEATS + for_tenants,
                )?;
            }
        }
        Ok(())
    }

    /// Whether a set of keys has ever come to this VM.
    fn has_keys(&self, worker: usize) -> bool {
        let fetches = self.knowledge.fetches.get(&worker).into_iter().flatten();
        fetches
            .filter(|fetch| fetch.life == self.lives[worker])
            .any(|fetch| fetch.set.is_some() && fetch.delivered.is_some())
    }

    /// A worker begins to ask about a tenant. Those about whom nobody has asked it yet it asks in turn.
    ///
    /// # Errors
    /// Where it asks about too many of them at once.
    pub(super) fn check_background(&self, new: &Lookup) -> Result<(), Fault> {
        if self.named.contains(&new.tenant) || self.has_updated() {
            return Ok(());
        }
        let is_unasked = |other: &&Lookup| {
            let is_under_way = other.delivered.is_none() && !other.is_lost && other.ends_ms > new.asked_ms;
            let is_same_vm = other.worker == new.worker && other.life == new.life;
            is_under_way && is_same_vm && !self.named.contains(&other.tenant)
        };
        let many = self.knowledge.lookups.values().filter(is_unasked).count() + 1;
        if many <= BACKGROUND_SEATS {
            return Ok(());
        }
        Rule::Calls.broken(format!(
            "worker {} asks about {many} tenants at once, about whom nobody has asked it: {BACKGROUND_SEATS} at most",
            new.worker.unwrap_or_default()
        ))
    }

    /// Whether somebody has been told something since he came, so that he may be about to go on.
    fn may_be_woken(&self, tenant: &str, seen: &Seen) -> bool {
        let is_since = |span: crate::ledger::Span| !span.is_before(seen.begun);
        self.knowledge
            .about(tenant)
            .any(|lookup| lookup.delivered.is_some_and(is_since))
            || self.knowledge.events(tenant).any(|event| is_since(event.span))
    }
}

fn check(worker: usize, who: &str, many: usize, most: usize) -> Result<(), Fault> {
    if many <= most {
        return Ok(());
    }
    Rule::Bounds.broken(format!(
        "{many} {who} wait on worker {worker}, where there are {most} places"
    ))
}
