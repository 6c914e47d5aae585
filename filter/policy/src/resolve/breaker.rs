//! Whether the Tenant Manager may be asked now, as the whole node agrees: circuit breaker, pauses,
//! and the API key that was accepted last.
//!
//! 1. During a pause (after 429, and after 401 with every key) nobody asks.
//! 2. `threshold` consecutive failures open the circuit for `open_seconds`; nobody asks.
//! 3. After that one lookup of the node is the probe. Success closes the circuit, failure opens it
//!    again, an answer that is neither leaves the next lookup to be the probe. A probe that is not
//!    heard of again ends with its lease.
//! 4. What lookups that began before the circuit opened learn later changes nothing.

use serde::{Deserialize, Serialize};

use super::changes::ATTEMPTS;
use crate::cell::{self, Change};
use crate::config::TenantManager;
use crate::errand::{GRACE_MS, deadline_ms};
use crate::fingerprint::fingerprint;
use crate::node::{Node, Shared};
use crate::remark::Remark;
use crate::telemetry::{Counter, Gauge};

/// Longest that a circuit may be configured to stay open, in milliseconds; every pause is shorter.
const LONGEST_MS: u64 = 3_600_000;
/// The first byte of the stored state. Another number is another format, and void.
const FORMAT: u8 = 1;

/// The state of one Tenant Manager, as all workers share it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// Which Tenant Manager it is about, by hash.
    of: u64,
    phase: Phase,
    /// How often it has opened.
    openings: u32,
    paused_until_ms: u64,
    preferred_key: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Closed { failures: u32 },
    Open { until_ms: u64 },
    HalfOpen { probe_until_ms: u64 },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// What a lookup was let through as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// While the circuit had opened so many times.
    Ordinary(u32),
    /// The probe whose lease ends then.
    Probe(u64),
}

/// Why nobody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Barred {
    /// The circuit is open for so many milliseconds more.
    Open(u64),
    /// There is a pause for so many milliseconds more.
    Paused(u64),
}

/// What an answer says of the Tenant Manager itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered as the table knows it.
    Good,
    /// It did not.
    Bad,
    /// Neither; nobody asks for so many milliseconds.
    Unclear(u64),
}

/// The way to one Tenant Manager.
#[derive(Debug)]
pub(super) struct Gate {
    of: u64,
    key: String,
}

impl State {
    /// Whether nothing lies further in the future than the configuration allows: another plugin may have
    /// written here, and nobody is to be locked out for ever.
    fn is_plausible(&self, now_ms: u64) -> bool {
        let until_ms = match self.phase {
            Phase::Closed { .. } => 0,
            Phase::Open { until_ms } => until_ms,
            Phase::HalfOpen { probe_until_ms } => probe_until_ms,
        };
        until_ms.max(self.paused_until_ms) <= now_ms.saturating_add(LONGEST_MS)
    }
}

impl Gate {
    pub(super) fn new(manager: &TenantManager) -> Self {
        let of = fingerprint(&manager.identity_text());
        Self {
            of,
            // One for each Tenant Manager that is configured in the life of an Envoy.
            key: format!("tenantgate.manager.{of:016x}"),
        }
    }

    /// Lets a lookup through, with the API key to begin with, or says why not.
    pub(super) fn enter(
        &self,
        manager: &TenantManager,
        now_ms: u64,
        node: &impl Node,
    ) -> Result<(Permit, usize), Barred> {
        let entered = cell::update(&self.key, ATTEMPTS, node, |stored| {
            let mut state = self.read(stored, node);
            if now_ms < state.paused_until_ms {
                return Change::None(Err(Barred::Paused(state.paused_until_ms.saturating_sub(now_ms))));
            }
            let key = usize::from(state.preferred_key).min(manager.api_keys.len().saturating_sub(1));
            let free_at_ms = match state.phase {
                Phase::Closed { .. } => return Change::None(Ok((Permit::Ordinary(state.openings), key))),
                Phase::Open { until_ms } => until_ms,
                Phase::HalfOpen { probe_until_ms } => probe_until_ms,
            };
            if now_ms < free_at_ms {
                return Change::None(Err(Barred::Open(free_at_ms.saturating_sub(now_ms))));
            }
            let probe_until_ms = deadline_ms(now_ms, manager.timeout_ms);
            state.phase = Phase::HalfOpen { probe_until_ms };
            Change::To(cell::encode(FORMAT, &state), Ok((Permit::Probe(probe_until_ms), key)))
        })
        .unwrap_or(Err(Barred::Open(GRACE_MS)));
        if let Ok((Permit::Probe(_), _)) = entered {
            node.set(Gauge::BreakerState, 2);
        }
        entered
    }

