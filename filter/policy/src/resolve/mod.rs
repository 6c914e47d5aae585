//! Stage 4: what is known about the tenant? From the worker's cache, from the node's, or from the
//! Tenant Manager.
//!
//! Rules in the order they are applied:
//!
//! 1. What other workers have invalidated is dropped first ([`changes`]).
//! 2. A fresh outcome in the worker's cache answers at once ([`local`]), then one in the node's
//!    ([`shared`]): a record, or a refusal, be it by the Tenant Manager or by an event.
//! 3. A record that is a little too old answers at once too, and one lookup of the node refreshes it
//!    ([`freshness`]).
//! 4. Otherwise the request waits for the one lookup of this tenant and worker ([`inflight`]);
//!    the first to wait begins it, and it outlives every request that waits. Beyond
//!    `max_waiters` requests, or an eighth of them for one tenant: 503
//!    `TENANT_LOOKUP_OVERLOADED`.
//! 5. The Tenant Manager is asked only while circuit breaker and pauses allow it ([`breaker`]), with
//!    the API key that worked last; a 401 is asked again once with the other one. `timeout_ms`
//!    covers both ([`lookup`]).
//! 6. An outcome is cached unless the tenant has been invalidated since the lookup began; then
//!    whoever waited begins anew. A failure is never cached.
//! 7. While the Tenant Manager is unavailable a record that is not too old answers
//!    (`stale_if_error`), otherwise it is 503. Who has waited for `timeout_ms` + 500 ms waits no more.
//!
//! Besides, events ([`events`]) and the list of active tenants ([`discovery`]) invalidate, refuse and
//! refresh.

mod answer;
mod background;
mod breaker;
mod changes;
mod discovery;
mod events;
mod freshness;
mod inflight;
mod local;
mod lookup;
mod record;
mod set;
mod shared;
mod touched;

use std::rc::Rc;

pub use discovery::{ListId, Useless};
pub(crate) use events::Command;
pub use inflight::LookupId;
pub use lookup::{Outcome, Unavailable};
pub use record::{Isolation, Record};
pub(crate) use shared::Order;

use crate::config::{Config, OnUnavailable, TenantManager};
use crate::errand::{Awaited, Errand, deadline_ms};
use crate::node::{Node, Now};
use crate::telemetry::{CacheOutcome, Counter, Level, LookupFailure};
use crate::tenant_id::TenantId;
use background::Background;
use breaker::{Barred, Gate};
use changes::{Heard, Log, News};
use discovery::Discoverer;
use freshness::{Age, Times};
use inflight::{Inflight, LookupSeat, Overloaded, Start};
use local::{Held, Local};
use set::Entry;
use shared::{Table, View};
use touched::Touched;

/// How often spent entries are swept out of the caches.
const SWEEP_MS: u64 = 10_000;
/// How soon a worker looks again whether the refresh of another has come to its end.
const PEEK_MS: u64 = 50;

/// The state of this stage, per worker.
#[derive(Debug)]
pub(crate) struct Resolver {
    log: Log,
    local: Local,
    table: Table,
    gate: Gate,
    inflight: Inflight,
    background: Background,
    discoverer: Option<Discoverer>,
    /// Until when a kind of failure is not complained about again.
    quiet_until_ms: Vec<(LookupFailure, u64)>,
    next_sweep_ms: Option<u64>,
    /// `None`: nobody will ask.
    touched: Option<Touched>,
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

/// What a lookup has brought to those who wait for it.
#[derive(Debug, Clone)]
pub struct Tidings {
    /// `None`: the tenant has been invalidated in between, they must ask anew.
    outcome: Option<Rc<Outcome>>,
    heard: Heard,
}

impl Wait {
    pub(crate) fn awaits(&self) -> Awaited {
        Awaited::Lookup(self.seat.lookup())
    }
}

impl Resolver {
    pub(crate) fn new(config: &Config, manager: &TenantManager) -> Self {
        Self {
            log: Log::new(manager.cache.shared_slots / set::SLOTS),
            local: Local::new(&manager.cache),
            table: Table::new(config),
            gate: Gate::new(manager),
            inflight: Inflight::new(manager.max_waiters),
            background: Background::new(manager.cache.shared_slots),
            discoverer: Discoverer::new(config, manager),
            quiet_until_ms: Vec::new(),
            next_sweep_ms: None,
            touched: config.cuts_streams().then(Touched::default),
        }
    }

