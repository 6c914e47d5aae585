//! Calls of the filter: whether they may be made, and what is known when they end.

use std::collections::BTreeMap;

use super::Model;
use super::breaker::Permit;
use super::evidence::{TENANT_PAUSE_MS, shortest_ttl_ms};
use super::knowledge::{Fetch, Lookup, Meaning};
use crate::fault::{Fault, Rule};
use crate::ledger::{About, Call, Span};
use crate::script::{Answer, KeysAnswer};

/// Fewer slots than this, and tenants share their set with many others.
pub(super) const FEW_SLOTS: u64 = 1_024;

/// Who made a call and when, as the host has it.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// The worker; the number of workers for the main thread.
    pub worker: usize,
    /// When.
    pub at_ms: u64,
    /// How long it may take.
    pub timeout_ms: u64,
}

/// What ends at a time.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// The call of this number, about a tenant.
    Lookup(usize),
    /// The list that a worker asked for.
    List {
        /// The worker.
        worker: usize,
        /// Which VM of that worker.
        life: u32,
        /// As what it was let through.
        permit: Permit,
        /// When it was made.
        asked_ms: u64,
        /// Those on it.
        list: Option<Vec<String>>,
        /// What its answer says of the Tenant Manager.
        meaning: Meaning,
    },
    /// A fetch of a worker, by its place.
    Fetch(usize, usize),
}

/// What has ended in this instant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arriving {
    /// The call of this number, about a tenant.
    Lookup(usize),
    /// A list, by its place.
    List(usize),
    /// A fetch of a worker, by its place.
    Fetch(usize, usize),
}

/// What ends when, in order.
pub(super) type Ends = BTreeMap<(u64, usize), End>;

impl Model {
    /// A call has been made, at `now_ms` at the latest. `made` is `None` where the host could not even begin it.
    pub fn calls(&mut self, number: usize, call: &Call, made: Option<Made>, now_ms: u64) -> Result<(), Fault> {
        match &call.about {
            About::Strange(path) => Rule::AuthBeforeTenant.broken(format!("the Tenant Manager was asked for {path}")),
            About::Keys(keys) => {
                if let Some(made) = made {
                    let is_late = keys.delay_ms >= made.timeout_ms;
                    let set = match &keys.answer {
                        KeysAnswer::Set(set) if !is_late => Some(set.clone()),
                        _ => None,
                    };
                    let ends_ms = made.at_ms + keys.delay_ms.min(made.timeout_ms);
                    let ends_ms = if keys.answer == KeysAnswer::Silence {
                        made.at_ms + made.timeout_ms
                    } else {
                        ends_ms
                    };
                    let (is_mixed, life) = (self.is_mixed, self.lives[made.worker]);
                    let fetches = self.knowledge.fetches.entry(made.worker).or_default();
                    let is_under_way = |fetch: &Fetch| {
                        let may_be_dead = fetch.is_lost || fetch.may_be_dropped;
                        !may_be_dead && fetch.life == life && fetch.delivered.is_none() && fetch.ends_ms > made.at_ms
                    };
                    if !is_mixed && fetches.iter().any(is_under_way) {
                        return Rule::Calls.broken(format!(
                            "worker {} fetches keys at {} ms, though it does so already: one fetch per worker",
                            made.worker, made.at_ms
                        ));
                    }
                    let end = End::Fetch(made.worker, fetches.len());
                    self.ends.insert((ends_ms, number), end);
                    fetches.push(Fetch {
                        life: self.lives[made.worker],
                        ends_ms,
                        set,
                        delivered: None,
                        is_lost: false,
                        may_be_dropped: false,
                    });
                }
                Ok(())
            }
            About::List(list) => {
                let Some(made) = made else {
                    self.breaker.blur(now_ms);
                    return Ok(());
                };
                let knobs = self.configs[self.config].clone();
                // A second API key needs no second permit.
                let permit = self.breaker.enter(&knobs, made.at_ms).unwrap_or(Permit::Unclear);
                let is_late = call.delay_ms >= made.timeout_ms;
                let meaning = match (list, is_late) {
                    (Some(_), false) => Meaning::Record(Vec::new(), None),
                    _ => Meaning::Rejected,
                };
                self.breaker.blur(made.at_ms);
                self.ends.insert(
                    (made.at_ms + call.delay_ms.min(made.timeout_ms), number),
                    End::List {
                        worker: made.worker,
                        life: self.lives[made.worker],
                        permit,
                        asked_ms: made.at_ms,
                        list: list.clone().filter(|_| !is_late),
                        meaning,
                    },
                );
                Ok(())
            }
            About::Lookup {
                tenant, key, answer, ..
            } => self.looks_up(
                number,
                call.asked,
                (tenant, *key, answer, call.delay_ms),
                (made, now_ms),
            ),
        }
    }

