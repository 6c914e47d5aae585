//! Whether a decision is one that the filter may make.

use tiny_envoy::PeerRequest;

use super::evidence::longest_ttl_ms;
use super::keys::{Place, is_rejected, place};
use super::knowledge::{Effect, Lookup, Meaning, is_schema};
use super::passes::{Pass, is_outside};
use super::upstream::{check_bare, check_head, check_trailers};
use super::{Decision, Model, Seen, Settled};
use crate::fault::{Fault, Rule};
use crate::peers;

impl Model {
    /// Judges what a request has come to.
    pub fn judge(&mut self, settled: &Settled, decision: &Decision) -> Result<(), Fault> {
        match decision {
            Decision::Forwarded(sent) => self.judge_forwarded(settled, sent),
            Decision::Denied(denied) => {
                self.check_reply(settled, denied)?;
                if self.reports(&settled.seen) && denied.code != "INTERNAL_ERROR" {
                    return self.unexpected(settled, &denied.code, "nobody is denied where it is only reported");
                }
                self.judge_denied(settled, &denied.code)
            }
            Decision::Reported(sent, code) => {
                check_bare(&settled.seen.request, sent)?;
                self.judge_denied(settled, code)
            }
        }
    }

    /// Judges what has reached the upstream of a request once all of it has.
    pub fn judge_whole(&self, settled: &Settled, sent: &PeerRequest) -> Result<(), Fault> {
        check_trailers(&settled.seen.request, &sent.trailers)
    }

    fn judge_forwarded(&mut self, settled: &Settled, sent: &PeerRequest) -> Result<(), Fault> {
        let request = &settled.seen.request;
        let id = request.id;
        let module = match place(&request.method, &request.path) {
            Place::Public => return check_bare(request, sent),
            Place::Hazardous => {
                return Rule::Decision.broken(format!("request {id} to the hazardous {} was forwarded", request.path));
            }
            Place::Events => return Rule::Decision.broken(format!("request {id} to the filter itself was forwarded")),
            Place::Module(module) => module,
        };
        let pass = self.pass(&settled.seen);
        if pass == Pass::Unclear {
            return Rule::Identity.broken(format!(
                "request {id} was forwarded, though nobody knows who has scoped its keys: {:?}",
                request.headers
            ));
        }
        let verdict = self.verdict(settled);
        let Some(tenant) = verdict.tenant else {
            return Rule::Identity.broken(format!(
                "request {id} was forwarded as {:?}, though its credential does not hold",
                sent.headers.text("x-tenant-id")
            ));
        };
        let knobs = self.knobs(settled.seen.config).clone();
        if self.must_reject(settled, &tenant) {
            return Rule::Identity.broken(format!(
                "request {id} of `{tenant}` was forwarded, though a key of it has no scope: {:?}",
                request.headers
            ));
        }
        let slug = sent.headers.text("x-tenant-slug");
        let mut owned = vec![("x-tenant-id", tenant.clone()), ("x-tenant-module", module.to_owned())];
        match &slug {
            Some(slug) => {
                owned.push(("x-tenant-slug", slug.clone()));
                let call = peers::call_of(slug).and_then(|call| self.knowledge.lookups.get(&call));
                let schema = call.and_then(|lookup| match &lookup.meaning {
                    Meaning::Record(_, schema) => schema.clone(),
                    _ => None,
                });
                let mode = if schema.is_some() { "schema" } else { "isolated" };
                owned.push(("x-tenant-isolation-mode", mode.to_owned()));
                owned.extend(schema.map(|schema| ("x-tenant-schema", schema)));
            }
            None => owned.push(("x-tenant-resolution", "unverified".to_owned())),
        }
        check_head(request, (&tenant, &pass), sent, &owned)?;
        // However often it passes, it counts once.
        if let Some(rate) = knobs.rate.filter(|_| pass == Pass::First) {
            let unsure = self.unsure.get(&tenant).copied().unwrap_or_default();
            let slack = 2 * (self.workers as u64) + 1 + unsure;
            if !self.buckets.take(rate, &tenant, settled.decided_ms, slack) {
                return Rule::Decision.broken(format!("request {id}: `{tenant}` is over its rate"));
            }
        }
        self.check_not_refused(settled, &tenant)?;
        match slug {
            Some(slug) => self.check_record(settled, &tenant, module, &slug),
            None if !knobs.allows_unverified => {
                Rule::Identity.broken(format!("request {id} of `{tenant}` was forwarded unverified"))
            }
            None if !self.may_be_unavailable(&tenant, settled) => Rule::Decision.broken(format!(
                "request {id} of `{tenant}` was forwarded unverified, though the Tenant Manager could be asked"
            )),
            None => Ok(()),
        }
    }

