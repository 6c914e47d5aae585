//! Whether an answer is one that the rules allow, in the state that the world was in.

use std::time::{Duration, Instant};

use oracle::head::{Rules, folded, is_owned};
use oracle::scoping::{Kind, scoped};

use crate::history::{History, Said};
use crate::plan::{Aim, Caller, Plan, SCOPED, STORE};
use crate::population::{Population, Standing, Tenant};
use crate::upstream::{Seen, sum};

/// How long a request that was let through may be on its way to the upstream. A pause of the machine, and not a
/// decision.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// How long a stream may go on once the suspension of its tenant was acknowledged, where streams are cut; the rest is a
/// pause of the machine.
const CUT_WITHIN: Duration = Duration::from_secs(2);

/// What a client got.
#[derive(Debug, Clone)]
pub(crate) enum Got {
    /// The upstream's answer, and the lines of the header in it that is un-scoped.
    Forwarded(Box<Seen>, Vec<Vec<u8>>),
    /// An answer of somebody else: its status, and the code in its body if it has one.
    Refused(u16, String),
    /// None: the connection broke.
    Broken(String),
}

/// What is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Allowed {
    /// Being forwarded.
    passes: bool,
    /// Being answered so.
    refusals: Vec<(u16, &'static str)>,
}

/// Those who judge.
#[derive(Debug)]
pub(crate) struct Judge<'w> {
    pub(crate) people: &'w Population,
    pub(crate) history: &'w History,
    /// From when the upstream counts.
    pub(crate) upstream_started: Instant,
    /// Whether streams end when their tenant is refused.
    pub(crate) cuts: bool,
}

/// Headers that the filter sets besides `x-tenant-…`.
pub(crate) fn rules() -> Rules {
    Rules {
        owned: vec!["x-module"],
        scoped: SCOPED.iter().map(|(name, _, kind)| (*name, *kind)).collect(),
        dropped: Vec::new(),
        keeps_paths: false,
    }
}

