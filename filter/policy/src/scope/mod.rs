//! Stage 6: keys that travel in headers are scoped to the tenant, and the upstream is told who
//! the tenant is. Nothing here can be reached without an [`Admitted`].
//!
//! Rules in the order they are applied:
//!
//! 1. A `required` header that is absent is 400 `KEY_REJECTED`.
//! 2. All field lines of a rule's header are scoped, also those that look scoped already: the
//!    caller is not trusted to have done it. A value that the kind refuses is 400
//!    `KEY_REJECTED`; so is any byte of 0x80 or above. Limits are on the result.
//! 3. The emitted headers are set.

mod headers;
mod redis;
mod routing;
mod storage;

pub use headers::{Edit, HeaderName, after, fold};

use crate::config::{Emit, Kind, Scope, ScopeRule};
use crate::denial::Denial;
use crate::enforce::Admitted;
use crate::request::RequestHead;

/// The field lines of scope rules, kept while a request waits: its head cannot be read later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<Vec<Vec<u8>>>);

impl Keys {
    /// Copies the values of each rule's header out of `head`.
    pub fn of(scope: &Scope, head: &RequestHead<'_>) -> Self {
        let values = |rule: &ScopeRule| head.values(rule.name.as_str().as_bytes()).map(<[u8]>::to_vec).collect();
        Self(scope.rules.iter().map(values).collect())
    }
}

/// The edits that a tenant's request gets.
///
/// # Errors
///
/// [`Denial::KeyRejected`] for the first key that cannot be scoped.
pub fn edits(scope: &Scope, keys: &Keys, admitted: &Admitted) -> Result<Vec<Edit>, Denial> {
    let tenant = admitted.tenant().as_str();
    let mut edits = Vec::new();
    for (rule, values) in scope.rules.iter().zip(&keys.0) {
        let rejected = |reason| Denial::KeyRejected {
            header: rule.name.as_str().to_owned(),
            reason,
        };
        if rule.required && values.is_empty() {
            return Err(rejected("is required"));
        }
        for (position, value) in values.iter().enumerate() {
            let scoped = key(rule, value, tenant).map_err(rejected)?.into_bytes();
            let name = rule.name.as_str().as_bytes().to_vec();
            edits.push(if position == 0 {
                Edit::Set(name, scoped)
            } else {
                Edit::Add(name, scoped)
            });
        }
    }
    emit(&scope.emit, admitted, &mut edits);
    Ok(edits)
}

/// Scopes one value by one rule, or says why it cannot be.
fn key(rule: &ScopeRule, value: &[u8], tenant: &str) -> Result<String, &'static str> {
    let value = std::str::from_utf8(value)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or("holds a byte that is not ASCII")?;
    match rule.kind {
        Kind::Routing => routing::key(value, tenant),
        Kind::Redis => redis::key(value, tenant, rule.pattern),
        Kind::Storage => storage::key(value, tenant),
    }
}

fn emit(emit: &Emit, admitted: &Admitted, edits: &mut Vec<Edit>) {
    let mut set = |name: Option<&HeaderName>, value: Option<&str>| {
        if let (Some(name), Some(value)) = (name, value) {
            edits.push(Edit::Set(name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
    };
    set(Some(&emit.tenant_id), Some(admitted.tenant().as_str()));
    set(emit.module.as_ref(), Some(admitted.module().as_str()));
    let record = admitted.record();
    set(emit.slug.as_ref(), record.and_then(|record| record.slug()));
    set(
        emit.isolation_mode.as_ref(),
        record.map(|record| record.isolation().name()),
    );
    set(emit.schema.as_ref(), admitted.schema());
    set(
        emit.vhost.as_ref(),
        record.and_then(|record| record.vhost(admitted.module())),
    );
}
