//! Which tenants have a label of their own in the statistics: the first so many that the node serves.
//! Statistics are never freed by the host, so a label that is given is given for good.

use crate::cell::{self, Change};
use crate::node::Node;
use crate::telemetry::{Counter, Decision};
use crate::tenant_id::TenantId;

/// Where the node keeps the tenants that have a label.
const KEY: &str = "tenantgate.labels";
/// What stands for all others.
const AGGREGATE: &str = "aggregate";
/// How often a worker looks, on behalf of refused requests, whether others have given labels.
const LOOK_MS: u64 = 1_000;
/// How often a write is tried.
const ATTEMPTS: usize = 64;

/// The labels as one worker knows them.
#[derive(Debug)]
pub(crate) struct Labels {
    max: usize,
    /// Ordered.
    known: Vec<Box<str>>,
    /// Whether there are as many as there may be.
    is_full: bool,
    /// When it is worth a look whether other workers have given labels.
    next_look_ms: u64,
}

impl Labels {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            known: Vec::new(),
            is_full: false,
            next_look_ms: 0,
        }
    }

    /// Counts a request whose tenant is proven. Only one that the filter has let in may bring a new
    /// label about: a caller must not use them up with tenants that there are not.
    pub(crate) fn count(&mut self, tenant: &TenantId, decision: Decision, node: &impl Node) {
        let tenant = tenant.as_str();
        // One that is called like what stands for all others has no other label anyway.
        let is_known = tenant == AGGREGATE || place(&self.known, tenant).is_ok() || self.learn(tenant, decision, node);
        if is_known {
            node.count_tenant(tenant, decision);
        } else {
            if decision == Decision::Allowed {
                node.count(Counter::TenantLabelsAggregated);
            }
            node.count_tenant(AGGREGATE, decision);
        }
    }

    /// Hears of the labels that there are, and gives a tenant that was let in one of its own, unless there
    /// are enough. Gives whether it has one.
    fn learn(&mut self, tenant: &str, decision: Decision, node: &impl Node) -> bool {
        let is_let_in = decision == Decision::Allowed;
        let now_ms = node.monotonic_ms();
        // Refused requests may be many, and the list is long.
        if self.is_full || (!is_let_in && now_ms < self.next_look_ms) {
            return false;
        }
        self.next_look_ms = now_ms.saturating_add(LOOK_MS);
        let max = self.max;
        let learned = cell::update(KEY, ATTEMPTS, node, |stored| {
            let mut labels: Vec<Box<str>> = postcard::from_bytes(&stored.value).unwrap_or_default();
            match place(&labels, tenant) {
                Err(place) if is_let_in && labels.len() < max => {
                    labels.insert(place, tenant.into());
                    Change::To(postcard::to_extend(&labels, Vec::new()).unwrap_or_default(), labels)
                }
                Ok(_) | Err(_) => Change::None(labels),
            }
        });
        let Ok(labels) = learned else {
            // Where nothing can be shared nobody can tell how many there are.
            return false;
        };
        self.is_full = labels.len() >= max;
        self.known = labels;
        place(&self.known, tenant).is_ok()
    }
}

/// Where a tenant stands, or would stand, among the labels.
fn place(labels: &[Box<str>], tenant: &str) -> Result<usize, usize> {
    labels.binary_search_by(|label| (**label).cmp(tenant))
}

#[cfg(test)]
mod tests;