    /// What is known of a tenant. `deadline_ms` is that of a request that has waited before.
    pub(crate) fn resolve(
        &mut self,
        manager: &TenantManager,
        tenant: &TenantId,
        deadline_ms: Option<u64>,
        now: Now,
        node: &impl Node,
    ) -> Resolution {
        let now_ms = now.monotonic_ms;
        self.listen(node);
        let held = self.local.look(tenant, now_ms);
        let seen = match held {
            Some(Held {
                outcome,
                age: Age::Fresh,
                ..
            }) => return hit(outcome, Age::Fresh, Level::Local, node),
            Some(Held {
                outcome,
                age: Age::Stale,
                looks_up_ms,
            }) if now_ms < looks_up_ms => {
                return hit(outcome, Age::Stale, Level::Local, node);
            }
            other => other,
        };
        if seen.as_ref().is_none_or(|held| held.age != Age::Stale) {
            node.count(Counter::CacheLookups(Level::Local, CacheOutcome::Miss));
        }
        let view = self.view(tenant, now_ms, node);
        if let Some(known) = self.known(manager, tenant, (seen, view.as_ref()), now_ms, node) {
            return known;
        }
        node.count(Counter::CacheLookups(Level::Shared, CacheOutcome::Miss));
        let id = match self.inflight.of(tenant, now_ms) {
            Some(id) => Ok((id, None)),
            None => self
                .begin(manager, tenant, view.as_ref(), now_ms, node)
                .map(|id| (id, Some(Errand::Lookup(id)))),
        };
        let joined = id.and_then(|(id, begins)| match self.inflight.join(id) {
            Ok(seat) => Ok((seat, begins)),
            Err(Overloaded) => Err(Unavailable::Overloaded),
        });
        match joined {
            Ok((seat, begins)) => Resolution::Wait(Wait {
                seat,
                begins,
                deadline_ms: deadline_ms.unwrap_or_else(|| crate::errand::deadline_ms(now_ms, manager.timeout_ms)),
            }),
            Err(unavailable) => {
                if unavailable == Unavailable::Overloaded {
                    node.count(Counter::LookupsOverloaded);
                }
                Resolution::Known(self.without_answer(manager, tenant, (view.as_ref(), unavailable), now_ms, node))
            }
        }
    }

    /// Notes the trace of the request that has begun a lookup.
    pub(crate) fn trace(&mut self, wait: &Wait, traceparent: Option<&str>) {
        if let Some(lookup) = self.inflight.find(wait.seat.lookup()) {
            lookup.traceparent = traceparent.map(str::to_owned);
        }
    }

    /// What there is at the end of a wait without tidings.
    pub(crate) fn give_up(
        &mut self,
        manager: &TenantManager,
        tenant: &TenantId,
        (now, node): (Now, &impl Node),
    ) -> Rc<Outcome> {
        let now_ms = now.monotonic_ms;
        self.listen(node);
        let view = self.view(tenant, now_ms, node);
        self.without_answer(manager, tenant, (view.as_ref(), Unavailable::TimedOut), now_ms, node)
    }

    /// The outcome of a lookup, if nothing has been invalidated since it came.
    pub(crate) fn still_true(&self, tidings: &Tidings, node: &impl Node) -> Option<Rc<Outcome>> {
        let outcome = tidings.outcome.as_ref()?;
        self.log.is_current(tidings.heard, node).then(|| Rc::clone(outcome))
    }

    /// What the node or this worker knows well enough to answer at once.
    fn known(
        &mut self,
        manager: &TenantManager,
        tenant: &TenantId,
        (held, view): (Option<Held>, Option<&View>),
        now_ms: u64,
        node: &impl Node,
    ) -> Option<Resolution> {
        if let Some(order) = view.and_then(|view| view.order.as_ref()) {
            let outcome = self.adopt(tenant, order, now_ms, node)?;
            return Some(hit(outcome, Age::Fresh, Level::Shared, node));
        }
        let shared = view.and_then(|view| view.answer.as_ref());
        let age = shared.map_or(Age::Spent, |entry| match entry.verdict {
            Some(_) => entry.times.age(now_ms),
            None => Age::Spent,
        });
        match (age, held) {
            (Age::Fresh, _) => {
                let outcome = self.adopt(tenant, shared?, now_ms, node)?;
                Some(hit(outcome, Age::Fresh, Level::Shared, node))
            }
            // The node has nothing older than this worker unless the worker's entry found no place there.
            (
                _,
                Some(Held {
                    outcome,
                    age: Age::Stale,
                    ..
                }),
            ) => {
                self.refresh(manager, tenant, view, now_ms, node);
                Some(hit(outcome, Age::Stale, Level::Local, node))
            }
            (Age::Stale, _) => {
                let outcome = self.adopt(tenant, shared?, now_ms, node)?;
                self.refresh(manager, tenant, view, now_ms, node);
                Some(hit(outcome, Age::Stale, Level::Shared, node))
            }
            _ => None,
        }
    }

