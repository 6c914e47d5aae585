//! The list of active tenants: it warms the node's cache and notices who has gone.
//!
//! 1. One worker of the node asks, under a lease, at the start and every `interval_seconds`.
//! 2. What is listed and not fresh is looked up, four at once.
//! 3. Who was listed the last time and is not any more is forgotten.
//! 4. Whether the circuit opens or closes is the lookups' business.
//! 5. `cache.invalidate_all` lets the last list be forgotten too.
//! 6. A list that cannot be read, is too large, or has under half of the tenants of the last one
//!    changes nothing.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error};
use serde_json::Value;

use super::Resolver;
use super::breaker::{Health, Permit};
use super::changes::ATTEMPTS;
use super::events::Command;
use super::lookup::{Tried, key_headers};
use super::shared::Order;
use crate::cell::{self, Change};
use crate::config::{Config, Discovery, TenantManager};
use crate::errand::{Answer, Answered, Callout, Errand, deadline_ms};
use crate::fingerprint::fingerprint;
use crate::json::Shape;
use crate::node::{Node, Shared, part_of};
use crate::remark::Remark;
use crate::telemetry::Counter;
use crate::tenant_id::TenantId;

/// Longest that a lease is held, in milliseconds: the largest `timeout_ms`, and the grace.
const LONGEST_LEASE_MS: u64 = 60_500;
/// How soon a failed question is asked again, at the latest.
const RETRY_MS: u64 = 10_000;

/// Names one question for the list by this worker. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListId(pub(crate) u64);

/// The discovery of one worker.
#[derive(Debug)]
pub(super) struct Discoverer {
    settings: Discovery,
    of: u64,
    lease_key: String,
    list_key: String,
    /// When this worker looks whether it is its turn.
    looks_ms: u64,
    asking: Option<Asking>,
    next: u64,
}

#[derive(Debug)]
struct Asking {
    id: ListId,
    permit: Permit,
    key: usize,
    attempts: usize,
    ends_ms: u64,
}

/// Whose turn it is, as the node knows it.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Turn {
    of: u64,
    next_ms: u64,
    leased_until_ms: u64,
}

/// The last good list, as the node knows it.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct List {
    of: u64,
    /// The base of the change log: after a change of everything it is void.
    base: u64,
    tenants: Vec<String>,
}

/// An element of the list. What else stands there is not read.
struct Listed {
    id: String,
    status: Option<String>,
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const SHAPE: Shape = Shape::Object(&[("id", Shape::Text), ("status", Shape::OptionalText)]);
        let element = SHAPE.deserialize(deserializer)?;
        let text = |member| element.get(member).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            id: text("id").ok_or_else(|| D::Error::custom("no `id`"))?,
            status: text("status"),
        })
    }
}

impl Discoverer {
    pub(super) fn new(config: &Config, manager: &TenantManager) -> Option<Self> {
        let settings = manager.discovery.clone()?;
        let of = fingerprint(&format!(
            "{}\n{}\n{}",
            manager.identity_text(),
            settings.path,
            config.service.as_str()
        ));
        Some(Self {
            settings,
            of,
            lease_key: format!("tenantgate.discovery.{of:016x}"),
            list_key: format!("tenantgate.discovered.{of:016x}"),
            looks_ms: 0,
            asking: None,
            next: 0,
        })
    }

    pub(super) fn due_ms(&self) -> u64 {
        self.looks_ms
    }

    /// Takes the lease, or says when to look again.
    fn lease(&self, until_ms: u64, now_ms: u64, node: &impl Node) -> Result<(), u64> {
        // Whoever is faster has it.
        let leased = cell::update(&self.lease_key, 1, node, |stored| {
            let turn = self.turn(&stored.value, now_ms);
            let free_at_ms = turn.next_ms.max(turn.leased_until_ms);
            if now_ms < free_at_ms {
                return Change::None(Err(free_at_ms));
            }
            let turn = Turn {
                leased_until_ms: until_ms,
                ..turn
            };
            Change::To(encoded(&turn), Ok(()))
        });
        leased.unwrap_or(Err(until_ms))
    }

    /// Says when the next question is due, and gives the lease up.
    fn release(&self, next_ms: u64, node: &impl Node) {
        let turn = Turn {
            of: self.of,
            next_ms,
            leased_until_ms: 0,
        };
        // Where it cannot be written, the lease ends by itself.
        let _ = cell::update(&self.lease_key, ATTEMPTS, node, |_| Change::To(encoded(&turn), ()));
    }

