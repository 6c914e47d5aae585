//! What the filter may decide, worked out from what clients, Tenant Manager, identity provider and
//! operators did, and from nothing of the filter's.
//!
//! The model knows the true tenant of every token, what the Tenant Manager has said of whom and when it
//! was heard, and which events have been acknowledged. Where the order of two things cannot be told, for
//! they came about in one step, it allows what either order would.

mod breaker;
mod calls;
mod decision;
mod evidence;
mod keys;
mod knowledge;
mod passes;
mod rate;
mod refresh;
mod reply;
mod response;
mod seats;
mod streams;
mod token;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};

use tiny_envoy::LocalReply;

use self::breaker::Breaker;
pub use self::calls::Made;
use self::calls::{Arriving, Ends};
pub use self::keys::{KEY_HEADERS, Place, place, scoped};
pub use self::knowledge::Effect;
use self::knowledge::{Applied, Knowledge};
pub use self::passes::Note;
use self::passes::Pass;
use self::rate::Buckets;
use crate::ledger::Span;
use crate::script::{Credential, Edit, Knobs, Request, Setup};

/// What a request has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Its head went on to the upstream.
    Forwarded(tiny_envoy::PeerRequest),
    /// Its head went on to the upstream, though it would have been denied with this code.
    Reported(tiny_envoy::PeerRequest, String),
    /// It was answered.
    Denied(Denied),
}

/// A reply of the filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Its stable code.
    pub code: String,
    /// What the client got.
    pub reply: LocalReply,
}

/// A request on its way.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What was sent.
    pub request: Request,
    /// Which VM of its worker got it.
    pub life: u32,
    /// The configuration in force.
    pub config: usize,
    /// How many configurations its worker has had before.
    pub number: u32,
    /// When it was sent.
    pub begun: Span,
    /// When it was sent.
    pub begun_ms: u64,
    /// It came in a burst.
    pub is_in_burst: bool,
    /// What its earlier passes have left with the host.
    pub note: Option<Note>,
}

/// A request about which it was decided.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The request.
    pub seen: Seen,
    /// In which stretch.
    pub decided: Span,
    /// When, at the latest.
    pub decided_ms: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Model {
    configs: Vec<Knobs>,
    /// The configuration in force, by its place.
    pub config: usize,
    /// Workers may have several configurations, of which each asks by itself.
    is_mixed: bool,
    workers: usize,
    /// What the host does not let the filter do.
    refuses: Option<Edit>,
    knowledge: Knowledge,
    breaker: Breaker,
    /// Calls that are under way.
    ends: Ends,
    /// Calls that end in this instant, and may have been heard of or not.
    arriving: Vec<Arriving>,
    buckets: Buckets,
    /// How many requests of a tenant may have been counted against its rate or not.
    unsure: BTreeMap<String, u64>,
    /// Questions that are to be asked.
    stale: Vec<refresh::Owed>,
    /// Leases of refreshes whose holders have died before they could ask: of whom, and since when.
    lost_leases: Vec<(String, u64)>,
    /// Tenants whom a token that may hold has named.
    named: BTreeSet<String>,
    /// By worker, how many wait now: all of them, and by tenant.
    waiting: BTreeMap<usize, BTreeMap<u32, Seen>>,
    /// Those about whom it has just been decided.
    deciding: BTreeSet<u32>,
    /// The requests in a tenant's name that came last, in one millisecond, and when that was.
    latest: Vec<(u32, u64)>,
    /// When a VM died last.
    died_ms: Option<u64>,
    /// Which VM each worker has.
    lives: Vec<u32>,
}

impl Model {
    /// Of a world in which nothing has happened.
    pub fn new(setup: &Setup) -> Self {
        let workers = setup.workers;
        Self {
            configs: setup.configs.clone(),
            config: 0,
            is_mixed: false,
            workers,
            refuses: setup.refuses,
            knowledge: Knowledge::default(),
            breaker: Breaker::default(),
            ends: Ends::new(),
            arriving: Vec::new(),
            buckets: Buckets::default(),
            unsure: BTreeMap::new(),
            stale: Vec::new(),
            lost_leases: Vec::new(),
            named: BTreeSet::new(),
            waiting: BTreeMap::new(),
            deciding: BTreeSet::new(),
            latest: Vec::new(),
            died_ms: None,
            lives: vec![0; workers + 1],
        }
    }

    fn knobs(&self, config: usize) -> &Knobs {
        &self.configs[config]
    }

    /// Which VM a worker has.
    pub fn life(&self, worker: usize) -> u32 {
        self.lives[worker]
    }

    /// How often the circuit was opened, and how many probes there were.
    pub fn circuit(&self) -> (u64, u64) {
        (self.breaker.opened, self.breaker.probes)
    }

    /// Whether a request is under a configuration that denies nobody.
    pub fn reports(&self, seen: &Seen) -> bool {
        self.knobs(seen.config).reports
    }