impl Judge<'_> {
    /// What is wrong with an answer to a request that was sent and answered at those moments.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn judge(&self, plan: &Plan, (began, ended): (Instant, Instant), got: &Got) -> Result<(), String> {
        let allowed = self.allowed(plan, began, ended);
        match got {
            Got::Refused(400, _) if plan.aim == Aim::Hazard => Ok(()),
            Got::Broken(_) if self.may_be_cut(plan, began, ended) => Ok(()),
            Got::Broken(why) => Err(format!("the connection broke: {why}")),
            Got::Refused(status, code) => {
                let is_allowed = allowed
                    .refusals
                    .iter()
                    .any(|(one, other)| one == status && other == code);
                is_allowed
                    .then_some(())
                    .ok_or_else(|| format!("refused with {status} {code}, not one of {allowed:?}"))
            }
            Got::Forwarded(seen, told) if allowed.passes => self.passed(plan, seen, told),
            Got::Forwarded(seen, _) => Err(format!("forwarded as {}, and not one of {allowed:?}", seen.target)),
        }?;
        match (got, plan.tenant()) {
            (Got::Forwarded(seen, _), Some(tenant)) if plan.aim != Aim::Public => {
                self.in_time(tenant, seen)?;
                self.was_cut(tenant, ended)
            }
            _ => Ok(()),
        }
    }

    /// Nothing of a tenant arrives long after its suspension was acknowledged, whenever it was sent.
    fn in_time(&self, tenant: usize, seen: &Seen) -> Result<(), String> {
        let at = self.upstream_started + Duration::from_micros(seen.at_us);
        match self.history.suspended_since(tenant, at) {
            Some(since) if at > since + ON_ITS_WAY => Err(format!(
                "forwarded {:?} after its suspension was acknowledged",
                at - since
            )),
            _ => Ok(()),
        }
    }

    /// Whether its stream may have ended because its tenant was refused meanwhile.
    fn may_be_cut(&self, plan: &Plan, began: Instant, ended: Instant) -> bool {
        let is_swinging = |tenant: &usize| self.people.tenants[*tenant].standing == Standing::Swinging;
        let tenant = plan.tenant().filter(is_swinging).filter(|_| plan.aim != Aim::Public);
        tenant.is_some_and(|tenant| self.cuts && self.history.said(tenant, began, ended) != [Said::Active])
    }

    /// No stream of a tenant goes on long after its suspension was acknowledged.
    fn was_cut(&self, tenant: usize, ended: Instant) -> Result<(), String> {
        match self.history.suspended_since(tenant, ended) {
            Some(since) if self.cuts && ended > since + CUT_WITHIN => Err(format!(
                "went on for {:?} after its suspension was acknowledged",
                ended - since
            )),
            _ => Ok(()),
        }
    }

    fn allowed(&self, plan: &Plan, began: Instant, ended: Instant) -> Allowed {
        let only = |status, code| Allowed {
            passes: false,
            refusals: vec![(status, code)],
        };
        match (plan.aim, plan.caller) {
            (Aim::Hazard, _) => only(400, "PATH_REJECTED"),
            (Aim::Public, _) => Allowed {
                passes: true,
                refusals: Vec::new(),
            },
            (_, Caller::Bad(place)) => only(401, self.people.bad[place].code),
            (_, Caller::Tenant(tenant)) => self.of_tenant(plan, tenant, began, ended),
            (_, Caller::Turning { tenant, key }) => match self.history.has_key(key, began, ended) {
                Some(true) => self.of_tenant(plan, tenant, began, ended),
                Some(false) => only(401, "TOKEN_INVALID"),
                None => {
                    let mut allowed = self.of_tenant(plan, tenant, began, ended);
                    allowed
                        .refusals
                        .extend([(401, "TOKEN_INVALID"), (503, "KEYS_UNAVAILABLE")]);
                    allowed
                }
            },
        }
    }

    fn of_tenant(&self, plan: &Plan, place: usize, began: Instant, ended: Instant) -> Allowed {
        let tenant = &self.people.tenants[place];
        let mut allowed = Allowed::default();
        let served = match tenant.standing {
            Standing::Good => true,
            Standing::Limited => {
                allowed.refusals.push((429, "TENANT_RATE_LIMITED"));
                true
            }
            Standing::Swinging => {
                let said = self.history.said(place, began, ended);
                if said != [Said::Active] {
                    allowed.refusals.push((403, "TENANT_SUSPENDED"));
                }
                said != [Said::Suspended]
            }
            Standing::Half if plan.module() == "onboarding" => true,
            Standing::Half => {
                allowed.refusals.push((503, "SERVICE_NOT_CONFIGURED"));
                false
            }
            Standing::Frozen => refused(&mut allowed, 403, "TENANT_SUSPENDED"),
            Standing::Barred => refused(&mut allowed, 403, "TENANT_ACCESS_DENIED"),
            Standing::Unknown => refused(&mut allowed, 404, "TENANT_NOT_FOUND"),
            Standing::Unprovisioned => refused(&mut allowed, 422, "TENANT_NOT_PROVISIONED"),
            Standing::Shapeless => refused(&mut allowed, 422, "TENANT_SCHEMA_INVALID"),
        };
        if self.history.is_disturbed(began, ended) {
            allowed
                .refusals
                .extend([(503, "TENANT_MANAGER_UNAVAILABLE"), (503, "CIRCUIT_OPEN")]);
        }
        if !served {
            return allowed;
        }
        if keys(plan, tenant).is_none() {
            allowed.refusals.push((400, "KEY_REJECTED"));
        } else if plan.leaks {
            allowed.refusals.push((502, "TENANT_LEAK_BLOCKED"));
        } else {
            allowed.passes = true;
        }
        allowed
    }

    /// What the upstream saw.
    fn passed(&self, plan: &Plan, seen: &Seen, told: &[Vec<u8>]) -> Result<(), String> {
        let tenant = plan
            .tenant()
            .filter(|_| plan.aim != Aim::Public)
            .map(|place| &self.people.tenants[place]);
        let rules = rules();
        let mut owned: Vec<(String, String)> = tenant.map(|tenant| says(plan, tenant)).unwrap_or_default();
        owned.sort();
        let owned_there = seen.lines.iter().filter(|(name, _)| is_owned(&rules, name.as_bytes()));
        let mut found: Vec<_> = owned_there.cloned().collect();
        found.sort();
        same("owned headers", &found, &owned)?;
        let keys = tenant.and_then(|tenant| keys(plan, tenant)).unwrap_or_default();
        for (name, _, _) in SCOPED {
            let expected = keys
                .iter()
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value.as_str());
            same(name, &seen.values(name), &expected.collect())?;
        }
        let is_like = |name: &str| {
            SCOPED
                .iter()
                .any(|(key, _, _)| *key != name && folded(key.as_bytes()) == folded(name.as_bytes()))
        };
        if let Some((name, _)) = seen.lines.iter().find(|(name, _)| is_like(name)) {
            return Err(format!("`{name}` has come through"));
        }
        same("method", &seen.method.as_str(), &plan.method)?;
        same("target", &Some(seen.target.clone()), &target(plan, tenant))?;
        same(
            "body",
            &(seen.body_bytes, seen.body_sum),
            &(plan.body.len(), sum(&plan.body)),
        )?;
        // On the way back the caller finds its keys as it has written them.
        let sent = plan
            .lines
            .iter()
            .filter(|(name, _)| name == "x-redis-key" && tenant.is_some());
        same(
            "the keys of the answer",
            &told.to_vec(),
            &sent.map(|(_, value)| value.clone()).collect(),
        )
    }
}

fn refused(allowed: &mut Allowed, status: u16, code: &'static str) -> bool {
    allowed.refusals.push((status, code));
    false
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, not {expected:?}"))
}

/// The headers that the upstream is told about a tenant.
fn says(plan: &Plan, tenant: &Tenant) -> Vec<(String, String)> {
    let mode = if tenant.schema.is_some() { "schema" } else { "isolated" };
    let all = [
        ("x-tenant-id", Some(tenant.id.clone())),
        ("x-tenant-slug", Some(tenant.slug())),
        ("x-tenant-isolation-mode", Some(mode.to_owned())),
        ("x-tenant-schema", tenant.schema.clone()),
        ("x-module", Some(plan.module().to_owned())),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// The scoped keys of a request, in their order; `None` where one is refused.
fn keys(plan: &Plan, tenant: &Tenant) -> Option<Vec<(&'static str, String)>> {
    target(plan, Some(tenant))?;
    let mut keys = Vec::new();
    for (name, value) in &plan.lines {
        if let Some((key, _, kind)) = SCOPED.iter().find(|(key, _, _)| key == name) {
            keys.push((*key, String::from_utf8(scoped(*kind, value, &tenant.id)?).ok()?));
        }
    }
    Some(keys)
}

/// The target as the upstream gets it; `None` where it is refused.
fn target(plan: &Plan, tenant: Option<&Tenant>) -> Option<String> {
    let (Aim::Store, Some(tenant)) = (plan.aim, tenant) else {
        return Some(plan.target.clone());
    };
    let rest = plan.target.strip_prefix(STORE)?;
    let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let key = scoped(Kind::Storage, path.as_bytes(), &tenant.id)?;
    Some(format!("{STORE}/{}{query}", String::from_utf8(key).ok()?))
}

#[cfg(test)]
mod tests;
