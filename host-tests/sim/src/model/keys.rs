//! What becomes of the keys that travel in headers and paths.

use crate::config::{DEFAULT_MODULE, EVENTS_PATH, PUBLIC, ROUTED_MODULE, ROUTED_PREFIX, SCOPED_PREFIX};
use crate::script::Request;
use oracle::target;

/// The headers that scope rules name.
pub const KEY_HEADERS: [&str; 5] = [
    "x-routing-key",
    "x-binding-key",
    "x-redis-key",
    "x-storage-key",
    "x-idempotency",
];

/// What a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It leads to this module.
    Module(&'static str),
    /// It passes without a tenant.
    Public,
    /// It is not let through.
    Hazardous,
    /// The filter's own.
    Events,
}

/// What a target is.
pub fn place(method: &str, path: &str) -> Place {
    let before_query = path.split('?').next().unwrap_or_default();
    if before_query == EVENTS_PATH {
        Place::Events
    } else if target::is_hazardous(path.as_bytes()) {
        Place::Hazardous
    } else if target::is_public(&PUBLIC, method, path.as_bytes()) {
        Place::Public
    } else if before_query == ROUTED_PREFIX || before_query.starts_with("/v1/transactions/") {
        Place::Module(ROUTED_MODULE)
    } else {
        Place::Module(DEFAULT_MODULE)
    }
}

/// The field line of a key header in a tenant's scope; `None` where it cannot be.
pub fn scoped(name: &str, value: &str, tenant: &str) -> Option<String> {
    let words: Vec<_> = value.split('.').collect();
    let has_control = value.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte >= 0x80);
    let result = match name {
        "x-routing-key" | "x-binding-key" => {
            let may_be_word = |word: &&str| {
                let is_wild = word.contains(['*', '#']);
                let may_be_wild = name == "x-binding-key" && (*word == "*" || *word == "#");
                !word.is_empty() && !word.contains(' ') && (!is_wild || may_be_wild)
            };
            if !words.iter().all(may_be_word) {
                return None;
            }
            format!("{value}.{tenant}")
        }
        "x-redis-key" if value.contains(['*', '?', '[', ']', '\\']) => return None,
        "x-redis-key" | "x-idempotency" => {
            if value.is_empty() {
                return None;
            }
            format!("tenant:{tenant}:{value}")
        }
        "x-storage-key" => {
            let inner = value.trim_start_matches('/');
            let is_hazard = inner
                .split('/')
                .any(|part| part.bytes().all(|byte| byte == b'.') && !part.is_empty())
                || inner.contains(['%', '\\', '#', ';']);
            if inner.is_empty() || is_hazard {
                return None;
            }
            format!("{tenant}/{inner}")
        }
        other => panic!("{other} is no key header"),
    };
    let most = match name {
        "x-redis-key" | "x-storage-key" => 1_024,
        _ => 255,
    };
    (!has_control && result.len() <= most).then_some(result)
}

/// The target that the upstream gets.
pub(crate) fn scoped_path(path: &str, tenant: &str) -> String {
    let (before, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    match before.strip_prefix(SCOPED_PREFIX) {
        Some("") => format!("{SCOPED_PREFIX}/{tenant}{query}"),
        Some(rest) if rest.starts_with('/') => format!("{SCOPED_PREFIX}/{tenant}{rest}{query}"),
        _ => path.to_owned(),
    }
}

/// Whether a request has a key that cannot be scoped, or lacks one that must be there.
pub(crate) fn is_rejected(request: &Request, tenant: &str, requires: bool) -> bool {
    let keys = |header: &&(String, String)| KEY_HEADERS.contains(&header.0.as_str());
    let is_bad = request
        .headers
        .iter()
        .filter(keys)
        .any(|(name, value)| scoped(name, value, tenant).is_none());
    let before_query = request.path.split('?').next().unwrap_or_default();
    let rest = before_query.strip_prefix(SCOPED_PREFIX);
    let is_bare = rest.is_some_and(|rest| rest.bytes().all(|byte| byte == b'/'));
    let lacks = requires && !request.headers.iter().any(|(name, _)| name == "x-idempotency");
    is_bad || is_bare || lacks
}

/// Whether a field line is what becomes of some key in a tenant's scope.
pub(super) fn is_in_scope(name: &str, value: &str, tenant: &str) -> bool {
    let inner = match name {
        "x-routing-key" | "x-binding-key" => value.strip_suffix(&format!(".{tenant}")),
        "x-storage-key" => value.strip_prefix(&format!("{tenant}/")),
        _ => value.strip_prefix(&format!("tenant:{tenant}:")),
    };
    inner.is_some_and(|inner| scoped(name, inner, tenant).as_deref() == Some(value))
}

/// Whether a target is one of a tenant's, or has no scope.
pub(super) fn is_target_in_scope(path: &str, tenant: &str) -> bool {
    let before_query = path.split('?').next().unwrap_or_default();
    match before_query.strip_prefix(SCOPED_PREFIX) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest
            .strip_prefix(&format!("/{tenant}/"))
            .is_some_and(|inner| !inner.trim_start_matches('/').is_empty()),
        _ => true,
    }
}
