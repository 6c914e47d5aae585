//! Rule 1 of enforcement: what the Tenant Manager says about the tenant.

use std::rc::Rc;

use crate::denial::Denial;
use crate::resolve::{Outcome, Record};
use crate::tenant_id::TenantId;

/// The record of a tenant that is not refused. An absent `status` counts as `active`; any other
/// value, in exact case, is a refusal with that status.
pub(super) fn check<'o>(tenant: &TenantId, outcome: &'o Outcome) -> Result<&'o Rc<Record>, Denial> {
    match outcome {
        Outcome::Found(record) if record.is_active() => Ok(record),
        Outcome::Found(record) => Err(Denial::TenantRefused {
            status: record.status().unwrap_or_default().to_owned(),
        }),
        Outcome::Refused { status } => Err(Denial::TenantRefused { status: status.clone() }),
        Outcome::AccessDenied => Err(Denial::AccessDenied),
        Outcome::NotFound => Err(Denial::TenantNotFound(tenant.clone())),
        Outcome::NotProvisioned => Err(Denial::NotProvisioned),
        Outcome::Unavailable(why) => Err(Denial::Unavailable(*why)),
    }
}
