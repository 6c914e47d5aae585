//! The way of an answer: what a lookup asks, what its answer says, and who is told.

use std::rc::Rc;

use super::breaker::Health;
use super::freshness::Times;
use super::inflight::Lookup;
use super::set::Verdict;
use super::shared::{Kept, Stamp};
use super::{LookupId, Outcome, Resolver, Tidings, Unavailable, lookup};
use crate::config::{Config, TenantManager};
use crate::errand::{Answer, Answered, Awaited, Callout, Learned};
use crate::node::Node;
use crate::remark::Remark;
use crate::telemetry::{Counter, Histogram, LookupFailure};

/// How often the log hears of lookups that go on failing.
const COMPLAINT_MS: u64 = 60_000;

impl Resolver {
    /// The first call of a lookup; `None` when the lookup is over or was started before.
    pub(crate) fn question(&mut self, config: &Config, id: LookupId) -> Option<Callout> {
        let manager = config.tenant_manager.as_ref()?;
        let lookup = self.inflight.find(id).filter(|lookup| lookup.attempts == 0)?;
        let key = lookup.key;
        Some(lookup.ask(config, manager, key, manager.timeout_ms))
    }

    /// Takes an answer in. Gives the outcome for whoever waits, or the next call to make.
    pub(crate) fn answered(&mut self, config: &Config, id: LookupId, answer: Answer<'_>, node: &impl Node) -> Answered {
        let Some(manager) = config.tenant_manager.as_ref() else {
            return Answered::FORGOTTEN;
        };
        let now_ms = node.monotonic_ms();
        if let Some(callout) = self.other_key(config, manager, id, answer, now_ms) {
            return Answered::Again(callout);
        }
        let Some(lookup) = self.inflight.finish(id) else {
            return Answered::FORGOTTEN;
        };
        node.observe(Histogram::LookupDuration, now_ms.saturating_sub(lookup.begun_ms));
        let result = lookup::outcome(answer, &lookup.tenant, config);
        let health = match result {
            Ok(_) => Health::Good,
            Err(failure) => lookup::health(failure, answer),
        };
        let accepted = result.is_ok().then_some(lookup.key);
        let mut remarks = self
            .gate
            .leave(manager, lookup.permit, (health, accepted), now_ms, node);
        // Before anything of the node is read: what changes from here on is heard by the waiters.
        self.listen(node);
        let heard = self.log.heard();
        let tenant = &lookup.tenant;
        let outcome = match result {
            Ok(outcome) => {
                if matches!(outcome, Outcome::Found(_)) {
                    node.count(Counter::TenantConnections);
                }
                self.keep(manager, &lookup, Rc::new(outcome), now_ms, node)
            }
            Err(failure) => {
                node.count(Counter::TenantConnectionErrors(failure));
                remarks.extend(self.complaint(manager, &lookup, (failure, answer), now_ms));
                let layout = self.log.layout();
                if let (LookupFailure::Rejected, Some(layout)) = (failure, layout) {
                    let until_ms = now_ms.saturating_add(lookup::SHORTEST_PAUSE_MS);
                    self.table.pause(tenant.as_str(), layout, (now_ms, until_ms), node);
                }
                let unavailable = match (failure, health) {
                    (LookupFailure::RateLimited, Health::Unclear(pause_ms)) => Unavailable::Paused(pause_ms),
                    _ => Unavailable::Failed(failure),
                };
                let view = self.view(tenant, now_ms, node);
                Some(self.without_answer(manager, tenant, (view.as_ref(), unavailable), now_ms, node))
            }
        };
        self.background.over(id);
        self.pump(manager, now_ms, node);
        let tidings = Tidings { outcome, heard };
        Answered::Over {
            news: Some((Awaited::Lookup(id), Learned::Tenant(tidings))),
            remarks,
        }
    }

    /// Caches what a lookup has brought, on the node and here; `None` when the tenant has been
    /// invalidated since the lookup began.
    fn keep(
        &mut self,
        manager: &TenantManager,
        lookup: &Lookup,
        outcome: Rc<Outcome>,
        now_ms: u64,
        node: &impl Node,
    ) -> Option<Rc<Outcome>> {
        let rules = &manager.cache;
        let times = match *outcome {
            Outcome::Found(_) => Times::of_record(rules, now_ms, node),
            _ => Times::of_refusal(rules, now_ms, rules.negative_ttl_ms),
        };
        // Everything has been invalidated since, which moves no generation, or what has been cannot be
        // told.
        if lookup.stamp.map(Stamp::layout) != self.log.layout() {
            return None;
        }
        // Where the node cannot be asked what has been invalidated, nothing is remembered.
        let Some(stamp) = lookup.stamp else {
            return Some(outcome);
        };
        let tenant = lookup.tenant.as_str();
        match self
            .table
            .keep(tenant, stamp, (Verdict::of(&outcome), times), now_ms, node)
        {
            Ok(Kept::Yes { refutes }) => {
                // Streams may be open for longer than any record holds.
                if refutes || (self.touched.is_some() && outcome.refuses()) {
                    match self.log.publish(&[tenant], stamp.layout(), node) {
                        Ok(published) => self.log.skip(published),
                        Err(_) => {
                            self.log.distrust();
                            return None;
                        }
                    }
                }
                self.remember(lookup.tenant.clone(), Rc::clone(&outcome), times, now_ms, node);
                Some(outcome)
            }
            Ok(Kept::Outdated) => None,
            Ok(Kept::Ahead) => {
                self.log.distrust();
                self.listen(node);
                if self.log.layout() == Some(stamp.layout()) {
                    self.table.drop_later(tenant, stamp.layout(), node);
                }
                None
            }
            Err(_) => {
                let is_current = self
                    .view(&lookup.tenant, now_ms, node)
                    .is_some_and(|view| view.stamp == stamp);
                is_current.then_some(outcome)
            }
        }
    }

    /// A failure that the log should hear of: each kind at most once a minute.
    fn complaint(
        &mut self,
        manager: &TenantManager,
        lookup: &Lookup,
        (failure, answer): (LookupFailure, Answer<'_>),
        now_ms: u64,
    ) -> Option<Remark> {
        self.quiet_until_ms.retain(|(_, until_ms)| now_ms < *until_ms);
        if self.quiet_until_ms.iter().any(|(quiet, _)| *quiet == failure) {
            return None;
        }
        self.quiet_until_ms.push((failure, now_ms.saturating_add(COMPLAINT_MS)));
        Some(Remark::LookupsFail {
            failure,
            status: match answer {
                Answer::Http { status, .. } => Some(status),
                Answer::Unreachable => None,
            },
            tenant: lookup.tenant.clone(),
            cluster: manager.cluster.clone(),
        })
    }

    /// After the first 401, the call with the other API key in what is left of the time.
    fn other_key(
        &mut self,
        config: &Config,
        manager: &TenantManager,
        id: LookupId,
        answer: Answer<'_>,
        now_ms: u64,
    ) -> Option<Callout> {
        let lookup = self.inflight.find(id)?;
        let tried = lookup::Tried {
            key: lookup.key,
            attempts: lookup.attempts,
            ends_ms: lookup.ends_ms,
        };
        let (other, timeout_ms) = tried.after_401(manager, answer, now_ms)?;
        Some(lookup.ask(config, manager, other, timeout_ms))
    }
}
