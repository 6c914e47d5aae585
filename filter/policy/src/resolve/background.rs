//! Lookups that nobody waits for: refreshes, and what events and the list of active tenants ask for.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::Resolver;
use super::freshness::Age;
use super::inflight::LookupId;
use crate::config::TenantManager;
use crate::errand::Errand;
use crate::node::Node;
use crate::tenant_id::TenantId;

/// How many of the queued ones are under way at once.
const AT_ONCE: usize = 4;

/// The background work of one worker.
#[derive(Debug)]
pub(super) struct Background {
    /// What is to be started by the shell.
    errands: Vec<Errand>,
    queue: VecDeque<TenantId>,
    queued: HashSet<TenantId>,
    under_way: BTreeSet<LookupId>,
    max_queued: usize,
}

impl Background {
    /// Nothing to do. At most `max_queued` tenants wait for their turn; what is beyond is looked up
    /// when it is asked for.
    pub(super) fn new(max_queued: u32) -> Self {
        Self {
            errands: Vec::new(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
            under_way: BTreeSet::new(),
            max_queued: usize::try_from(max_queued).unwrap_or(usize::MAX),
        }
    }

    /// Has an errand started at once.
    pub(super) fn start(&mut self, errand: Errand) {
        self.errands.push(errand);
    }

    /// Has a tenant looked up in its turn.
    pub(super) fn push(&mut self, tenant: TenantId) {
        if self.queue.len() < self.max_queued && self.queued.insert(tenant.clone()) {
            self.queue.push_back(tenant);
        }
    }

    /// Notes that a lookup is over.
    pub(super) fn over(&mut self, id: LookupId) {
        self.under_way.remove(&id);
    }

    /// Forgets lookups that got lost.
    pub(super) fn keep(&mut self, mut is_under_way: impl FnMut(LookupId) -> bool) {
        self.under_way.retain(|id| is_under_way(*id));
    }

    pub(super) fn take(&mut self) -> Vec<Errand> {
        std::mem::take(&mut self.errands)
    }

    fn next(&mut self) -> Option<TenantId> {
        if self.under_way.len() >= AT_ONCE {
            return None;
        }
        let tenant = self.queue.pop_front()?;
        self.queued.remove(&tenant);
        Some(tenant)
    }

    /// Forgets what waits for its turn.
    fn clear(&mut self) {
        self.queue.clear();
        self.queued.clear();
    }
}

impl Resolver {
    /// Begins queued lookups as far as they may be under way at once. What the node knows already is
    /// passed over; when the Tenant Manager may not be asked, the queue is dropped: requests will ask.
    pub(super) fn pump(&mut self, manager: &TenantManager, now_ms: u64, node: &impl Node) {
        while let Some(tenant) = self.background.next() {
            if self.inflight.of(&tenant, now_ms).is_some() {
                continue;
            }
            let view = self.view(&tenant, now_ms, node);
            let is_known = view.as_ref().is_some_and(|view| {
                let is_fresh = |entry: &super::Entry| entry.verdict.is_some() && entry.times.age(now_ms) == Age::Fresh;
                view.order.is_some() || view.answer.as_ref().is_some_and(is_fresh)
            });
            if is_known {
                continue;
            }
            match self.begin(manager, &tenant, view.as_ref(), now_ms, node) {
                Ok(id) => {
                    self.background.under_way.insert(id);
                    self.background.start(Errand::Lookup(id));
                }
                Err(_) => self.background.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