    /// Whether a request has a key that cannot be scoped, is not in its scope as it should be, or is missing.
    fn must_reject(&self, settled: &Settled, tenant: &str) -> bool {
        let Seen { request, config, .. } = &settled.seen;
        let requires = self.knobs(*config).required_key;
        match self.pass(&settled.seen) {
            Pass::Second(_) => is_outside(request, tenant, requires),
            Pass::First | Pass::Unclear => is_rejected(request, tenant, requires),
        }
    }

    /// A request that was denied behind the rate limit has counted.
    fn may_have_counted(&mut self, settled: &Settled) {
        let rate = self.knobs(settled.seen.config).rate;
        let tenant = self.verdict(settled).tenant;
        if let (Some(rate), Some(tenant), Pass::First) = (rate, tenant, self.pass(&settled.seen)) {
            self.buckets
                .take(rate, &tenant, settled.decided_ms, u64::MAX / 10_000_000);
            *self.unsure.entry(tenant).or_default() += 1;
        }
    }

    /// After an acknowledged refusal nobody is forwarded.
    fn check_not_refused(&self, settled: &Settled, tenant: &str) -> Result<(), Fault> {
        for event in self.knowledge.events(tenant) {
            let holds = event.effect == Effect::Refuse
                && event.span.is_before(settled.decided)
                && settled.decided_ms < event.at_ms + event.for_ms;
            let may_be_lifted = || {
                self.knowledge.events(tenant).any(|later| {
                    (later.effect == Effect::Lift || later.tenant.is_none())
                        && !later.span.is_before(event.span)
                        && !settled.decided.is_before(later.span)
                })
            };
            if holds && !may_be_lifted() {
                return Rule::Refusal.broken(format!(
                    "request {} was forwarded as `{tenant}` at {} ms, though an event that refuses it was acknowledged at {} ms",
                    settled.seen.request.id, settled.decided_ms, event.at_ms
                ));
            }
        }
        Ok(())
    }

    /// A request is forwarded by a record that may be used.
    fn check_record(&mut self, settled: &Settled, tenant: &str, module: &str, slug: &str) -> Result<(), Fault> {
        let id = settled.seen.request.id;
        let lookup = peers::call_of(slug).and_then(|call| self.knowledge.lookups.get(&call));
        let Some(lookup) = lookup.filter(|lookup| lookup.tenant == tenant) else {
            return Rule::Identity.broken(format!(
                "request {id} of `{tenant}` was forwarded by `{slug}`, no record of it"
            ));
        };
        let Meaning::Record(modules, schema) = &lookup.meaning else {
            return Rule::Decision.broken(format!(
                "request {id} of `{tenant}` was forwarded by `{slug}`, which is {:?}",
                lookup.meaning
            ));
        };
        let Some(delivered) = lookup.delivered.filter(|_| !lookup.is_lost) else {
            return Rule::Decision.broken(format!("request {id} of `{tenant}` knows `{slug}` before it has come"));
        };
        if !modules.iter().any(|granted| granted == module) {
            return Rule::Decision.broken(format!(
                "request {id} of `{tenant}` was forwarded to `{module}`, which `{slug}` does not list: {modules:?}"
            ));
        }
        if schema.as_deref().is_some_and(|schema| !is_schema(schema)) {
            return Rule::Decision.broken(format!(
                "request {id} of `{tenant}` was forwarded by `{slug}`, whose schema is {schema:?}"
            ));
        }
        if self.knowledge.is_void(lookup, settled.decided) {
            return Rule::Refusal.broken(format!(
                "request {id} of `{tenant}` was forwarded at {} ms by `{slug}` of {} ms, though an event in between was acknowledged",
                settled.decided_ms, lookup.ends_ms
            ));
        }
        self.check_not_refuted(settled, lookup)?;
        let knobs = self.knobs(settled.seen.config);
        // Whoever waited longest was told when it came.
        let age_ms = settled.decided_ms - lookup.ends_ms;
        let stale_ms = longest_ttl_ms(knobs) + knobs.stale_s * 1_000;
        if age_ms < stale_ms || !delivered.is_before(settled.seen.begun) {
            self.stale.extend(self.owed(settled, lookup, age_ms));
            return Ok(());
        }
        if age_ms >= stale_ms + knobs.fallback_s * 1_000 {
            return Rule::Decision.broken(format!(
                "request {id} of `{tenant}` was forwarded by `{slug}`, which is {age_ms} ms old"
            ));
        }
        if !self.may_be_unavailable(tenant, settled) {
            return Rule::Decision.broken(format!(
                "request {id} of `{tenant}` was forwarded by `{slug}`, which is {age_ms} ms old, though the Tenant Manager could be asked"
            ));
        }
        Ok(())
    }

