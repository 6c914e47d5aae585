//! `tenant_manager`: whom to ask, how often at most, and what to remember.

use std::num::NonZeroUsize;

use super::{Secret, ServiceName, raw};

/// Default of `tenant_manager.path`.
pub(super) const SETTINGS_PATH: &str = "/tenants/{tenantId}/services/{service}/settings";

/// Default of `tenant_manager.discovery.path`.
pub(super) const DISCOVERY_PATH: &str = "/tenants/active";

/// `tenant_manager`.
#[derive(Debug)]
pub struct TenantManager {
    /// The Envoy cluster that is called.
    pub cluster: String,
    /// The `:authority` of the call.
    pub authority: String,
    /// The path with `{tenantId}` and `{service}` in it. Default
    /// `/tenants/{tenantId}/services/{service}/settings`.
    pub path: PathTemplate,
    /// One or two values for `X-API-Key`.
    pub api_keys: Vec<Secret>,
    /// How long one lookup may take, in milliseconds. Default 2000, 1 to 60000.
    pub timeout_ms: u32,
    /// Largest answer that is read, in bytes. Default 1 MiB, at most 16 MiB.
    pub max_body_bytes: usize,
    /// How many requests of one worker may wait for lookups. Default 1024, at most 65536.
    pub max_waiters: usize,
    /// What becomes of requests whose tenant cannot be looked up.
    pub on_unavailable: OnUnavailable,
    /// What is remembered.
    pub cache: Cache,
    /// When it is left alone.
    pub breaker: Breaker,
    /// Whether it is asked for the list of active tenants; `None`: it is not.
    pub discovery: Option<Discovery>,
}

raw::word! {
    /// `tenant_manager.on_unavailable`.
    pub enum OnUnavailable {
        /// They are denied: the default.
        Deny = "deny",
        /// They go on with the verified claim alone, unless the tenant is known to be refused.
        Allow = "allow",
    }
}

/// `tenant_manager.cache`.
#[derive(Debug, Clone, Copy)]
pub struct Cache {
    /// How long a record is fresh, in milliseconds. Default 120 s, at most one day.
    pub ttl_ms: u64,
    /// How long beyond that it is served while it is asked for anew, in milliseconds. Default
    /// 30 s, at most one hour.
    pub stale_while_revalidate_ms: u64,
    /// How long beyond that it is served while the Tenant Manager is unavailable, in
    /// milliseconds. Default 300 s, at most one day.
    pub stale_if_error_ms: u64,
    /// How long a refusal is remembered, in milliseconds. Default 10 s, at most one hour.
    pub negative_ttl_ms: u64,
    /// Largest number of tenants remembered per worker. Default 10000, 1 to 1000000.
    pub max_entries: NonZeroUsize,
    /// Most bytes that they take per worker. Default 8 MiB, 1 KiB to 256 MiB.
    pub max_bytes: usize,
    /// Slots of the table that the workers of a node share, a multiple of 8. Default 16384, 8 to
    /// 1048576.
    pub shared_slots: u32,
}

/// `tenant_manager.breaker`, per node.
#[derive(Debug, Clone, Copy)]
pub struct Breaker {
    /// Consecutive failures that open it. Default 5, 1 to 1000.
    pub threshold: u32,
    /// How long it stays open, in milliseconds. Default 30 s, 1 s to one hour.
    pub open_ms: u64,
}

/// `tenant_manager.discovery`.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// The path without a query: `?service={service}` is appended. Default `/tenants/active`.
    pub path: String,
    /// From one question to the next, in milliseconds. Default 60 s, 1 s to one day.
    pub interval_ms: u64,
}

/// A path with places for the tenant and the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate(String);

impl PathTemplate {
    const TENANT: &'static str = "{tenantId}";
    const SERVICE: &'static str = "{service}";

    /// Starts with `/`, names the tenant exactly once, holds visible ASCII only and no other
    /// braces. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.replace(Self::TENANT, "").replace(Self::SERVICE, "");
        let valid = text.starts_with('/')
            && text.matches(Self::TENANT).count() == 1
            && plain.bytes().all(|b| b.is_ascii_graphic() && !b"{}#\\".contains(&b));
        valid.then(|| Self(text.to_owned()))
    }

    /// The template as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path for one tenant. Neither name needs escaping: their grammars are unreserved.
    pub fn expand(&self, tenant: &str, service: &ServiceName) -> String {
        self.0
            .replace(Self::TENANT, tenant)
            .replace(Self::SERVICE, service.as_str())
    }
}