    fn looks_up(
        &mut self,
        number: usize,
        asked: u64,
        (tenant, key, answer, delay_ms): (&str, Option<usize>, &Answer, u64),
        (made, now_ms): (Option<Made>, u64),
    ) -> Result<(), Fault> {
        self.asks_about(tenant);
        let listed = self.knowledge.lists.iter().any(|(_, _, list)| list.contains(tenant));
        if !self.named.contains(tenant) && !listed {
            return Rule::AuthBeforeTenant.broken(format!(
                "the Tenant Manager was asked about `{tenant}`, whom no verified token has named"
            ));
        }
        let knobs = self.configs[self.config].clone();
        if key.is_none_or(|place| place > usize::from(knobs.two_api_keys)) {
            return Rule::Calls.broken(format!(
                "the Tenant Manager was asked about `{tenant}` without its API key"
            ));
        }
        let asked = Span { from: asked, to: asked };
        let mut lookup = Lookup {
            call: number,
            tenant: tenant.to_owned(),
            worker: made.map(|made| made.worker),
            life: made.map_or(0, |made| self.lives[made.worker]),
            config: self.config,
            is_mixed: self.is_mixed,
            asked,
            asked_ms: now_ms,
            ends_ms: now_ms,
            key,
            meaning: Meaning::Ill,
            delivered: Some(asked),
            is_lost: false,
            may_be_dropped: false,
            is_retry: false,
            is_retried: false,
            permit: Permit::Unclear,
        };
        if let Some(made) = made {
            let is_late = matches!(answer, Answer::Silence) || delay_ms >= made.timeout_ms;
            lookup.asked_ms = made.at_ms;
            lookup.ends_ms = made.at_ms + if is_late { made.timeout_ms } else { delay_ms };
            lookup.meaning = Meaning::of(answer, is_late);
            lookup.delivered = None;
            lookup.is_retry = self.retries(&lookup);
            if !lookup.is_retry {
                self.check_call(&lookup)?;
                self.check_background(&lookup)?;
                lookup.permit = self.breaker.enter(&knobs, made.at_ms).or_else(|why| {
                    Rule::Calls.broken(format!(
                        "worker {} asks about `{tenant}` at {} ms, though {why}",
                        made.worker, made.at_ms
                    ))
                })?;
            }
            self.ends.insert((lookup.ends_ms, number), End::Lookup(number));
        } else {
            // Refused in the middle of whatever else happens then.
            self.breaker.blur(now_ms);
        }
        self.knowledge.of.entry(tenant.to_owned()).or_default().push(number);
        self.knowledge.lookups.insert(number, lookup);
        Ok(())
    }

    /// Whether a call is the second half of one that was answered with 401. Takes note of it.
    fn retries(&mut self, lookup: &Lookup) -> bool {
        let calls = self.knowledge.of.get(&lookup.tenant).cloned().unwrap_or_default();
        // Not the last one only: after an update the old configuration's question may still be under way.
        let first = calls.into_iter().rev().find(|call| {
            let earlier = &self.knowledge.lookups[call];
            earlier.worker == lookup.worker
                && earlier.life == lookup.life
                && earlier.meaning == Meaning::Unauthorized
                && earlier.ends_ms == lookup.asked_ms
                && earlier.key != lookup.key
                && !earlier.is_retry
                && !earlier.is_retried
        });
        let Some(first) = first.and_then(|call| self.knowledge.lookups.get_mut(&call)) else {
            return false;
        };
        first.is_retried = true;
        true
    }

    /// Whether a call may be made at all.
    fn check_call(&self, new: &Lookup) -> Result<(), Fault> {
        let knobs = &self.configs[self.config];
        let who = || {
            format!(
                "worker {} asks about `{}` at {} ms",
                new.worker.unwrap_or_default(),
                new.tenant,
                new.asked_ms
            )
        };
        if self.is_mixed {
            // Whether the old configuration asks or the new one cannot be told.
            return Ok(());
        }
        for other in self.knowledge.about(&new.tenant).filter(|other| !other.is_lost) {
            let is_under_way = !other.may_be_dropped && other.delivered.is_none() && other.ends_ms > new.asked_ms;
            let is_same_vm = other.worker == new.worker && other.life == new.life;
            if is_under_way && is_same_vm {
                return Rule::Calls.broken(format!(
                    "{}, though its call of {} ms is under way until {} ms: one lookup per tenant and worker",
                    who(),
                    other.asked_ms,
                    other.ends_ms
                ));
            }
            if knobs.shared_slots < FEW_SLOTS {
                continue;
            }
            if other.meaning == Meaning::Rejected
                && other.ends_ms < new.asked_ms
                && new.asked_ms < other.ends_ms + TENANT_PAUSE_MS
                && !self.knowledge.may_be_overtaken(other, new.asked)
            {
                return Rule::Calls.broken(format!(
                    "{}, though the answer of {} ms says that nobody is to ask about it for a second",
                    who(),
                    other.ends_ms
                ));
            }
            self.check_against_record(new, other, &who)?;
        }
        Ok(())
    }

    /// Whether there has been more than one configuration.
    pub(super) fn has_updated(&self) -> bool {
        !self.knowledge.updates.is_empty()
    }