    /// Takes in what a lookup has learned; `key` is the API key that was accepted.
    pub(super) fn leave(
        &self,
        manager: &TenantManager,
        permit: Permit,
        (health, key): (Health, Option<usize>),
        now_ms: u64,
        node: &impl Node,
    ) -> Vec<Remark> {
        let changed = cell::update(&self.key, ATTEMPTS, node, |stored| {
            let before = self.read(stored, node);
            let mut state = before;
            if let Some(key) = key.and_then(|key| u8::try_from(key).ok()) {
                state.preferred_key = key;
            }
            if let Health::Unclear(pause_ms @ 1..) = health {
                state.paused_until_ms = state.paused_until_ms.max(now_ms.saturating_add(pause_ms));
            }
            state.phase = next(&before, permit, health, manager, now_ms);
            if let (Phase::Closed { .. }, Phase::Open { .. }) = (before.phase, state.phase) {
                state.openings = before.openings.wrapping_add(1);
            }
            if state == before {
                return Change::None(None);
            }
            Change::To(cell::encode(FORMAT, &state), Some((before, state)))
        });
        // Where it cannot be written there is nothing to tell.
        let Ok(Some((before, state))) = changed else {
            return Vec::new();
        };
        let key = (state.preferred_key != before.preferred_key).then(|| Remark::KeyPreferred {
            cluster: manager.cluster.clone(),
            place: usize::from(state.preferred_key).saturating_add(1),
        });
        let circuit = told(before.phase, state.phase, manager, node);
        key.into_iter().chain(circuit).collect()
    }

    /// The stored state, or a fresh one where there is none that can be.
    fn read(&self, stored: &Shared, node: &impl Node) -> State {
        let is_ours = |state: &State| state.of == self.of && state.is_plausible(node.monotonic_ms());
        cell::decode(FORMAT, &stored.value).filter(is_ours).unwrap_or(State {
            of: self.of,
            ..State::default()
        })
    }
}

fn next(state: &State, permit: Permit, health: Health, manager: &TenantManager, now_ms: u64) -> Phase {
    let open = Phase::Open {
        until_ms: now_ms.saturating_add(manager.breaker.open_ms),
    };
    match (state.phase, permit, health) {
        // Of the time before it has opened.
        (phase, Permit::Ordinary(openings), _) if openings != state.openings => phase,
        (Phase::Closed { .. }, _, Health::Good) => Phase::default(),
        (Phase::Closed { failures }, _, Health::Bad) => {
            let failures = failures.saturating_add(1);
            if failures < manager.breaker.threshold {
                Phase::Closed { failures }
            } else {
                open
            }
        }
        (Phase::HalfOpen { probe_until_ms }, Permit::Probe(mine), health) if mine == probe_until_ms => match health {
            Health::Good => Phase::default(),
            Health::Bad => open,
            Health::Unclear(_) => Phase::Open { until_ms: now_ms },
        },
        (phase, _, _) => phase,
    }
}

/// Counts and tells that the circuit has opened or closed.
fn told(before: Phase, after: Phase, manager: &TenantManager, node: &impl Node) -> Option<Remark> {
    match (before, after) {
        (Phase::Closed { .. }, Phase::Closed { .. }) => None,
        (_, Phase::Closed { .. }) => {
            node.set(Gauge::BreakerState, 0);
            Some(Remark::CircuitClosed {
                cluster: manager.cluster.clone(),
            })
        }
        (Phase::Closed { .. }, Phase::Open { .. }) => {
            node.set(Gauge::BreakerState, 1);
            node.count(Counter::CircuitOpened);
            Some(Remark::CircuitOpened {
                cluster: manager.cluster.clone(),
                failures: manager.breaker.threshold,
                seconds: manager.breaker.open_ms / 1_000,
            })
        }
        (before, after) if before == after => None,
        _ => {
            node.set(Gauge::BreakerState, 1);
            None
        }
    }
}

#[cfg(test)]
mod tests;
