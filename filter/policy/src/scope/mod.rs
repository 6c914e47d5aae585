//! Stage 6: keys that travel in headers and in the path are scoped to the tenant, and the upstream is
//! told who the tenant is. Only an [`Admitted`] makes edits that carry a tenant.
//!
//! Rules in the order they are applied:
//!
//! 1. A `required` header that is absent is 400 `KEY_REJECTED`.
//! 2. All field lines of a rule's header are scoped, also those that look scoped already: the
//!    caller is not trusted to have done it. A value that the kind refuses is 400
//!    `KEY_REJECTED`; so is any byte of 0x80 or above. Limits are on the result.
//! 3. A path behind a prefix of `scope.path` is scoped likewise ([`path`]).
//! 4. The emitted headers are set, `x-tenant-resolution` among them where the tenant could not be
//!    looked up.
//!
//! A request that an earlier pass has scoped, before an internal redirect, is not scoped again: what
//! it carries must be inside the tenant's scope then, or it is refused. On the way back
//! [`response`] takes the scope off.

mod headers;
mod path;
mod redis;
pub mod response;
mod routing;
mod storage;

pub use headers::{Edit, HeaderName, after, fold};

use self::path::Target;
use crate::config::{Emit, Kind, Scope, ScopeRule};
use crate::denial::Denial;
use crate::enforce::Admitted;
use crate::request::RequestHead;

/// Tells the upstream that nothing but the verified claim speaks for the tenant.
const RESOLUTION: &[u8] = b"x-tenant-resolution";
/// Longest claim that is copied into a header, in bytes.
const MAX_CLAIM_BYTES: usize = 1_024;

/// What is to be scoped, kept while a request waits: its head cannot be read later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The field lines of each rule.
    headers: Vec<Vec<Vec<u8>>>,
    target: Target,
}

impl Keys {
    /// Copies the values of each rule's header, and a path that is to be scoped, out of `head`.
    pub fn of(scope: &Scope, head: &RequestHead<'_>) -> Self {
        let values = |rule: &ScopeRule| head.values(rule.name.as_str().as_bytes()).map(<[u8]>::to_vec).collect();
        Self {
            headers: scope.rules.iter().map(values).collect(),
            target: Target::of(&scope.paths, head),
        }
    }

    /// Whether there is nothing to scope.
    pub fn are_none(&self) -> bool {
        self.target == Target::Elsewhere && self.headers.iter().all(Vec::is_empty)
    }
}

/// Whom a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing<'v> {
    /// It is in the tenant's scope; what it is there.
    Own(&'v str),
    /// It is in another's scope, or might be.
    Foreign,
    /// It is in nobody's.
    Unscoped,
}

/// The edits that a tenant's request gets.
///
/// # Errors
///
/// [`Denial::KeyRejected`] for the first key that cannot be scoped.
pub fn edits(scope: &Scope, keys: &Keys, admitted: &Admitted) -> Result<Vec<Edit>, Denial> {
    let tenant = admitted.tenant().as_str();
    let mut edits = Vec::new();
    for (rule, values) in scope.rules.iter().zip(&keys.headers) {
        let rejected = |reason| Denial::KeyRejected {
            header: rule.name.as_str().to_owned(),
            reason,
        };
        if rule.required && values.is_empty() {
            return Err(rejected("is required"));
        }
        for (position, value) in values.iter().enumerate() {
            if admitted.is_second_pass() {
                check(rule.kind, value, tenant).map_err(rejected)?;
                continue;
            }
            let scoped = key(rule, value, tenant).map_err(rejected)?.into_bytes();
            let name = rule.name.as_str().as_bytes().to_vec();
            edits.push(if position == 0 {
                Edit::Set(name, scoped)
            } else {
                Edit::Add(name, scoped)
            });
        }
    }
    let rejected = |reason| Denial::KeyRejected {
        header: ":path".to_owned(),
        reason,
    };
    if admitted.is_second_pass() {
        keys.target.check(tenant).map_err(rejected)?;
    } else if let Some(target) = keys.target.scoped(tenant).map_err(rejected)? {
        edits.push(Edit::Set(b":path".to_vec(), target));
    }
    emit(&scope.emit, admitted, &mut edits);
    Ok(edits)
}

/// The edits that copy claims into headers. A claim that is no short visible text is left out, and the
/// header with it.
pub fn claim_edits<'c>(scope: &Scope, claim: impl Fn(&str) -> Option<&'c str>) -> Vec<Edit> {
    let is_plain = |text: &&str| {
        (1..=MAX_CLAIM_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
            && text.trim_ascii() == *text
    };
    let edit = |(name, header): &(String, HeaderName)| {
        let text = claim(name).filter(is_plain)?;
        Some(Edit::Set(header.as_str().as_bytes().to_vec(), text.as_bytes().to_vec()))
    };
    scope.claims.iter().filter_map(edit).collect()
}

/// Scopes one value by one rule, or says why it cannot be.
fn key(rule: &ScopeRule, value: &[u8], tenant: &str) -> Result<String, &'static str> {
    let value = ascii(value)?;
    match rule.kind {
        Kind::Routing => routing::key(value, tenant),
        Kind::Binding => routing::binding_key(value, tenant),
        Kind::Redis => redis::key(value, tenant, rule.pattern),
        Kind::Idempotency => redis::idempotency_key(value, tenant),
        Kind::Storage | Kind::StoragePath => storage::key(value, tenant),
    }
}

/// Whom a value belongs to.
fn standing<'v>(kind: Kind, value: &'v [u8], tenant: &str) -> Standing<'v> {
    let Ok(value) = ascii(value) else {
        // Nothing that was scoped here holds such a byte.
        return Standing::Foreign;
    };
    match kind {
        Kind::Routing | Kind::Binding => routing::standing(value, tenant),
        Kind::Redis | Kind::Idempotency => redis::standing(value, tenant),
        Kind::Storage | Kind::StoragePath => storage::standing(value, tenant),
    }
}

/// Whom a value of a response belongs to, which some hop may have made of several: one element of
/// another's in it is enough.
fn standing_of_list<'v>(kind: Kind, value: &'v [u8], tenant: &str) -> Standing<'v> {
    match std::str::from_utf8(value) {
        Ok(list) if list_standing(list, |element| standing(kind, element.as_bytes(), tenant)) == Standing::Foreign => {
            Standing::Foreign
        }
        _ => standing(kind, value, tenant),
    }
}

/// `Foreign` if one element of a list is.
fn list_standing<'v>(list: &'v str, of: impl Fn(&'v str) -> Standing<'v>) -> Standing<'v> {
    let mut elements = list.split(',').map(|element| of(element.trim_ascii()));
    if elements.any(|standing| standing == Standing::Foreign) {
        Standing::Foreign
    } else {
        Standing::Unscoped
    }
}

/// A value that an earlier pass has scoped, or says why it cannot have.
fn check(kind: Kind, value: &[u8], tenant: &str) -> Result<(), &'static str> {
    match standing(kind, value, tenant) {
        Standing::Own(_) => Ok(()),
        Standing::Foreign | Standing::Unscoped => Err("is outside the tenant's scope"),
    }
}

fn ascii(value: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or("holds a byte that is not ASCII")
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
    if admitted.is_unverified() {
        edits.push(Edit::Set(RESOLUTION.to_vec(), b"unverified".to_vec()));
    }
}