    fn turn(&self, value: &[u8], now_ms: u64) -> Turn {
        let turn = postcard::from_bytes::<Turn>(value).ok();
        // Further in the future than the configuration allows: another plugin has written here.
        let latest_ms = now_ms
            .saturating_add(self.settings.interval_ms)
            .saturating_add(LONGEST_LEASE_MS);
        let is_ours = |turn: &Turn| turn.of == self.of && turn.next_ms.max(turn.leased_until_ms) <= latest_ms;
        turn.filter(is_ours).unwrap_or(Turn {
            of: self.of,
            ..Turn::default()
        })
    }
}

fn encoded(value: &impl serde::Serialize) -> Vec<u8> {
    // Strings and numbers always serialize.
    postcard::to_extend(value, Vec::new()).unwrap_or_default()
}

impl Resolver {
    /// Begins the next question for the list when it is due and this worker's turn.
    pub(super) fn discover(&mut self, manager: &TenantManager, now_ms: u64, node: &impl Node) {
        let Some(discoverer) = self.discoverer.as_mut().filter(|other| other.looks_ms <= now_ms) else {
            return;
        };
        let ends_ms = deadline_ms(now_ms, manager.timeout_ms);
        if let Err(looks_ms) = discoverer.lease(ends_ms, now_ms, node) {
            // A little later than it is due: not all workers at once.
            discoverer.looks_ms = looks_ms.saturating_add(part_of(1_000, node)).saturating_add(1);
            return;
        }
        discoverer.looks_ms = ends_ms;
        let Ok((permit, key)) = self.gate.enter(manager, now_ms, node) else {
            return;
        };
        let id = ListId(discoverer.next);
        discoverer.next = discoverer.next.wrapping_add(1);
        discoverer.asking = Some(Asking {
            id,
            permit,
            key,
            attempts: 0,
            ends_ms,
        });
        self.background.start(Errand::List(id));
    }

    /// The first call of a question for the list; `None` when it is over or was asked before.
    pub(crate) fn list_question(&mut self, config: &Config, id: ListId) -> Option<Callout> {
        let manager = config.tenant_manager.as_ref()?;
        let discoverer = self.discoverer.as_mut()?;
        let asking = discoverer
            .asking
            .as_mut()
            .filter(|asking| asking.id == id && asking.attempts == 0)?;
        let key = asking.key;
        Some(asking.ask(config, manager, &discoverer.settings, key, manager.timeout_ms))
    }

    /// Takes a list in.
    pub(crate) fn list_answered(
        &mut self,
        config: &Config,
        id: ListId,
        answer: Answer<'_>,
        node: &impl Node,
    ) -> Answered {
        let (Some(manager), Some(discoverer)) = (config.tenant_manager.as_ref(), self.discoverer.as_mut()) else {
            return Answered::FORGOTTEN;
        };
        let now_ms = node.monotonic_ms();
        let Some(mut asking) = discoverer.asking.take_if(|asking| asking.id == id) else {
            return Answered::FORGOTTEN;
        };
        let tried = Tried {
            key: asking.key,
            attempts: asking.attempts,
            ends_ms: asking.ends_ms,
        };
        if let Some((other, timeout_ms)) = tried.after_401(manager, answer, now_ms) {
            let callout = asking.ask(config, manager, &discoverer.settings, other, timeout_ms);
            discoverer.asking = Some(asking);
            return Answered::Again(callout);
        }
        let (list, health) = read(answer, manager, config.tenant_id.fold_uuid);
        let accepted = (health == Health::Good).then_some(asking.key);
        let mut remarks = self
            .gate
            .leave(manager, asking.permit, (health, accepted), now_ms, node);
        let interval_ms = discoverer.settings.interval_ms;
        let taken = list.and_then(|list| self.take_list(manager, list, node));
        let pause_ms = match taken {
            Ok(()) => interval_ms,
            Err(why) => {
                node.count(Counter::DiscoveryErrors);
                remarks.push(Remark::ListUseless(why));
                interval_ms.min(RETRY_MS)
            }
        };
        if let Some(discoverer) = self.discoverer.as_mut() {
            let next_ms = now_ms.saturating_add(pause_ms);
            discoverer.release(next_ms, node);
            discoverer.looks_ms = next_ms;
        }
        self.pump(manager, now_ms, node);
        Answered::Over { news: None, remarks }
    }

