//! How many may wait.

use std::collections::BTreeMap;

use super::{Model, Seen};
use crate::fault::{Fault, Rule};

/// Most requests of a worker that wait for keys.
const KEY_SEATS: usize = 256;

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
                check(
                    *worker,
                    "requests whose keys are fetched",
                    many,
                    KEY_SEATS + most(config),
                )?;
            }
        }
        Ok(())
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