    /// Takes what the node knows over into this worker's cache.
    fn adopt(&mut self, tenant: &TenantId, entry: &Entry, now_ms: u64, node: &impl Node) -> Option<Rc<Outcome>> {
        let outcome = Rc::new(entry.verdict.clone()?.outcome());
        self.remember(tenant.clone(), Rc::clone(&outcome), entry.times, now_ms, node);
        Some(outcome)
    }

    /// Has a record that is a little too old asked for anew, by one worker of the node.
    fn refresh(
        &mut self,
        manager: &TenantManager,
        tenant: &TenantId,
        view: Option<&View>,
        now_ms: u64,
        node: &impl Node,
    ) {
        self.local.rest(tenant, now_ms.saturating_add(PEEK_MS));
        if self.inflight.of(tenant, now_ms).is_some() {
            return;
        }
        let until_ms = deadline_ms(now_ms, manager.timeout_ms);
        if let Some(view) = view
            && self
                .table
                .lease(tenant.as_str(), view.stamp.layout(), (now_ms, until_ms), node)
                .is_err()
        {
            return;
        }
        if let Ok(id) = self.begin(manager, tenant, view, now_ms, node) {
            self.background.start(Errand::Lookup(id));
        }
    }

    /// Begins a lookup if the Tenant Manager may be asked about this tenant now.
    fn begin(
        &mut self,
        manager: &TenantManager,
        tenant: &TenantId,
        view: Option<&View>,
        now_ms: u64,
        node: &impl Node,
    ) -> Result<LookupId, Unavailable> {
        if !self.inflight.has_room() {
            return Err(Unavailable::Overloaded);
        }
        let paused_until_ms = view
            .and_then(|view| view.answer.as_ref())
            .map_or(0, |entry| entry.paused_until_ms);
        if now_ms < paused_until_ms {
            return Err(Unavailable::Paused(paused_until_ms.saturating_sub(now_ms)));
        }
        let (permit, key) = self.gate.enter(manager, now_ms, node).map_err(|barred| match barred {
            Barred::Open(left_ms) => Unavailable::CircuitOpen(left_ms),
            Barred::Paused(left_ms) => Unavailable::Paused(left_ms),
        })?;
        self.next_sweep_ms.get_or_insert(now_ms.saturating_add(SWEEP_MS));
        let start = Start {
            key,
            stamp: view.map(|view| view.stamp),
            permit,
            now_ms,
            ends_ms: deadline_ms(now_ms, manager.timeout_ms),
        };
        Ok(self.inflight.begin(tenant, start))
    }

    /// What there is without an answer of the Tenant Manager: what an event says, a record that is
    /// not too old, a refusal that holds or would be passed over otherwise.
    fn without_answer(
        &mut self,
        manager: &TenantManager,
        tenant: &TenantId,
        (view, unavailable): (Option<&View>, Unavailable),
        now_ms: u64,
        node: &impl Node,
    ) -> Rc<Outcome> {
        let known = |entry: &Entry| {
            let age = entry.times.age(now_ms);
            let verdict = entry.verdict.clone().filter(|_| age != Age::Spent)?;
            Some((Rc::new(verdict.outcome()), age))
        };
        if let Some((outcome, _)) = view.and_then(|view| view.order.as_ref()).and_then(known) {
            return outcome;
        }
        let shared = view.and_then(|view| view.answer.as_ref()).and_then(known);
        let shared = shared.map(|(outcome, age)| (outcome, age, Level::Shared));
        let last = shared.or_else(|| {
            let held = self.local.look(tenant, now_ms)?;
            Some((held.outcome, held.age, Level::Local))
        });
        // Where too many ask, nobody knows that the Tenant Manager would not answer: callers could have a record
        // served for longer by bringing that about.
        let is_served = |outcome: &Outcome, age: Age| {
            outcome.refuses() || age != Age::Fallback || unavailable != Unavailable::Overloaded
        };
        let last = last.filter(|(outcome, age, _)| is_served(outcome, *age));
        let past_order = view.and_then(|view| view.past_order.as_ref()).and_then(known);
        match last {
            Some((outcome, _, level)) if !outcome.refuses() => {
                node.count(Counter::CacheLookups(level, CacheOutcome::Fallback));
                outcome
            }
            Some((outcome, age, _)) if age == Age::Fresh || manager.on_unavailable == OnUnavailable::Allow => outcome,
            Some(_) | None => match past_order {
                Some((outcome, _)) if manager.on_unavailable == OnUnavailable::Allow => outcome,
                Some(_) | None => Rc::new(Outcome::Unavailable(unavailable)),
            },
        }
    }

    fn remember(&mut self, tenant: TenantId, outcome: Rc<Outcome>, times: Times, now_ms: u64, node: &impl Node) {
        if let Some(touched) = self.touched.as_mut().filter(|_| outcome.refuses()) {
            touched.add(tenant.clone());
        }
        let before = self.local.evictions();
        self.local.insert(tenant, outcome, times, now_ms);
        node.add(Counter::CacheEvictions, self.local.evictions().saturating_sub(before));
    }