    /// Forgets who has gone and has looked up who is there.
    fn take_list(&mut self, manager: &TenantManager, list: Vec<TenantId>, node: &impl Node) -> Result<(), Useless> {
        self.listen(node);
        let Some(discoverer) = self.discoverer.as_ref() else {
            return Ok(());
        };
        let base = self.log.layout().map_or(0, |layout| layout.base);
        let Shared { value, version } = node.shared(&discoverer.list_key);
        let last = postcard::from_bytes::<List>(&value)
            .ok()
            .filter(|last| last.of == discoverer.of && last.base == base)
            .unwrap_or_default();
        if list.len().saturating_mul(2) < last.tenants.len() {
            return Err(Useless::Shrunk {
                from: last.tenants.len(),
                to: list.len(),
            });
        }
        let is_listed = |name: &String| list.binary_search_by(|tenant| tenant.as_str().cmp(name)).is_ok();
        let gone: Vec<Command> = last
            .tenants
            .iter()
            .filter(|name| !is_listed(name))
            .filter_map(|name| TenantId::parse(name, false))
            .map(|tenant| Command::Tenant {
                tenant,
                order: Order::Forget,
                at_ms: None,
            })
            .collect();
        let now = List {
            of: discoverer.of,
            base,
            tenants: list.iter().map(|tenant| tenant.as_str().to_owned()).collect(),
        };
        let list_key = discoverer.list_key.clone();
        // Who has gone is forgotten before the list that lacks it is noted: the other way round it would
        // never be noticed again if forgetting failed.
        if self.obey(manager, &gone, node).is_err() || node.share(&list_key, &encoded(&now), version).is_err() {
            return Err(Useless::NotTaken);
        }
        node.add(Counter::DiscoveryGone, u64::try_from(gone.len()).unwrap_or_default());
        for tenant in list {
            self.look_up_later(tenant, node);
        }
        Ok(())
    }
}

impl Asking {
    fn ask(
        &mut self,
        config: &Config,
        manager: &TenantManager,
        settings: &Discovery,
        key: usize,
        timeout_ms: u32,
    ) -> Callout {
        self.attempts = self.attempts.saturating_add(1);
        self.key = key;
        let path = format!("{}?service={}", settings.path, config.service.as_str());
        Callout {
            cluster: manager.cluster.clone(),
            headers: key_headers(manager, path, key),
            timeout_ms: timeout_ms.max(1),
        }
    }
}

/// Why a list changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Useless {
    /// There was none: another answer than 200, or none at all.
    NotThere,
    /// It is too large, or names more tenants than the node has slots.
    TooLarge,
    /// It is not a JSON list of objects with an `id`.
    NotAList,
    /// It has under half of the tenants of the last one.
    Shrunk {
        /// How many the last one had.
        from: usize,
        /// How many it has.
        to: usize,
    },
    /// The node's store did not take it.
    NotTaken,
}

/// The active tenants of a list in order, and what the answer says of the Tenant Manager.
fn read(answer: Answer<'_>, manager: &TenantManager, fold_uuid: bool) -> (Result<Vec<TenantId>, Useless>, Health) {
    let body = match answer {
        Answer::Http { status: 200, body, .. } => body,
        Answer::Http { .. } | Answer::Unreachable => {
            return (Err(Useless::NotThere), super::lookup::health_of_list(answer));
        }
    };
    let Some(body) = body else {
        return (Err(Useless::TooLarge), Health::Unclear(0));
    };
    let Ok(listed) = serde_json::from_slice::<Vec<Listed>>(body) else {
        return (Err(Useless::NotAList), Health::Unclear(0));
    };
    if u32::try_from(listed.len()).map_or(true, |many| many > manager.cache.shared_slots) {
        return (Err(Useless::TooLarge), Health::Good);
    }
    let is_active = |listed: &Listed| listed.status.as_deref().is_none_or(|status| status == "active");
    let mut tenants: Vec<TenantId> = listed
        .into_iter()
        .filter(is_active)
        .filter_map(|listed| TenantId::parse(&listed.id, fold_uuid))
        .collect();
    tenants.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    tenants.dedup();
    (Ok(tenants), Health::Good)
}

impl Useless {
    /// Why, for the person on call.
    pub fn meaning(self) -> String {
        match self {
            Self::NotThere => "no answer with status 200".to_owned(),
            Self::TooLarge => "larger than `max_body_bytes`, or more tenants than `shared_slots`".to_owned(),
            Self::NotAList => "no JSON list of objects with an `id`".to_owned(),
            Self::Shrunk { from, to } => format!("{to} tenants, under half of the last {from}"),
            Self::NotTaken => "the host's shared data did not take it".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
