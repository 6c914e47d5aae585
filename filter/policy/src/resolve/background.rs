//! Lookups that nobody waits for: refreshes, and what events and the list of active tenants ask for.

use std::collections::{HashSet, VecDeque};

use super::Resolver;
use super::freshness::Age;
use super::inflight::LookupId;
use super::set::Entry;
use crate::config::TenantManager;
use crate::errand::Errand;
use crate::node::Node;
use crate::telemetry::Counter;
use crate::tenant_id::TenantId;

/// How many of the queued ones are under way at once.
const AT_ONCE: usize = 4;
/// How many of them are looked at in one callback.
const LOOKED_AT_ONCE: usize = 64;
/// How soon the next ones are looked at when none is under way.
const PAUSE_MS: u64 = 10;

/// The background work of one worker.
#[derive(Debug)]
pub(super) struct Background {
    /// What is to be started by the shell.
    errands: Vec<Errand>,
    queue: VecDeque<TenantId>,
    queued: HashSet<TenantId>,
    /// At most [`AT_ONCE`].
    under_way: Vec<LookupId>,
    /// When the queue is looked at again by itself.
    goes_on_ms: Option<u64>,
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
            under_way: Vec::new(),
            goes_on_ms: None,
            max_queued: usize::try_from(max_queued).unwrap_or(usize::MAX),
        }
    }

    /// Has an errand started at once.
    pub(super) fn start(&mut self, errand: Errand) {
        self.errands.push(errand);
    }

    /// Has a tenant looked up in its turn. Gives whether there was room for it.
    pub(super) fn push(&mut self, tenant: TenantId) -> bool {
        if self.queued.contains(&tenant) {
            return true;
        }
        if self.queue.len() >= self.max_queued {
            return false;
        }
        self.queued.insert(tenant.clone());
        self.queue.push_back(tenant);
        true
    }

    /// When the queue is looked at again by itself, in monotonic milliseconds.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.goes_on_ms
    }

    /// Notes that a lookup is over.
    pub(super) fn over(&mut self, id: LookupId) {
        self.under_way.retain(|other| *other != id);
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

    /// Forgets what waits for its turn, and says how much that was.
    fn clear(&mut self) -> usize {
        self.queued.clear();
        std::mem::take(&mut self.queue).len()
    }
}

impl Resolver {
    /// Has a tenant looked up in its turn.
    pub(super) fn look_up_later(&mut self, tenant: TenantId, node: &impl Node) {
        if !self.background.push(tenant) {
            node.count(Counter::BackgroundDropped);
        }
    }

    /// Begins queued lookups as far as they may be under way at once. Passed over is what the node knows
    /// already, what has no room in its table, and a tenant that may not be asked about; when nobody may
    /// be asked, the queue is dropped: requests will ask.
    pub(super) fn pump(&mut self, manager: &TenantManager, now_ms: u64, node: &impl Node) {
        self.background.goes_on_ms = None;
        for _ in 0..LOOKED_AT_ONCE {
            let Some(tenant) = self.background.next() else { return };
            if self.inflight.of(&tenant, now_ms).is_some() {
                continue;
            }
            let view = self.view(&tenant, now_ms, node);
            let is_passed_over = view.as_ref().is_some_and(|view| {
                let is_settled = |entry: &Entry| {
                    let is_fresh = entry.verdict.is_some() && entry.times.age(now_ms) == Age::Fresh;
                    is_fresh || now_ms < entry.paused_until_ms
                };
                !view.has_room || view.order.is_some() || view.answer.as_ref().is_some_and(is_settled)
            });
            if is_passed_over {
                continue;
            }
            match self.begin(manager, &tenant, view.as_ref(), now_ms, node) {
                Ok(id) => {
                    self.background.under_way.push(id);
                    self.background.start(Errand::Lookup(id));
                }
                Err(_) => {
                    let dropped = self.background.clear().saturating_add(1);
                    node.add(Counter::BackgroundDropped, u64::try_from(dropped).unwrap_or_default());
                    return;
                }
            }
        }
        // A long queue is no reason to keep requests waiting.
        self.background.goes_on_ms = Some(now_ms.saturating_add(PAUSE_MS));
    }
}

#[cfg(test)]
mod tests;