    /// What the node knows for sure needs no asking.
    fn check_against_record(&self, new: &Lookup, known: &Lookup, who: &impl Fn() -> String) -> Result<(), Fault> {
        let knobs = &self.configs[self.config];
        let is_record = matches!(known.meaning, Meaning::Record(..));
        let is_known = known.delivered.is_some_and(|span| span.is_before(new.asked)) && known.ends_ms < new.asked_ms;
        let fresh_ms = known.ends_ms + shortest_ttl_ms(knobs);
        let stale_ms = fresh_ms + knobs.stale_s * 1_000;
        if !is_record
            || !is_known
            || knobs.discovery_s.is_some()
            || new.asked_ms >= stale_ms
            || self.knowledge.may_be_overtaken(known, new.asked)
        {
            return Ok(());
        }
        if new.asked_ms < fresh_ms {
            return Rule::Calls.broken(format!(
                "{}, though its record of {} ms is fresh until {fresh_ms} ms at least",
                who(),
                known.ends_ms
            ));
        }
        let refresh = self.knowledge.about(&new.tenant).find(|other| {
            !other.is_lost
                && !other.may_be_dropped
                && other.delivered.is_none()
                && other.asked_ms < new.asked_ms
                && other.asked_ms > known.ends_ms
                && other.ends_ms > new.asked_ms
        });
        match refresh {
            Some(refresh) => Rule::Calls.broken(format!(
                "{}, though worker {} refreshes it since {} ms: one refresh per node",
                who(),
                refresh.worker.unwrap_or_default(),
                refresh.asked_ms
            )),
            None => Ok(()),
        }
    }

    /// Takes in everything that has ended by now, in its order.
    pub fn delivers(&mut self, now_ms: u64, span: Span) {
        while let Some(entry) = self.ends.first_entry() {
            let (at_ms, _) = *entry.key();
            if at_ms > now_ms {
                break;
            }
            let knobs = self.configs[self.config].clone();
            match entry.remove() {
                End::Lookup(call) => {
                    let Some(lookup) = self.knowledge.lookups.get_mut(&call) else {
                        continue;
                    };
                    if lookup.is_lost {
                        continue;
                    }
                    lookup.delivered = Some(span);
                    self.arriving.push(Arriving::Lookup(call));
                    let time_left = lookup.ends_ms < lookup.asked_ms + knobs.timeout_ms;
                    let is_asked_again =
                        lookup.meaning == Meaning::Unauthorized && knobs.two_api_keys && !lookup.is_retry && time_left;
                    let (permit, asked_ms, meaning) = (lookup.permit, lookup.asked_ms, lookup.meaning.clone());
                    if is_asked_again {
                        continue;
                    }
                    let permit = if lookup.is_retry {
                        self.first_permit(call)
                    } else {
                        permit
                    };
                    self.breaker.leave(&knobs, permit, asked_ms, &meaning, at_ms);
                }
                End::List {
                    worker,
                    life,
                    permit,
                    asked_ms,
                    list,
                    meaning,
                } => {
                    if self.lives[worker] == life {
                        self.breaker.leave(&knobs, permit, asked_ms, &meaning, at_ms);
                        if let Some(list) = list {
                            self.arriving.push(Arriving::List(self.knowledge.lists.len()));
                            self.knowledge.lists.push((span, at_ms, list.into_iter().collect()));
                        }
                    }
                }
                End::Fetch(worker, place) => {
                    let fetches = self.knowledge.fetches.get_mut(&worker);
                    if let Some(fetch) = fetches.and_then(|fetches| fetches.get_mut(place))
                        && !fetch.is_lost
                    {
                        fetch.delivered = Some(span);
                        self.arriving.push(Arriving::Fetch(worker, place));
                    }
                }
            }
        }
    }

    /// Where something is still due in this instant, what has ended in it may come with it, and not before.
    pub fn settles(&mut self, span: Span, is_settled: bool) {
        for arriving in &self.arriving {
            let delivered = match arriving {
                Arriving::Lookup(call) => {
                    let lookup = self.knowledge.lookups.get_mut(call);
                    lookup.and_then(|lookup| lookup.delivered.as_mut())
                }
                Arriving::Fetch(worker, place) => {
                    let fetches = self.knowledge.fetches.get_mut(worker);
                    fetches.and_then(|fetches| fetches[*place].delivered.as_mut())
                }
                Arriving::List(place) => self.knowledge.lists.get_mut(*place).map(|(span, _, _)| span),
            };
            if let Some(delivered) = delivered {
                delivered.to = delivered.to.max(span.to);
            }
        }
        if is_settled {
            self.arriving.clear();
        }
    }

    /// The permit of the call that this one repeats.
    fn first_permit(&self, call: usize) -> Permit {
        let retry = &self.knowledge.lookups[&call];
        let first = self
            .knowledge
            .about(&retry.tenant)
            .find(|first| first.is_retried && first.worker == retry.worker && first.ends_ms == retry.asked_ms);
        first.map_or(Permit::Unclear, |first| first.permit)
    }
}
