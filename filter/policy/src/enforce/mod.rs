//! Stage 5: may this tenant use this module now?
//!
//! Rules in the order they are applied:
//!
//! 1. Status: a tenant that the Tenant Manager refuses, does not know or has not provisioned is
//!    denied ([`status`]). While nothing is known of it the request is denied too, or with
//!    `on_unavailable: allow` goes on (unless too many wait) without the second rule, marked as unverified.
//! 2. Module: the record's `databases` must list the module of the path, and every other one that
//!    a lenient server may take the path for ([`module`]); in schema mode each needs a usable
//!    schema.
//!
//! 3. Rate: the tenant may make so many requests on this node ([`rate`]).
//!
//! Without a `tenant_manager` there is no record, and the first two rules do not apply. A request that
//! passes a second time, after an internal redirect, is judged again, but counted once.

mod module;
pub mod rate;
mod status;

use std::rc::Rc;

use self::rate::{Limiter, Quota};
use crate::config::{Module, OnUnavailable};
use crate::denial::Denial;
use crate::node::Node;
use crate::path::Destination;
use crate::resolve::{Outcome, Record, Unavailable};
use crate::tenant_id::TenantId;

/// The proof that a request may be forwarded in a tenant's name. Only [`admit`] makes one, and
/// only it makes header edits that carry a tenant.
#[derive(Debug)]
pub struct Admitted {
    tenant: TenantId,
    to: Destination,
    record: Option<Rc<Record>>,
    is_unverified: bool,
    is_second_pass: bool,
    quota: Option<Quota>,
}

/// A request of which everything is known that this stage judges.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it leads.
    pub to: Destination,
    /// What the Tenant Manager says; `None` where none is configured.
    pub outcome: Option<&'a Outcome>,
    /// Whether an earlier pass has scoped it.
    pub is_second_pass: bool,
}

impl Admitted {
    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The module of the path.
    pub fn module(&self) -> &Module {
        &self.to.module
    }

    /// The tenant's record, where a Tenant Manager is configured.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_deref()
    }

    /// Whether nothing but the verified claim speaks for it (`on_unavailable: allow`).
    pub fn is_unverified(&self) -> bool {
        self.is_unverified
    }

    /// Whether an earlier pass has scoped the request.
    pub fn is_second_pass(&self) -> bool {
        self.is_second_pass
    }

    /// What is left of the tenant's rate, where it is limited.
    pub fn quota(&self) -> Option<Quota> {
        self.quota
    }

    /// The module's schema, in schema mode.
    pub fn schema(&self) -> Option<&str> {
        self.record().and_then(|record| record.schema(&self.to.module))
    }
}

/// Applies the rules of this stage. `limiter` is `None` where no rate is limited.
///
/// # Errors
///
/// The denial of the first rule that fails.
pub fn admit(
    candidate: Candidate<'_>,
    on_unavailable: OnUnavailable,
    limiter: Option<&mut Limiter>,
    node: &impl Node,
) -> Result<Admitted, Denial> {
    let Candidate {
        tenant,
        to,
        outcome,
        is_second_pass,
    } = candidate;
    // Not where too many ask at once: callers could bring that about themselves.
    let is_unverified = on_unavailable == OnUnavailable::Allow
        && matches!(outcome, Some(Outcome::Unavailable(why)) if *why != Unavailable::Overloaded);
    let record = match outcome {
        None => None,
        Some(_) if is_unverified => None,
        Some(outcome) => {
            let record = status::check(&tenant, outcome)?;
            for module in std::iter::once(&to.module).chain(&to.readings) {
                module::check(record, module)?;
            }
            Some(Rc::clone(record))
        }
    };
    let quota = match limiter.filter(|_| !is_second_pass) {
        None => None,
        Some(limiter) => {
            let tells = limiter.tells();
            let admitted = limiter.admit(&tenant, node).map_err(|too_many| Denial::RateLimited {
                retry_after_ms: too_many.retry_after_ms,
                quota: tells.then_some(too_many.quota),
            })?;
            tells.then_some(admitted)
        }
    };
    Ok(Admitted {
        tenant,
        to,
        record,
        is_unverified,
        is_second_pass,
        quota,
    })
}

#[cfg(test)]
mod tests;