    /// What the node knows of a tenant; `None` while it cannot be asked.
    fn view(&self, tenant: &TenantId, now_ms: u64, node: &impl Node) -> Option<View> {
        let layout = self.log.layout()?;
        Some(self.table.view(tenant.as_str(), layout, now_ms, node))
    }

    /// Drops what other workers have invalidated.
    fn listen(&mut self, node: &impl Node) {
        let news = self.log.listen(node);
        if let Some(touched) = &mut self.touched {
            touched.hear(&news);
        }
        match news {
            News::None => {}
            News::Tenants(tenants) => {
                for tenant in &tenants {
                    // Written by a worker of this node, well-formed and folded.
                    if let Some(tenant) = TenantId::parse(tenant, false) {
                        self.local.remove(&tenant);
                    }
                }
            }
            News::Everything => self.local.clear(),
        }
    }

    /// Those of `open` that are refused since this was asked last: by an event, or by what the Tenant
    /// Manager has said. Of whom there has been news and nothing is known any more is asked about.
    pub(crate) fn refused_since<'t>(
        &mut self,
        manager: &TenantManager,
        open: impl Iterator<Item = &'t TenantId>,
        node: &impl Node,
    ) -> Vec<TenantId> {
        let now_ms = node.monotonic_ms();
        self.listen(node);
        let mut touched = match &mut self.touched {
            Some(touched) => touched.take(open, now_ms),
            None => Vec::new(),
        };
        touched.retain(|tenant| {
            let is_refused = self.is_refused(tenant, now_ms, node);
            if let Some(touched) = &mut self.touched {
                touched.note(tenant, is_refused.is_some());
            }
            if is_refused.is_none() {
                self.look_up_later(tenant.clone(), node);
            }
            is_refused == Some(true)
        });
        self.pump(manager, now_ms, node);
        touched
    }

    /// Whether a tenant is refused; `None` where neither the node nor this worker knows.
    fn is_refused(&mut self, tenant: &TenantId, now_ms: u64, node: &impl Node) -> Option<bool> {
        let view = self.view(tenant, now_ms, node);
        let order = view.as_ref().and_then(|view| view.order.as_ref());
        let answer = view.as_ref().and_then(|view| view.answer.as_ref());
        let refuses = |entry: &Entry| {
            let is_fresh = entry.times.age(now_ms) == Age::Fresh;
            let verdict = entry.verdict.clone().filter(|_| is_fresh)?;
            Some(verdict.outcome().refuses())
        };
        order.or(answer).and_then(refuses).or_else(|| {
            let held = self.local.look(tenant, now_ms)?;
            (held.age == Age::Fresh).then(|| held.outcome.refuses())
        })
    }

    /// The lookups and lists that must be asked for now, and that nobody waits for.
    pub(crate) fn take_errands(&mut self) -> Vec<Errand> {
        self.background.take()
    }

    /// Does what is due by time alone.
    pub(crate) fn tick(&mut self, manager: &TenantManager, node: &impl Node) {
        let now_ms = node.monotonic_ms();
        if self.next_sweep_ms.is_some_and(|due| due <= now_ms) {
            // What counts as void in the table is decided by the present layout.
            self.listen(node);
            self.local.sweep(now_ms);
            self.inflight.sweep(now_ms);
            self.background.keep(|id| self.inflight.find(id).is_some());
            let shared = self
                .log
                .layout()
                .is_some_and(|layout| self.table.sweep_some(layout, now_ms, node));
            let idle = !shared && self.local.is_empty() && self.inflight.is_empty();
            self.next_sweep_ms = (!idle).then(|| now_ms.saturating_add(SWEEP_MS));
            self.pump(manager, now_ms, node);
        }
        if self.background.due_ms().is_some_and(|due| due <= now_ms) {
            self.pump(manager, now_ms, node);
        }
        self.discover(manager, now_ms, node);
    }

    /// When [`Resolver::tick`] has something to do, in monotonic milliseconds.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let discovery = self.discoverer.as_ref().map(Discoverer::due_ms);
        let background = self.background.due_ms();
        [self.next_sweep_ms, background, discovery].into_iter().flatten().min()
    }
}

fn hit(outcome: Rc<Outcome>, age: Age, level: Level, node: &impl Node) -> Resolution {
    let how = match age {
        Age::Fresh if outcome.refuses() => CacheOutcome::Negative,
        Age::Fresh => CacheOutcome::Hit,
        Age::Stale | Age::Fallback | Age::Spent => CacheOutcome::Stale,
    };
    node.count(Counter::CacheLookups(level, how));
    Resolution::Known(outcome)
}

#[cfg(test)]
mod tests;
