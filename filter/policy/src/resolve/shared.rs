//! The node's cache (L2): a fixed table of sets in what the workers share.
//!
//! A tenant's set is found by a seeded hash, the full id is compared inside. Nothing can be deleted
//! from a host's shared data, so the number of keys is fixed by `cache.shared_slots`; where a set is
//! full, the newest wins. Every change is one compare-and-set of a whole set.

use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::SWEEP_MS;
use super::changes::{ATTEMPTS, Layout};
use super::freshness::{Age, Times};
use super::set::{Entry, Of, Scope, Set, Verdict};
use crate::cell;
use crate::config::Config;
use crate::fingerprint::fingerprint;
use crate::node::{Node, NotWritten, Shared};
use crate::telemetry::{Counter, Gauge};

const SWEEP_KEY: &str = "tenantgate.sweep";
/// How many sets one sweep looks at: a millisecond's work.
const SETS_AT_ONCE: u32 = 512;

/// Largest stored form of one outcome, in bytes. Larger ones stay with the worker that learned them.
const MAX_ENTRY_BYTES: usize = 8_192;

/// The table as plugins with one configuration see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    scope: Scope,
}

/// What a lookup knew of its tenant when it began. A change in between makes its answer outdated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    layout: Layout,
    generation: u64,
    refusals: u64,
}

impl Stamp {
    /// Where the table had what.
    pub(super) fn layout(self) -> Layout {
        self.layout
    }
}

/// What the node knows of a tenant.
#[derive(Debug)]
pub(super) struct View {
    pub(super) stamp: Stamp,
    /// The refusal by an event.
    pub(super) order: Option<Entry>,
    /// The one that has come to its end, as long as nobody has said that the tenant may be served again.
    pub(super) past_order: Option<Entry>,
    /// What the Tenant Manager has said.
    pub(super) answer: Option<Entry>,
    /// Whether a record of it would find a place without pushing out a fresh one.
    pub(super) has_room: bool,
}

/// What became of an outcome that was to be stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It may be cached. Whether other workers may hold a record that it refutes.
    Yes { refutes: bool },
    /// The tenant has been invalidated since it was asked about: it must not be cached.
    Outdated,
    /// The same, if everything has changed; otherwise somebody has written what cannot be.
    Ahead,
}

/// What an event does to a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// What is known is forgotten.
    Forget,
    /// That, and refusals by earlier events end.
    Lift,
    /// That, and it is refused for as long as a record would be fresh.
    Refuse { status: String, everywhere: bool },
}

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obeyed {
    /// It was applied. Whether there was a record.
    Yes { had_record: bool },
    /// A later one has been applied before.
    Outdated,
}