    /// Once a worker has learned that a tenant is refused or gone, nobody serves what was asked before.
    fn check_not_refuted(&self, settled: &Settled, lookup: &Lookup) -> Result<(), Fault> {
        for refusal in self.knowledge.about(&lookup.tenant) {
            let Some(delivered) = refusal
                .delivered
                .filter(|_| refusal.meaning.refuses() && !refusal.is_lost)
            else {
                continue;
            };
            let is_later = lookup.asked.is_before(delivered) && delivered.is_before(settled.decided);
            // One that was begun after the record had come, or whose record came after it.
            let is_certain = refusal.config == lookup.config
                && !refusal.is_mixed
                && !lookup.is_mixed
                && lookup.asked.is_before(refusal.asked)
                && !self.knowledge.may_be_overtaken(refusal, delivered);
            if is_later && is_certain {
                return Rule::Refusal.broken(format!(
                    "request {} of `{}` was forwarded at {} ms by what was asked at {} ms, though worker {} has learned at {} ms that it is {:?}",
                    settled.seen.request.id,
                    lookup.tenant,
                    settled.decided_ms,
                    lookup.asked_ms,
                    refusal.worker.unwrap_or_default(),
                    refusal.ends_ms,
                    refusal.meaning
                ));
            }
        }
        Ok(())
    }

    fn judge_denied(&mut self, settled: &Settled, code: &str) -> Result<(), Fault> {
        let request = settled.seen.request.clone();
        if code == "INTERNAL_ERROR" && self.may_be_stuck(settled) {
            self.may_have_counted(settled);
            return Ok(());
        }
        let module = match place(&request.method, &request.path) {
            Place::Events => return Ok(()),
            Place::Hazardous if code == "PATH_REJECTED" => return Ok(()),
            Place::Hazardous | Place::Public => return self.unexpected(settled, code, "of its path"),
            Place::Module(module) => module,
        };
        let pass = self.pass(&settled.seen);
        if pass == Pass::Unclear {
            return if code == "KEY_REJECTED" {
                Ok(())
            } else {
                self.unexpected(settled, code, "nobody knows who has scoped its keys")
            };
        }
        let verdict = self.verdict(settled);
        if verdict.codes.contains(code) {
            return Ok(());
        }
        let Some(tenant) = verdict.tenant else {
            return self.unexpected(settled, code, "its credential does not hold");
        };
        let knobs = self.knobs(settled.seen.config).clone();
        let may_be = match code {
            "KEY_REJECTED" => {
                self.may_have_counted(settled);
                self.must_reject(settled, &tenant)
            }
            "TENANT_SUSPENDED" => {
                self.may_be_refused_by_event(&tenant, settled)
                    || self.may_be_told(&tenant, settled, &Meaning::Refused)
                    || self.may_be_told(&tenant, settled, &Meaning::Inactive)
            }
            "TENANT_ACCESS_DENIED" => self.may_be_told(&tenant, settled, &Meaning::Denied),
            "TENANT_NOT_FOUND" => self.may_be_told(&tenant, settled, &Meaning::Unknown),
            "TENANT_NOT_PROVISIONED" => self.may_be_told(&tenant, settled, &Meaning::Unprovisioned),
            "SERVICE_NOT_CONFIGURED" => self.may_say(&tenant, settled, |modules, _| {
                !modules.iter().any(|granted| granted == module)
            }),
            "TENANT_SCHEMA_INVALID" => self.may_say(&tenant, settled, |modules, schema| {
                let is_granted = modules.iter().any(|granted| granted == module);
                is_granted && schema.is_some_and(|schema| !is_schema(schema))
            }),
            "TENANT_RATE_LIMITED" => knobs.rate.filter(|_| pass == Pass::First).is_some_and(|rate| {
                let slack = self.workers as u64;
                settled.seen.is_in_burst || self.buckets.may_be_empty(rate, &tenant, settled.decided_ms, slack)
            }),
            "TENANT_LOOKUP_OVERLOADED" => self.may_be_overloaded(&tenant, settled),
            "TENANT_MANAGER_UNAVAILABLE" => self.may_be_unavailable(&tenant, settled),
            "CIRCUIT_OPEN" => self.may_be_open(&knobs, settled.seen.begun_ms, settled.seen.request.id),
            _ => false,
        };
        if may_be {
            return Ok(());
        }
        let about = format!(
            "its token is good, and nothing that is known of `{tenant}` says so: the Tenant Manager {}",
            self.last_words(&tenant)
        );
        self.unexpected(settled, code, &about)
    }

    fn unexpected(&self, settled: &Settled, code: &str, why: &str) -> Result<(), Fault> {
        let request = &settled.seen.request;
        Rule::Decision.broken(format!(
            "request {} ({} {}) was denied at {} ms with {code}, though {why}",
            request.id, request.method, request.path, settled.decided_ms
        ))
    }

    /// What the Tenant Manager said last of a tenant.
    fn last_words(&self, tenant: &str) -> String {
        self.knowledge.about(tenant).next().map_or_else(
            || "has not been asked".to_owned(),
            |lookup| {
                let Lookup {
                    meaning,
                    asked_ms,
                    ends_ms,
                    ..
                } = lookup;
                format!("was asked last at {asked_ms} ms, and its answer of {ends_ms} ms is {meaning:?}")
            },
        )
    }
}