    /// How many tenants the filter may have heard of.
    pub fn population(&self) -> usize {
        let of_events = self
            .knowledge
            .applied
            .iter()
            .filter_map(|applied| applied.tenant.as_deref());
        let of_calls = self.knowledge.of.keys().map(String::as_str);
        let named = self.named.iter().map(String::as_str);
        named.chain(of_calls).chain(of_events).collect::<BTreeSet<_>>().len()
    }

    /// A request is sent.
    pub fn begins(&mut self, seen: &Seen) {
        if let Some(tenant) = self.may_name(seen) {
            self.named.insert(tenant);
            self.latest.retain(|(_, at_ms)| *at_ms == seen.begun_ms);
            self.latest.push((seen.request.id, seen.begun_ms));
        }
        self.waiting
            .entry(seen.request.worker)
            .or_default()
            .insert(seen.request.id, seen.clone());
    }

    /// In this step it has been decided about these requests, and about no others.
    pub fn decides(&mut self, requests: impl Iterator<Item = u32>) {
        self.deciding = requests.collect();
    }

    /// The client of a request has left, or its VM is gone.
    pub fn leaves(&mut self, seen: &Seen) {
        if let Some(waiting) = self.waiting.get_mut(&seen.request.worker) {
            waiting.remove(&seen.request.id);
        }
    }

    /// The tenant that a request may be about for the filter.
    fn may_name(&self, seen: &Seen) -> Option<String> {
        if let Pass::Second(tenant) = self.pass(seen) {
            return Some(tenant);
        }
        match &seen.request.credential {
            Credential::Token(token) => self.may_hold_ever(token, seen).then(|| token.tenant.clone()),
            Credential::Absent | Credential::Unusable(_) | Credential::Garbage(_) | Credential::Twice(_) => None,
        }
    }

    /// An event was acknowledged as applied, by a worker that may have any of these configurations.
    pub fn applied(&mut self, tenant: Option<String>, effect: Effect, (span, at_ms): (Span, u64), configs: &[usize]) {
        let ttls = || configs.iter().map(|config| self.knobs(*config).ttl_s * 1_000);
        let (for_ms, for_most_ms) = (ttls().min().unwrap_or_default(), ttls().max().unwrap_or_default());
        self.knowledge.applied.push(Applied {
            tenant,
            effect,
            span,
            at_ms,
            for_ms,
            for_most_ms,
        });
    }

    /// A worker's VM has died.
    pub fn dies(&mut self, worker: usize, at_ms: u64) {
        self.died_ms = Some(at_ms);
        self.lives[worker] += 1;
        for lookup in self.knowledge.lookups.values_mut() {
            if lookup.worker == Some(worker) && lookup.delivered.is_none() {
                lookup.is_lost = true;
            }
        }
        for fetch in self.knowledge.fetches.entry(worker).or_default() {
            if fetch.delivered.is_none() {
                fetch.is_lost = true;
            }
        }
        self.waiting.remove(&worker);
    }

    /// Workers begin to take another configuration over.
    pub fn may_update(&mut self, span: Span, at_ms: u64) {
        self.is_mixed = true;
        self.knowledge.updates.push((span, at_ms));
    }

    /// A configuration is in force on all workers.
    pub fn updates(&mut self, config: usize, span: Span, at_ms: u64) {
        self.config = config;
        self.may_update(span, at_ms);
    }

    /// Old configurations are gone, and what they have asked may never be heard of.
    pub fn drains(&mut self, span: Span, at_ms: u64) {
        // What they have asked is heard by nobody any more.
        for lookup in self.knowledge.lookups.values_mut() {
            if lookup.config != self.config && lookup.delivered.is_none() {
                lookup.is_lost = true;
            }
        }
        self.is_mixed = false;
        self.knowledge.updates.push((span, at_ms));
        let mut is_any = false;
        for lookup in self
            .knowledge
            .lookups
            .values_mut()
            .filter(|lookup| lookup.delivered.is_none())
        {
            lookup.may_be_dropped = true;
            lookup.permit = breaker::Permit::Unclear;
            is_any = true;
        }
        for fetch in self.knowledge.fetches.values_mut().flatten() {
            fetch.may_be_dropped = fetch.delivered.is_none();
        }
        if is_any {
            self.breaker.blur(at_ms);
        }
    }

    /// Whether a call ends now.
    pub fn has_due(&self, now_ms: u64) -> bool {
        self.ends
            .first_key_value()
            .is_some_and(|((at_ms, _), _)| *at_ms <= now_ms)
    }

    /// The order of the answers of this instant cannot be told.
    pub fn blur(&mut self, now_ms: u64) {
        self.breaker.blur(now_ms);
    }

    /// How long a request may wait, in milliseconds.
    pub fn patience_ms(&self, seen: &Seen) -> u64 {
        let knobs = self.knobs(seen.config);
        let keys = knobs.remote.filter(|_| seen.request.credential.is_remote());
        let for_keys = keys.map_or(0, |remote| remote.timeout_ms + breaker::GRACE_MS);
        for_keys + knobs.timeout_ms + breaker::GRACE_MS
    }
}

impl Credential {
    /// Whether its keys are fetched.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Token(token) if matches!(token.issuer, crate::script::Issuer::Remote(_)))
    }
}