impl Table {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            scope: Scope {
                configuration: fingerprint(&config.resolution_fingerprint_text()),
                service: fingerprint(config.service.as_str()),
                environment: config
                    .environment
                    .as_ref()
                    .map(|name| fingerprint(&name.as_str().to_ascii_lowercase())),
            },
        }
    }

    /// What the node knows of a tenant now.
    pub(super) fn view(&self, tenant: &str, layout: Layout, now_ms: u64, node: &impl Node) -> View {
        let Shared { value, version } = node.shared(&key(tenant, layout));
        let set = Set::decode(&value, version);
        View {
            stamp: Stamp {
                layout,
                generation: set.generation(),
                refusals: set.refusals(),
            },
            order: set.order(tenant, self.scope, layout.base, now_ms).cloned(),
            past_order: set.past_order(tenant, self.scope, layout.base, now_ms).cloned(),
            answer: set.answer(tenant, self.scope, layout.base, now_ms).cloned(),
            has_room: set.has_room_for(tenant, layout.base, now_ms),
        }
    }

    /// Stores what a lookup has brought, unless the tenant has been invalidated since `stamp`.
    ///
    /// # Errors
    ///
    /// [`NotWritten`]: it must not be cached anywhere.
    pub(super) fn keep(
        &self,
        tenant: &str,
        stamp: Stamp,
        kept: (Option<Verdict>, Times),
        now_ms: u64,
        node: &impl Node,
    ) -> Result<Kept, NotWritten> {
        let (verdict, times) = kept;
        let Layout { base, .. } = stamp.layout;
        update(tenant, stamp.layout, node, |set| {
            let is_record = verdict.as_ref().is_some_and(Verdict::is_record);
            let is_refuted = is_record && set.was_refused_since(tenant, stamp.refusals);
            // Everything may have changed since this worker has listened: what others have written after
            // that is not to be touched.
            if set.is_ahead_of(base) {
                return Change::No(Kept::Ahead);
            }
            let is_overtaken = set.generation() != stamp.generation;
            if is_overtaken || is_refuted || set.order(tenant, self.scope, base, now_ms).is_some() {
                return Change::No(Kept::Outdated);
            }
            let refutes = !is_record && set.may_be_held(tenant, self.scope, now_ms);
            if is_record {
                set.drop_past_orders(tenant, self.scope, now_ms);
            } else {
                set.note_refusal(tenant);
            }
            set.replace(tenant, self.scope, (!is_record, times.spent_at_ms()));
            let Some(verdict) = verdict.clone() else {
                return Change::Yes(Kept::Yes { refutes });
            };
            let entry = Entry {
                tenant: tenant.to_owned(),
                of: Of::Configuration(self.scope.configuration),
                base,
                times,
                refreshed_until_ms: 0,
                paused_until_ms: 0,
                verdict: Some(verdict),
            };
            if is_small(&entry) {
                set.put(entry, now_ms);
            } else {
                set.crowd(times.spent_at_ms());
            }
            Change::Yes(Kept::Yes { refutes })
        })
    }

    /// Takes out of a tenant's set what claims to have been written after everything has changed, where
    /// nothing has.
    pub(super) fn drop_later(&self, tenant: &str, layout: Layout, node: &impl Node) {
        // Where it cannot be written, the next answer finds it again.
        let _ = update(tenant, layout, node, |set| {
            set.drop_later(layout.base);
            Change::Yes(())
        });
    }

    /// Takes the lease of a refresh, for one worker of the node at a time. Gives until when it is
    /// somebody else's instead.
    ///
    /// # Errors
    ///
    /// Until when somebody else has it; the present where the host does not let it be taken.
    pub(super) fn lease(
        &self,
        tenant: &str,
        layout: Layout,
        (now_ms, until_ms): (u64, u64),
        node: &impl Node,
    ) -> Result<(), u64> {
        update(tenant, layout, node, |set| {
            let Some(entry) = set.answer_mut(tenant, self.scope, layout.base, now_ms) else {
                // Another tenant has its place: whoever holds it refreshes for itself.
                return Change::No(Ok(()));
            };
            let free_at_ms = entry.refreshed_until_ms.max(entry.paused_until_ms);
            // Fresh: somebody has just refreshed it.
            if now_ms < free_at_ms || entry.times.age(now_ms) == Age::Fresh {
                return Change::No(Err(free_at_ms));
            }
            entry.refreshed_until_ms = until_ms;
            Change::Yes(Ok(()))
        })
        .unwrap_or(Err(now_ms))
    }

    /// Has nobody ask about a tenant for a while.
    pub(super) fn pause(&self, tenant: &str, layout: Layout, (now_ms, until_ms): (u64, u64), node: &impl Node) {
        // Where it cannot be written, the tenant is asked about again: that is all.
        let _ = update(tenant, layout, node, |set| {
            if set.is_ahead_of(layout.base) {
                return Change::No(());
            }
            if let Some(entry) = set.answer_mut(tenant, self.scope, layout.base, now_ms) {
                entry.paused_until_ms = until_ms;
            } else {
                let entry = Entry {
                    tenant: tenant.to_owned(),
                    of: Of::Configuration(self.scope.configuration),
                    base: layout.base,
                    times: Times::none_until(until_ms),
                    refreshed_until_ms: 0,
                    paused_until_ms: until_ms,
                    verdict: None,
                };
                set.put(entry, now_ms);
            }
            Change::Yes(())
        });
    }

    /// Does to a tenant what an event says. `at_ms` is the time of the event, where it has one;
    /// `times` are those of a refusal.
    ///
    /// # Errors
    ///
    /// [`NotWritten`]: the event has no effect.
    pub(super) fn obey(
        &self,
        tenant: &str,
        layout: Layout,
        order: &Order,
        (at_ms, times): (Option<i64>, Times),
        now_ms: u64,
        node: &impl Node,
    ) -> Result<Obeyed, NotWritten> {
        let Layout { base, .. } = layout;
        update(tenant, layout, node, |set| {
            if at_ms.is_some_and(|at_ms| !set.mark(tenant, self.scope, at_ms)) {
                return Change::No(Obeyed::Outdated);
            }
            set.move_on();
            let had_record = set.forget(tenant, *order != Order::Lift, base, now_ms);
            match order {
                Order::Forget => {}
                Order::Lift => set.lift(tenant, self.scope),
                Order::Refuse { status, everywhere } => {
                    let of = if *everywhere {
                        Of::Environment(self.scope.place())
                    } else {
                        Of::Service {
                            service: self.scope.service,
                            environment: self.scope.place(),
                        }
                    };
                    let entry = Entry {
                        tenant: tenant.to_owned(),
                        of,
                        base,
                        times,
                        refreshed_until_ms: 0,
                        paused_until_ms: 0,
                        verdict: Some(Verdict::Refused(status.clone())),
                    };
                    // Without a place the generation has moved, and the Tenant Manager is asked.
                    set.put(entry, now_ms);
                }
            }
            Change::Yes(Obeyed::Yes { had_record })
        })
    }

    /// Takes what is void out of the next sets of the table, as one worker of the node at a time does.
    /// Gives whether something is left anywhere, as far as is known.
    pub(super) fn sweep_some(&self, layout: Layout, now_ms: u64, node: &impl Node) -> bool {
        let Shared { value, version } = node.shared(SWEEP_KEY);
        let mut sweep: Sweep = postcard::from_bytes(&value).unwrap_or_default();
        // Further away than the next sweep: another plugin has written here.
        let is_plausible = sweep.next_ms <= now_ms.saturating_add(SWEEP_MS);
        if now_ms < sweep.next_ms && is_plausible {
            return sweep.is_left();
        }
        let first = if sweep.cursor < layout.sets { sweep.cursor } else { 0 };
        let end = first.saturating_add(SETS_AT_ONCE).min(layout.sets);
        if first == 0 {
            sweep.left_before = std::mem::take(&mut sweep.left);
        }
        sweep.next_ms = now_ms.saturating_add(SWEEP_MS);
        sweep.cursor = end;
        // The lease first: whoever gets it does the work. What is left is known a round later.
        let lease = postcard::to_extend(&sweep, Vec::new()).unwrap_or_default();
        if node.share(SWEEP_KEY, &lease, version).is_err() {
            return true;
        }
        let left = (first..end)
            .filter(|index| self.sweep(*index, layout, now_ms, node))
            .count();
        if left == 0 {
            return sweep.is_left() || end < layout.sets;
        }
        let Shared { value, version } = node.shared(SWEEP_KEY);
        if let Ok(mut sweep) = postcard::from_bytes::<Sweep>(&value) {
            sweep.left = true;
            let bytes = postcard::to_extend(&sweep, Vec::new()).unwrap_or_default();
            // Without it the next round is told less: it finds out by itself.
            let _ = node.share(SWEEP_KEY, &bytes, version);
        }
        true
    }

    /// Takes out of one set what is void. Gives whether something is left in it.
    fn sweep(&self, index: u32, layout: Layout, now_ms: u64, node: &impl Node) -> bool {
        let swept = update_set(&set_key(index), node, |set| {
            if set.is_empty() {
                return Change::No(false);
            }
            let before = set.clone();
            set.sweep(layout.base, now_ms);
            let is_left = !set.is_empty();
            if *set == before {
                Change::No(is_left)
            } else {
                Change::Yes(is_left)
            }
        });
        swept.unwrap_or(true)
    }
}

