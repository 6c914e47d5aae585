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
//! Without a `tenant_manager` there is no record and neither rule applies.

mod module;
mod status;

use std::rc::Rc;

use crate::config::Module;
use crate::denial::Denial;
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

    /// The module's schema, in schema mode.
    pub fn schema(&self) -> Option<&str> {
        self.record().and_then(|record| record.schema(&self.to.module))
    }
}

/// Applies the rules of this stage. `outcome` is `None` where no Tenant Manager is configured;
/// `allow_unavailable` is `on_unavailable: allow`.
///
/// # Errors
///
/// The denial of the first rule that fails.
pub fn admit(
    tenant: TenantId,
    to: Destination,
    outcome: Option<&Outcome>,
    allow_unavailable: bool,
) -> Result<Admitted, Denial> {
    // Not where too many ask at once: callers could bring that about themselves.
    let is_unverified =
        allow_unavailable && matches!(outcome, Some(Outcome::Unavailable(why)) if *why != Unavailable::Overloaded);
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
    Ok(Admitted {
        tenant,
        to,
        record,
        is_unverified,
    })
}

#[cfg(test)]
mod tests;