/// How far the table has been swept, as the node knows it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sweep {
    next_ms: u64,
    cursor: u32,
    /// Whether this round has left something.
    left: bool,
    /// Whether the round before has.
    left_before: bool,
}

impl Sweep {
    fn is_left(&self) -> bool {
        self.left || self.left_before
    }
}

/// Whether a set was changed, and the result.
enum Change<T> {
    Yes(T),
    No(T),
}

fn update<T>(
    tenant: &str,
    layout: Layout,
    node: &impl Node,
    work: impl FnMut(&mut Set) -> Change<T>,
) -> Result<T, NotWritten> {
    update_set(&key(tenant, layout), node, work)
}

/// Changes a set, and the gauge by what that changed.
fn update_set<T>(key: &str, node: &impl Node, mut work: impl FnMut(&mut Set) -> Change<T>) -> Result<T, NotWritten> {
    let updated = cell::update(key, ATTEMPTS, node, |stored| {
        let mut set = Set::decode(&stored.value, stored.version);
        let before = set.records();
        match work(&mut set) {
            Change::No(result) => cell::Change::None((result, None)),
            Change::Yes(result) => cell::Change::To(set.encode(), (result, Some((before, set)))),
        }
    });
    // Others may be faster for ever, but then the table lies where it lay.
    let (result, changed) = updated.map_err(|_| NotWritten::Refused)?;
    if let Some((before, set)) = changed {
        let count = |records: usize| i64::try_from(records).unwrap_or_default();
        let change = count(set.records()).saturating_sub(count(before));
        if change != 0 {
            node.adjust(Gauge::TenantConsumersActive, change);
        }
        if set.evicted() > 0 {
            node.add(Counter::SharedEvictions, set.evicted());
        }
    }
    Ok(result)
}

fn is_small(entry: &Entry) -> bool {
    postcard::to_extend(entry, Vec::new()).is_ok_and(|bytes| bytes.len() <= MAX_ENTRY_BYTES)
}

fn key(tenant: &str, layout: Layout) -> String {
    let mut hasher = SipHasher13::new_with_keys(layout.seed.0, layout.seed.1);
    hasher.write(tenant.as_bytes());
    let index = hasher.finish().checked_rem(u64::from(layout.sets)).unwrap_or_default();
    set_key(u32::try_from(index).unwrap_or_default())
}

fn set_key(index: u32) -> String {
    format!("tenantgate.set.{index}")
}

#[cfg(test)]
mod tests;
